//! Sizes as people write them.

use std::str::FromStr;

/// A number of bytes, written `4096`, `10M` or `1.5GiB`. Units are powers of 1024.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ByteSize(pub u64);

/// Why a size is not understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ByteSizeError {
    /// No number, or none of the units.
    #[error("bad size {0:?}: write bytes, or a number with K, M, G or T (powers of 1024)")]
    Malformed(String),
    /// `MB` and the like: read one way by some and the other way by others.
    #[error("ambiguous unit in {0:?}: write M or MiB for 1048576 bytes, or the plain bytes")]
    Ambiguous(String),
    /// More than 2⁶⁴ − 1 bytes.
    #[error("size {0:?} is too large")]
    TooLarge(String),
}

impl FromStr for ByteSize {
    type Err = ByteSizeError;

    /// Units in either case: none or `b` for bytes, `k`, `m`, `g`, `t`, each also with `ib`. A part
    /// of a byte is dropped.
    fn from_str(text: &str) -> Result<Self, ByteSizeError> {
        let malformed = || ByteSizeError::Malformed(text.into());
        let too_large = || ByteSizeError::TooLarge(text.into());
        let is_number = |character: char| character.is_ascii_digit() || character == '.';
        let split = text.find(|character| !is_number(character)).unwrap_or(text.len());
        let (number, unit) = text.split_at(split);
        let shift = match &*unit.to_ascii_lowercase() {
            "" | "b" => 0,
            "k" | "kib" => 10,
            "m" | "mib" => 20,
            "g" | "gib" => 30,
            "t" | "tib" => 40,
            "kb" | "mb" | "gb" | "tb" => return Err(ByteSizeError::Ambiguous(text.into())),
            _ => return Err(malformed()),
        };
        let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
        let is_digits = |digits: &str| digits.bytes().all(|byte| byte.is_ascii_digit());
        if whole.is_empty() || fraction.is_empty() || !is_digits(whole) || !is_digits(fraction) {
            return Err(malformed());
        }
        // Twelve decimals of a TiB are a byte.
        let fraction = &fraction[..fraction.len().min(FRACTION_DIGITS_MAX)];
        let scale = 10_u128.pow(u32::try_from(fraction.len()).map_err(|_| malformed())?);
        let whole: u64 = whole.parse().map_err(|_| too_large())?;
        let fraction: u128 = fraction.parse().map_err(|_| malformed())?;
        let bytes = (u128::from(whole) << shift) + (fraction << shift) / scale;
        u64::try_from(bytes).map(Self).map_err(|_| too_large())
    }
}

const FRACTION_DIGITS_MAX: usize = 12;
