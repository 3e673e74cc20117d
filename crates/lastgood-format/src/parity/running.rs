//! Sums of the checks of all stripes, taken shard by shard as they come.

use super::{AddBatch, BATCH, Order, Stripes, power, solve, wide};
use crate::memory::Memory;

/// The checks of every stripe, summed up over the shards from the first on, while they are in a
/// cache and without all of them in memory. Takes as much memory as all parity.
///
/// With all shards of a pack the sums tell whether its parity is right; with all but parity they
/// give it.
#[derive(Debug)]
pub struct RunningSums {
    stripes: usize,
    parity: usize,
    length: usize,
    /// For each check the sums of all stripes so far, in ascending order.
    sums: Box<dyn Memory>,
    shards: usize,
}

impl RunningSums {
    /// Begins with the first shard, of stripes that have `parity` shards of `length` bytes each.
    /// Sums are kept in `memory`, if that is long enough.
    ///
    /// # Panics
    /// When there are no stripes.
    #[must_use]
    pub fn new(stripes: usize, parity: usize, length: usize, memory: Box<dyn Memory>) -> Self {
        assert!(stripes > 0, "shards are in stripes");
        let mut sums = memory;
        match (*sums).as_mut().get_mut(..Self::bytes(stripes, parity, length)) {
            Some(sums) => sums.fill(0),
            None => sums = Box::new(vec![0; Self::bytes(stripes, parity, length)]),
        }
        Self { stripes, parity, length, sums, shards: 0 }
    }

    /// How long the sums are.
    #[must_use]
    pub const fn bytes(stripes: usize, parity: usize, length: usize) -> usize {
        stripes.saturating_mul(parity).saturating_mul(length)
    }

    /// How many stripes there are, and how many parity shards in each.
    #[must_use]
    pub const fn geometry(&self) -> (usize, usize) {
        (self.stripes, self.parity)
    }

    /// Takes the shards that follow those taken before.
    pub fn add(&mut self, shards: &[u8]) {
        let count = shards.len().checked_div(self.length).unwrap_or_default();
        if self.parity == 0 || count == 0 {
            return;
        }
        let stripes = self.stripes;
        let next = self.shards.checked_rem(stripes).unwrap_or_default();
        // As neighbouring stripes have neighbouring shards, those that get equally many are summed
        // up as one, in as few runs through memory as that gives.
        let longer = count.checked_rem(stripes).unwrap_or_default();
        let wrap = stripes.saturating_sub(next);
        let mut from = 0;
        for to in [longer.min(wrap), longer.max(wrap), stripes] {
            let run = to.saturating_sub(from);
            let own: Vec<&[u8]> =
                (from..count).step_by(stripes).map(|first| self.run(shards, first, run)).collect();
            let first = next.saturating_add(from).checked_rem(stripes).unwrap_or_default();
            let mut sums = self.sums(first, run);
            for batch in own.chunks(BATCH).filter(|_| run > 0) {
                wide::run(AddBatch { sums: &mut sums, batch, order: Order::Ascending });
            }
            from = to;
        }
        self.shards = self.shards.saturating_add(count);
    }

    /// So many shards from `first` on.
    fn run<'a>(&self, shards: &'a [u8], first: usize, count: usize) -> &'a [u8] {
        let start = first.saturating_mul(self.length);
        let end = start.saturating_add(count.saturating_mul(self.length));
        shards.get(start..end).unwrap_or_default()
    }

    /// For each check the sums of so many stripes from `first` on.
    fn sums(&mut self, first: usize, count: usize) -> Vec<&mut [u8]> {
        let start = first.saturating_mul(self.length);
        let end = start.saturating_add(count.saturating_mul(self.length));
        let checks =
            (*self.sums).as_mut().chunks_exact_mut(self.stripes.saturating_mul(self.length));
        checks.take(self.parity).filter_map(|sums| sums.get_mut(start..end)).collect()
    }

    /// Whether every check of every stripe is zero, now that all shards were taken.
    #[must_use]
    pub fn is_consistent(&self) -> bool {
        let bytes = Self::bytes(self.stripes, self.parity, self.length);
        let sums = (*self.sums).as_ref().get(..bytes).unwrap_or_default();
        sums.iter().fold(0, |all, byte| all | byte) == 0
    }

    /// Computes the parity shards that lie behind those taken so far, and before the shards in
    /// `rest`, into `parity`.
    pub fn parity(mut self, rest: &[u8], parity: &mut [u8]) {
        let first_parity = self.shards;
        let stripes = Stripes { count: self.stripes, parity: self.parity, first_parity };
        // As what is missing, they are zeros.
        parity.fill(0);
        self.add(parity);
        self.add(rest);
        let shards = self.shards;
        let mut out: Vec<&mut [u8]> = parity.chunks_exact_mut(self.length.max(1)).collect();
        for stripe in 0..self.stripes {
            let places = (stripe..shards).step_by(self.stripes);
            let last = places.len().saturating_sub(1);
            let missing: Vec<(usize, usize)> = places
                .enumerate()
                .filter(|(_, shard)| stripes.parity_shards().contains(shard))
                .map(|(place, shard)| (place, shard.saturating_sub(first_parity)))
                .collect();
            let scale = |check: usize| power(check.saturating_mul(last));
            solve(&self.sums(stripe, 1), scale, &missing, &mut out);
        }
    }
}
