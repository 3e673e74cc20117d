//! Sums of the checks of all stripes, taken shard by shard as they come.

use super::{AddBatch, BATCH, Checks, Order, Stripes, add_multiple, power, wide};

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
    /// For each check of each stripe its sum so far, in ascending order.
    sums: Vec<u8>,
    shards: usize,
}

impl RunningSums {
    /// Begins with the first shard, of stripes that have `parity` shards of `length` bytes each.
    ///
    /// # Panics
    /// When there are no stripes.
    #[must_use]
    pub fn new(stripes: usize, parity: usize, length: usize) -> Self {
        assert!(stripes > 0, "shards are in stripes");
        let sums = vec![0; stripes.saturating_mul(parity).saturating_mul(length)];
        Self { stripes, parity, length, sums, shards: 0 }
    }

    /// How many stripes there are, and how many parity shards in each.
    #[must_use]
    pub const fn geometry(&self) -> (usize, usize) {
        (self.stripes, self.parity)
    }

    /// Takes the shards that follow those taken before.
    pub fn add(&mut self, shards: &[u8]) {
        if self.parity == 0 {
            return;
        }
        let shards: Vec<&[u8]> = shards.chunks_exact(self.length.max(1)).collect();
        // Those of one stripe together, so that its sums are read and written once.
        for ahead in 0..shards.len().min(self.stripes) {
            let own: Vec<&[u8]> =
                shards.iter().skip(ahead).step_by(self.stripes).copied().collect();
            let stripe = self.shards.saturating_add(ahead).checked_rem(self.stripes);
            let stripe = self.stripe(stripe.unwrap_or_default());
            for batch in own.chunks(BATCH) {
                wide::run(AddBatch { sums: &mut *stripe, batch, order: Order::Ascending });
            }
        }
        self.shards = self.shards.saturating_add(shards.len());
    }

    fn stripe(&mut self, stripe: usize) -> &mut [u8] {
        let bytes = self.parity.saturating_mul(self.length);
        let start = stripe.saturating_mul(bytes);
        self.sums.get_mut(start..start.saturating_add(bytes)).unwrap_or_default()
    }

    /// Whether every check of every stripe is zero, now that all shards were taken.
    #[must_use]
    pub fn is_consistent(&self) -> bool {
        self.sums.iter().all(|&byte| byte == 0)
    }

    /// The parity shards that lie behind those taken so far, and before the shards in `rest`.
    #[must_use]
    pub fn parity(mut self, rest: &[u8]) -> Vec<u8> {
        let count = self.stripes.saturating_mul(self.parity);
        let first_parity = self.shards;
        let stripes = Stripes { count: self.stripes, parity: self.parity, first_parity };
        let mut parity = vec![0; count.saturating_mul(self.length)];
        // As what is missing, they are zeros.
        self.add(&parity);
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
            let sums = self.stripe(stripe);
            let mut checks = Checks::new(sums.len().checked_div(missing.len()).unwrap_or_default());
            checks.sums = vec![0; sums.len()];
            let length = checks.zeros.len().max(1);
            let pairs = checks.sums.chunks_exact_mut(length).zip(sums.chunks_exact(length));
            for (check, (sum, running)) in pairs.enumerate() {
                add_multiple(sum, running, power(check.saturating_mul(last)));
            }
            checks.solve(&missing, &mut out);
        }
        parity
    }
}
