//! The hot loops with the CPU's AES instructions, chosen at run time. The only `unsafe` here.
#![expect(unsafe_code, reason = "CPU intrinsics; each use says why it is sound")]

use super::{BLOCK_BYTES, BLOCK_POSITIONS, RoundKeys, WINDOW_BYTES, portable};

// The loops below step by this much, and their loads are in bounds only because it divides.
const _: () = assert!(BLOCK_POSITIONS.is_multiple_of(2 * WINDOW_BYTES));
const _: () = assert!(BLOCK_BYTES == BLOCK_POSITIONS + WINDOW_BYTES - 1);

/// One way to evaluate windows. A value exists only where the CPU has what it needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Path(Kind);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    #[cfg(target_arch = "x86_64")]
    Vaes,
    #[cfg(target_arch = "x86_64")]
    AesNi,
    #[cfg(target_arch = "aarch64")]
    Neon,
    Portable,
}

impl Path {
    /// The fastest path of this CPU.
    pub(super) fn best() -> Self {
        Self::available().next().unwrap_or(Self(Kind::Portable))
    }

    /// Every path of this CPU, the fastest first.
    pub(super) fn available() -> impl Iterator<Item = Self> {
        [
            #[cfg(target_arch = "x86_64")]
            (Kind::Vaes, has_aes_ni() && has_vaes()),
            #[cfg(target_arch = "x86_64")]
            (Kind::AesNi, has_aes_ni()),
            #[cfg(target_arch = "aarch64")]
            (Kind::Neon, std::arch::is_aarch64_feature_detected!("aes")),
            (Kind::Portable, true),
        ]
        .into_iter()
        .filter_map(|(kind, is_available)| is_available.then_some(Self(kind)))
    }

    /// Its name in benchmarks and test failures.
    pub(super) const fn name(self) -> &'static str {
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            Kind::Vaes => "vaes-256",
            #[cfg(target_arch = "x86_64")]
            Kind::AesNi => "aes-ni-128",
            #[cfg(target_arch = "aarch64")]
            Kind::Neon => "neon-aes",
            Kind::Portable => "portable",
        }
    }

    /// The smallest value of the windows of `block`.
    #[inline]
    pub(super) fn block_minimum(self, keys: &RoundKeys, block: &[u8; BLOCK_BYTES]) -> u32 {
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: this kind is only made where `available` found AVX2 and VAES.
            Kind::Vaes => unsafe { x86::block_minimum_vaes(keys, block) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: this kind is only made where `available` found SSE4.1 and AES.
            Kind::AesNi => unsafe { x86::block_minimum_aes_ni(keys, block) },
            #[cfg(target_arch = "aarch64")]
            // SAFETY: this kind is only made where `available` found AES.
            Kind::Neon => unsafe { arm::block_minimum(keys, block) },
            Kind::Portable => portable::block_minimum(keys, block),
        }
    }

    /// Index of the first window of `block` with this value.
    #[inline]
    pub(super) fn block_find(
        self,
        keys: &RoundKeys,
        block: &[u8; BLOCK_BYTES],
        value: u32,
    ) -> Option<usize> {
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: both kinds are only made where `available` found SSE4.1 and AES.
            Kind::Vaes | Kind::AesNi => unsafe { x86::block_find(keys, block, value) },
            #[cfg(target_arch = "aarch64")]
            // SAFETY: this kind is only made where `available` found AES.
            Kind::Neon => unsafe { arm::block_find(keys, block, value) },
            Kind::Portable => portable::block_find(keys, block, value),
        }
    }
}

#[cfg(target_arch = "x86_64")]
fn has_aes_ni() -> bool {
    is_x86_feature_detected!("aes") && is_x86_feature_detected!("sse4.1")
}

