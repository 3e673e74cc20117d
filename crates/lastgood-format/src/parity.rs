//! Parity over shards of one length: what is missing is computed from what is left, without keys.
//!
//! The code is Reed–Solomon over GF(2⁸), in the form of its checks: in every stripe, for each
//! `j` below the count of parity shards, the sum of `α^(j·k) · shard k` is zero. To encode is to
//! mend a stripe that misses its parity, so there is one function for both.
//! Spec: `docs/format/parity.md`, sections 1 to 3.

mod running;
mod wide;

pub use running::RunningSums;

/// How much parity a writer adds: so many parity shards to so many data shards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ParityShare {
    data: u8,
    parity: u8,
}

impl ParityShare {
    /// No parity.
    pub const NONE: Self = Self { data: 0, parity: 0 };

    /// `parity` shards to `data` shards; `None` when that is more parity than data, or a stripe
    /// would be too long.
    #[must_use]
    pub const fn new(data: u8, parity: u8) -> Option<Self> {
        let layout = ParityLayout { data_shards: data as u16, parity_shards: parity as u16 };
        if parity <= data && layout.is_possible() { Some(Self { data, parity }) } else { None }
    }

    /// How many data shards have how many parity shards, as [`new`](Self::new) takes them.
    #[must_use]
    pub const fn shards(self) -> (u8, u8) {
        (self.data, self.parity)
    }

    /// The layout for so many frames of `frame_bytes`.
    ///
    /// A short pack gets more parity than its share: what a disk loses at once is a sector, or a
    /// hole of [`HOLE_BYTES`], however short the pack is. It is enough for any one sector, and up
    /// to an eighth of the pack for that hole.
    #[must_use]
    pub fn layout(self, frames: usize, frame_bytes: usize) -> ParityLayout {
        if self.parity == 0 || frames == 0 || frame_bytes == 0 {
            return ParityLayout::NONE;
        }
        let (data, parity) = (usize::from(self.data), usize::from(self.parity));
        let stripes = frames.div_ceil(data);
        let share = frames.saturating_mul(parity).div_ceil(data);
        let touched_by = |bytes: usize| bytes.div_ceil(frame_bytes).saturating_add(1);
        let hole = frames.div_ceil(8).min(touched_by(HOLE_BYTES));
        let wanted = share.max(hole).max(touched_by(SECTOR_BYTES)).div_ceil(stripes);
        let most = STRIPE_SHARDS_MAX.saturating_sub(data);
        let parity_shards = u16::try_from(wanted.min(most)).unwrap_or_default();
        ParityLayout { data_shards: self.data.into(), parity_shards }
    }

    /// The layout for so many frames of `frame_bytes` in stripes that were chosen before the frames
    /// were known; `None` where that is another share than this, by more than an eighth.
    #[must_use]
    pub fn layout_in(
        self,
        (stripes, parity): (usize, usize),
        frames: usize,
        frame_bytes: usize,
    ) -> Option<ParityLayout> {
        let data = frames.div_ceil(stripes.max(1));
        let exact = self.layout(frames, frame_bytes);
        let layout = ParityLayout { data_shards: data.try_into().ok()?, ..exact };
        let eighth = self.data / 8;
        let near = usize::from(self.data.saturating_sub(eighth))
            ..=usize::from(self.data.saturating_add(eighth));
        let fits = layout.is_possible()
            && near.contains(&data)
            && layout.stripes(frames, 0).count == stripes
            && usize::from(layout.parity_shards) == parity;
        fits.then_some(layout)
    }

    /// Bytes of data and parity for so many bytes of data.
    #[must_use]
    pub const fn with_parity(self, bytes: u64) -> u64 {
        match bytes.saturating_mul(self.parity as u64).checked_div(self.data as u64) {
            Some(parity) => bytes.saturating_add(parity),
            None => bytes,
        }
    }
}

impl std::str::FromStr for ParityShare {
    type Err = &'static str;

    /// Reads `none`, or data and parity shards as in `64+2`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "none" {
            return Ok(Self::NONE);
        }
        let counts = text.split_once('+');
        let counts = counts.and_then(|(d, p)| Some((d.parse().ok()?, p.parse().ok()?)));
        let share = counts.filter(|(_, parity)| *parity > 0);
        share
            .and_then(|(data, parity)| Self::new(data, parity))
            .ok_or("write none, or data and parity shards as in 64+2: at most as much parity as data, and 255 in all")
    }
}

