//! Places of many things by name, without the names: in as few bytes as a hint needs.

use std::hash::{DefaultHasher, Hash, Hasher};

/// Where things are that have a name. Names that only seem to be equal are found as well: whoever
/// asks looks at what is there.
#[derive(Debug, Default)]
pub(crate) struct Index(Vec<(u64, u64)>);

impl Index {
    /// Adds a name; nothing is found before [`Index::sort`].
    pub(crate) fn add(&mut self, name: impl Hash, place: u64) {
        self.0.push((key(name), place));
    }

    /// Everything was added.
    pub(crate) fn sort(mut self) -> Self {
        self.0.sort_unstable();
        self
    }

    /// Places of what may have this name, ascending, each with its number among all.
    pub(crate) fn find(&self, name: impl Hash) -> impl DoubleEndedIterator<Item = (usize, u64)> {
        let key = key(name);
        let start = self.0.partition_point(|(known, _)| *known < key);
        let count = self.0[start..].partition_point(|(known, _)| *known == key);
        (start..start + count).map(|number| (number, self.0[number].1))
    }

    /// How many names there are.
    pub(crate) const fn len(&self) -> usize {
        self.0.len()
    }
}

fn key(name: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    name.hash(&mut hasher);
    hasher.finish()
}