#[cfg(target_arch = "x86_64")]
fn has_vaes() -> bool {
    is_x86_feature_detected!("vaes") && is_x86_feature_detected!("avx2")
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use super::super::{BLOCK_BYTES, BLOCK_POSITIONS, RoundKeys, WINDOW_BYTES};

    /// Two windows per register: at one offset and 16 bytes on. Sixteen shifts of it are 32
    /// positions. The minimum is taken over whole registers; of each 128-bit lane only the lowest
    /// 32 bits are values, the rest is never looked at.
    #[target_feature(enable = "avx2,vaes")]
    #[expect(
        clippy::arithmetic_side_effects,
        clippy::indexing_slicing,
        reason = "constant bounds, unrolled: offsets below BLOCK_POSITIONS, indices below LEAST_COUNT"
    )]
    pub(super) fn block_minimum_vaes(keys: &RoundKeys, block: &[u8; BLOCK_BYTES]) -> u32 {
        let [k0, k1, k2] = keys.0.map(|key| _mm256_broadcastsi128_si256(load(&key)));
        let mut least = [_mm256_set1_epi32(-1); LEAST_COUNT];
        for pair in (0..BLOCK_POSITIONS).step_by(2 * WINDOW_BYTES) {
            for shift in 0..WINDOW_BYTES {
                // SAFETY: the last load starts 17 positions before BLOCK_POSITIONS, so that its 32
                // bytes end where the block does.
                let windows =
                    unsafe { _mm256_loadu_si256(block.as_ptr().add(pair + shift).cast()) };
                let state = _mm256_aesenc_epi128(_mm256_xor_si256(windows, k0), k1);
                let values = _mm256_aesenc_epi128(state, k2);
                least[shift % LEAST_COUNT] = _mm256_min_epu32(least[shift % LEAST_COUNT], values);
            }
        }
        let [a, b, c, d] = least;
        let both = _mm256_min_epu32(_mm256_min_epu32(a, b), _mm256_min_epu32(c, d));
        lowest(_mm_min_epu32(_mm256_castsi256_si128(both), _mm256_extracti128_si256(both, 1)))
    }

    #[target_feature(enable = "sse4.1,aes")]
    #[expect(
        clippy::arithmetic_side_effects,
        reason = "constant bounds: offsets below BLOCK_POSITIONS"
    )]
    pub(super) fn block_minimum_aes_ni(keys: &RoundKeys, block: &[u8; BLOCK_BYTES]) -> u32 {
        let keys = keys.0.map(|key| load(&key));
        let mut least = [_mm_set1_epi32(-1); LEAST_COUNT];
        for start in (0..BLOCK_POSITIONS).step_by(LEAST_COUNT) {
            for (i, least) in least.iter_mut().enumerate() {
                *least = _mm_min_epu32(*least, value(keys, block, start + i));
            }
        }
        let [a, b, c, d] = least;
        lowest(_mm_min_epu32(_mm_min_epu32(a, b), _mm_min_epu32(c, d)))
    }

    #[target_feature(enable = "sse4.1,aes")]
    pub(super) fn block_find(
        keys: &RoundKeys,
        block: &[u8; BLOCK_BYTES],
        wanted: u32,
    ) -> Option<usize> {
        let keys = keys.0.map(|key| load(&key));
        (0..BLOCK_POSITIONS).find(|&start| lowest(value(keys, block, start)) == wanted)
    }

    /// Two rounds over the window at `start`; the value is the lowest 32 bits.
    #[inline]
    #[target_feature(enable = "sse4.1,aes")]
    fn value(keys: [__m128i; 3], block: &[u8; BLOCK_BYTES], start: usize) -> __m128i {
        assert!(start < BLOCK_POSITIONS);
        // SAFETY: a window that starts below BLOCK_POSITIONS ends within BLOCK_BYTES.
        let window = unsafe { _mm_loadu_si128(block.as_ptr().add(start).cast()) };
        let [k0, k1, k2] = keys;
        _mm_aesenc_si128(_mm_aesenc_si128(_mm_xor_si128(window, k0), k1), k2)
    }

    #[inline]
    fn load(bytes: &[u8; WINDOW_BYTES]) -> __m128i {
        // SAFETY: the array has the 16 bytes that are read, at any alignment; SSE2 is part of x86-64.
        unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) }
    }

    #[inline]
    #[target_feature(enable = "sse2")]
    fn lowest(values: __m128i) -> u32 {
        _mm_cvtsi128_si32(values).cast_unsigned()
    }

    /// Running minima, so that one does not wait for the other.
    const LEAST_COUNT: usize = 4;
}

#[cfg(target_arch = "aarch64")]
mod arm {
    use std::arch::aarch64::*;

    use super::super::{BLOCK_BYTES, BLOCK_POSITIONS, RoundKeys, WINDOW_BYTES};

    #[target_feature(enable = "neon,aes")]
    #[expect(
        clippy::arithmetic_side_effects,
        reason = "constant bounds: offsets below BLOCK_POSITIONS"
    )]
    pub(super) fn block_minimum(keys: &RoundKeys, block: &[u8; BLOCK_BYTES]) -> u32 {
        let keys = keys.0.map(|key| load(&key));
        let mut least = [vdupq_n_u32(u32::MAX); LEAST_COUNT];
        for start in (0..BLOCK_POSITIONS).step_by(LEAST_COUNT) {
            for (i, least) in least.iter_mut().enumerate() {
                *least = vminq_u32(*least, value(keys, block, start + i));
            }
        }
        let [a, b, c, d] = least;
        vgetq_lane_u32(vminq_u32(vminq_u32(a, b), vminq_u32(c, d)), 0)
    }

    #[target_feature(enable = "neon,aes")]
    pub(super) fn block_find(
        keys: &RoundKeys,
        block: &[u8; BLOCK_BYTES],
        wanted: u32,
    ) -> Option<usize> {
        let keys = keys.0.map(|key| load(&key));
        (0..BLOCK_POSITIONS).find(|&start| vgetq_lane_u32(value(keys, block, start), 0) == wanted)
    }

    /// Two rounds over the window at `start`; the value is lane 0. AESE adds its key *before* the
    /// substitution, so each key moves one step on and the last is added by hand.
    #[inline]
    #[target_feature(enable = "neon,aes")]
    fn value(keys: [uint8x16_t; 3], block: &[u8; BLOCK_BYTES], start: usize) -> uint32x4_t {
        assert!(start < BLOCK_POSITIONS);
        // SAFETY: a window that starts below BLOCK_POSITIONS ends within BLOCK_BYTES.
        let window = unsafe { vld1q_u8(block.as_ptr().add(start)) };
        let [k0, k1, k2] = keys;
        let state = vaesmcq_u8(vaeseq_u8(window, k0));
        vreinterpretq_u32_u8(veorq_u8(vaesmcq_u8(vaeseq_u8(state, k1)), k2))
    }

    #[inline]
    #[target_feature(enable = "neon")]
    fn load(bytes: &[u8; WINDOW_BYTES]) -> uint8x16_t {
        // SAFETY: the array has the 16 bytes that are read, at any alignment.
        unsafe { vld1q_u8(bytes.as_ptr()) }
    }

    /// Running minima, so that one does not wait for the other.
    const LEAST_COUNT: usize = 4;
}