impl Default for ParityShare {
    /// 2 to 64: three per cent.
    fn default() -> Self {
        Self { data: 64, parity: 2 }
    }
}

/// What any pack can lose wherever it lies.
pub const SECTOR_BYTES: usize = 4 << 10;
/// What a pack of some 600 KiB or more can lose wherever it lies.
pub const HOLE_BYTES: usize = 64 << 10;

/// How many shards a stripe has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ParityLayout {
    /// Data shards of a full stripe; 0 where there is no parity.
    pub data_shards: u16,
    /// Parity shards of each stripe.
    pub parity_shards: u16,
}

impl ParityLayout {
    /// No parity.
    pub const NONE: Self = Self { data_shards: 0, parity_shards: 0 };

    /// Whether there are stripes of this kind.
    #[must_use]
    pub const fn is_possible(self) -> bool {
        let shards = (self.data_shards as usize).saturating_add(self.parity_shards as usize);
        (self.data_shards == 0) == (self.parity_shards == 0) && shards <= STRIPE_SHARDS_MAX
    }

    /// Parity shards for so many frames.
    #[must_use]
    pub const fn shard_count(self, frames: usize) -> usize {
        let stripes = self.stripes(frames, 0);
        stripes.count.saturating_mul(stripes.parity)
    }

    /// The stripes of so many frames, with their parity after the first `frames_before`.
    #[must_use]
    pub const fn stripes(self, frames: usize, frames_before: usize) -> Stripes {
        let (count, parity) = match (self.data_shards, frames) {
            (0, _) | (_, 0) => (1, 0),
            (data, _) => (frames.div_ceil(data as usize), self.parity_shards as usize),
        };
        Stripes { count, parity, first_parity: frames_before }
    }
}

/// How shards lie in stripes: shard `i` belongs to stripe `i mod count`, in place `i div count`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stripes {
    /// How many stripes; not zero.
    pub count: usize,
    /// Parity shards of each.
    pub parity: usize,
    /// The first of all parity shards, which lie one after the other.
    pub first_parity: usize,
}

impl Stripes {
    /// The parity shards among all shards.
    #[must_use]
    pub const fn parity_shards(self) -> std::ops::Range<usize> {
        let count = self.count.saturating_mul(self.parity);
        self.first_parity..self.first_parity.saturating_add(count)
    }

    /// Computes the parity shards from the others.
    ///
    /// # Panics
    /// As [`mend`](Self::mend).
    pub fn protect(self, shards: &mut [&mut [u8]]) {
        let parity = self.parity_shards();
        let is_missing: Vec<bool> = (0..shards.len()).map(|i| parity.contains(&i)).collect();
        let lost = self.mend(shards, &is_missing);
        assert!(lost.is_empty(), "stripes have as much parity as they say");
    }

    /// Computes the shards that are missing from the others, and returns those of stripes that
    /// miss more than they have parity. What a missing shard holds before does not matter; lost
    /// ones are left alone.
    ///
    /// # Panics
    /// When shards are not of one length, a multiple of 32, or a stripe has more than 255.
    pub fn mend(self, shards: &mut [&mut [u8]], is_missing: &[bool]) -> Vec<usize> {
        assert_eq!(shards.len(), is_missing.len(), "each shard is there or missing");
        assert!(shards.len().div_ceil(self.count) <= STRIPE_SHARDS_MAX, "a stripe is too long");
        let length = shards.first().map_or(0, |shard| shard.len());
        assert!(
            length.is_multiple_of(COLUMN) && shards.iter().all(|shard| shard.len() == length),
            "shards have one length"
        );
        let mut checks = Checks::new(length);
        let mut lost = Vec::new();
        for stripe in 0..self.count {
            let places = (stripe..shards.len()).step_by(self.count);
            let missing: Vec<(usize, usize)> = places
                .enumerate()
                .filter(|&(_, shard)| is_missing.get(shard).is_some_and(|&is_missing| is_missing))
                .collect();
            if missing.len() > self.parity {
                lost.extend(missing.iter().map(|&(_, shard)| shard));
            } else if !missing.is_empty() {
                checks.sum(self, stripe, shards, is_missing, missing.len());
                let sums: Vec<&[u8]> = checks.sums.chunks_exact(length).collect();
                solve(&sums, |_| 1, &missing, shards);
            }
        }
        lost
    }
}

