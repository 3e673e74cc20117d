//! What was used last.

use std::collections::HashMap;

/// Keeps the values used last, up to a sum of their weights, and always the newest.
#[derive(Debug)]
pub(super) struct Lru<K, V> {
    values: HashMap<K, Kept<V>>,
    weight: usize,
    clock: u64,
    bound: usize,
}

#[derive(Debug)]
struct Kept<V> {
    used: u64,
    weight: usize,
    value: V,
}

impl<K: Copy + Eq + std::hash::Hash, V> Lru<K, V> {
    pub(super) fn new(bound: usize) -> Self {
        Self { values: HashMap::new(), weight: 0, clock: 0, bound }
    }

    pub(super) fn get(&mut self, key: &K) -> Option<&V> {
        self.clock += 1;
        let kept = self.values.get_mut(key)?;
        kept.used = self.clock;
        Some(&kept.value)
    }

    pub(super) fn insert(&mut self, key: K, weight: usize, value: V) {
        self.clock += 1;
        while self.weight + weight > self.bound && !self.values.is_empty() {
            // Dropping the older half at once keeps this cheap on average.
            let mut ages: Vec<u64> = self.values.values().map(|kept| kept.used).collect();
            let middle = ages.len() / 2;
            let (_, middle, _) = ages.select_nth_unstable(middle);
            let middle = *middle;
            self.values.retain(|_, kept| kept.used > middle);
            self.weight = self.values.values().map(|kept| kept.weight).sum();
        }
        self.weight += weight;
        let kept = Kept { used: self.clock, weight, value };
        if let Some(before) = self.values.insert(key, kept) {
            self.weight -= before.weight;
        }
    }
}