/// Longest stripe: `α` has 255 powers, one for each place.
pub const STRIPE_SHARDS_MAX: usize = 255;

/// The sums of one stripe's checks over the shards that are there.
struct Checks {
    sums: Vec<u8>,
    zeros: Vec<u8>,
}

impl Checks {
    fn new(length: usize) -> Self {
        Self { sums: Vec::new(), zeros: vec![0; length] }
    }

    /// Sums up the first `count` checks by Horner's rule, the last place of the stripe first.
    fn sum(
        &mut self,
        stripes: Stripes,
        stripe: usize,
        shards: &[&mut [u8]],
        is_missing: &[bool],
        count: usize,
    ) {
        let length = self.zeros.len().max(1);
        self.sums.clear();
        self.sums.resize(length.saturating_mul(count), 0);
        let there = shards.iter().zip(is_missing).skip(stripe).step_by(stripes.count);
        let there: Vec<&[u8]> = there
            .map(|(shard, &is_missing)| if is_missing { &self.zeros[..] } else { &shard[..] })
            .rev()
            .collect();
        for batch in there.chunks(BATCH) {
            let sums = &mut self.sums.chunks_exact_mut(length).collect::<Vec<_>>();
            wide::run(AddBatch { sums, batch, order: Order::Descending });
        }
    }
}

/// Fills in the missing shards, given as place and number: those that make every check zero, of
/// which `sums` are over the shards that are there, each still to be multiplied by its `scale`.
/// That of the first check is 1.
fn solve<S: AsRef<[u8]>>(
    sums: &[S],
    scale: impl Fn(usize) -> u8,
    missing: &[(usize, usize)],
    shards: &mut [&mut [u8]],
) {
    let points: Vec<u8> = missing.iter().map(|&(place, _)| power(place)).collect();
    let (Some(&(_, first)), Some(sum)) = (missing.first(), sums.first()) else { return };
    // The first check has no factors: what it lacks after all others is the first shard.
    let mut rest = sum.as_ref().to_vec();
    for (&(_, shard), &point) in missing.iter().zip(&points).skip(1) {
        let Some(shard) = shards.get_mut(shard) else { continue };
        shard.fill(0);
        for (check, (sum, factor)) in sums.iter().zip(lagrange(&points, point)).enumerate() {
            add_multiple(shard, sum.as_ref(), multiply(factor, scale(check)));
        }
        add_multiple(&mut rest, shard, 1);
    }
    if let Some(shard) = shards.get_mut(first) {
        shard.copy_from_slice(&rest);
    }
}

/// In which order shards are summed up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    /// From the last place down: a sum ends as it is defined.
    Descending,
    /// From the first place up: the sum of check `j` ends divided by `α^(j·k)`, `k` the last place.
    Ascending,
}

/// Takes the sums of all checks through the next places, by Horner's rule.
struct AddBatch<'a, 'b> {
    sums: &'a mut [&'b mut [u8]],
    batch: &'a [&'a [u8]],
    order: Order,
}

impl wide::Kernel for AddBatch<'_, '_> {
    #[inline(always)]
    fn length(&self) -> usize {
        self.batch.first().map_or(0, |shard| shard.len())
    }

    #[inline(always)]
    fn run<const WIDTH: usize>(self) {
        let batch: Vec<_> = self.batch.iter().map(|shard| shard.as_chunks::<WIDTH>().0).collect();
        let step = |sum: &mut [u8; WIDTH]| match self.order {
            Order::Descending => double(sum),
            Order::Ascending => halve(sum),
        };
        let mut sums: Vec<_> =
            self.sums.iter_mut().map(|sum| sum.as_chunks_mut::<WIDTH>().0).collect();
        let mut done = 0;
        // The first two at once: most packs have no more, and are then read once.
        if let [first, second, ..] = sums.as_mut_slice() {
            for (column, sums) in first.iter_mut().zip(second.iter_mut()).enumerate() {
                // In variables of their own the sums stay in registers.
                let (mut first, mut second) = (*sums.0, *sums.1);
                for shard in batch.iter().filter_map(|shard| shard.get(column)) {
                    add(&mut first, shard);
                    step(&mut second);
                    add(&mut second, shard);
                }
                (*sums.0, *sums.1) = (first, second);
            }
            done = 2;
        }
        for (power, sums) in sums.iter_mut().enumerate().skip(done) {
            for (column, stored) in sums.iter_mut().enumerate() {
                let mut sum = *stored;
                for shard in batch.iter().filter_map(|shard| shard.get(column)) {
                    for _ in 0..power {
                        step(&mut sum);
                    }
                    add(&mut sum, shard);
                }
                *stored = sum;
            }
        }
    }
}

#[inline(always)]
fn add<const COLUMN: usize>(sum: &mut [u8; COLUMN], bytes: &[u8; COLUMN]) {
    for (sum, byte) in sum.iter_mut().zip(bytes) {
        *sum ^= byte;
    }
}

/// The coefficients, lowest first, of the polynomial that is 1 at `point` and 0 at the other
/// points. With them as factors, the sums of the checks add up to the shard of that point.
fn lagrange(points: &[u8], point: u8) -> Vec<u8> {
    let mut polynomial = vec![1];
    for &other in points.iter().filter(|&&other| other != point) {
        // times (x + other) / (point + other)
        let scale = inverse(point ^ other);
        let shifted = std::iter::once(0).chain(polynomial.iter().copied());
        let scaled = polynomial.iter().map(|&c| multiply(c, other)).chain([0]);
        polynomial = shifted.zip(scaled).map(|(a, b)| multiply(a ^ b, scale)).collect();
    }
    polynomial
}

/// Adds `factor · source` to `target`.
struct AddMultiple<'a> {
    target: &'a mut [u8],
    source: &'a [u8],
    factor: u8,
}

impl wide::Kernel for AddMultiple<'_> {
    #[inline(always)]
    fn length(&self) -> usize {
        self.source.len()
    }

    #[inline(always)]
    fn run<const WIDTH: usize>(self) {
        let bits = u8::BITS.saturating_sub(self.factor.leading_zeros());
        let targets = self.target.as_chunks_mut::<WIDTH>().0.iter_mut();
        for (target, source) in targets.zip(self.source.as_chunks::<WIDTH>().0) {
            let (mut sum, mut multiple) = (*target, *source);
            for bit in 0..bits {
                if self.factor & (1 << bit) != 0 {
                    add(&mut sum, &multiple);
                }
                double(&mut multiple);
            }
            *target = sum;
        }
    }
}

fn add_multiple(target: &mut [u8], source: &[u8], factor: u8) {
    wide::run(AddMultiple { target, source, factor });
}

/// The product of two elements of the field.
fn multiply(a: u8, b: u8) -> u8 {
    let bits = (0..8).rev().map(|bit| b >> bit & 1);
    bits.fold(0, |product, bit| times_alpha(product) ^ if bit == 0 { 0 } else { a })
}

/// `a⁻¹ = a²⁵⁴`.
fn inverse(a: u8) -> u8 {
    (0..7)
        .fold((1, a), |(product, square), _| {
            let square = multiply(square, square);
            (multiply(product, square), square)
        })
        .0
}

/// `α` to the power of `exponent`.
fn power(exponent: usize) -> u8 {
    (0..exponent % STRIPE_SHARDS_MAX).fold(1, |power, _| times_alpha(power))
}

/// Times `α`, which is 2, modulo `x⁸ + x⁴ + x³ + x² + 1`, without branches: a compiler makes of it
/// four instructions for as many bytes as a register holds.
const fn times_alpha(byte: u8) -> u8 {
    byte.wrapping_shl(1) ^ byte.cast_signed().wrapping_shr(7).cast_unsigned() & REDUCTION
}

#[inline(always)]
fn double<const COLUMN: usize>(bytes: &mut [u8; COLUMN]) {
    for byte in bytes {
        *byte = times_alpha(*byte);
    }
}

/// The reverse of [`double`].
#[inline(always)]
fn halve<const COLUMN: usize>(bytes: &mut [u8; COLUMN]) {
    for byte in bytes {
        *byte = byte.wrapping_shr(1) ^ (*byte & 1).wrapping_neg() & HALF;
    }
}

const REDUCTION: u8 = 0x1d;
/// `α⁻¹`.
const HALF: u8 = 0x8e;
/// Shards that are read side by side. They lie at multiples of their length, and a cache holds few
/// lines of such places.
const BATCH: usize = 8;
/// Every shard's length is a multiple of this.
const COLUMN: usize = 32;

#[cfg(test)]
mod tests;
