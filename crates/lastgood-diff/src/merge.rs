//! Merging two lists that are sorted by the same key.

/// One step of a merge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Merged<A, B> {
    /// Only the first list has the key.
    First(A),
    /// Only the second list has the key.
    Second(B),
    /// Both have it.
    Both(A, B),
}

/// Pairs the items of two lists sorted by key, each key at most once in either.
pub fn merge<A, B, K: Ord + ?Sized>(
    first: impl IntoIterator<Item = A>,
    second: impl IntoIterator<Item = B>,
    first_key: impl Fn(&A) -> &K,
    second_key: impl Fn(&B) -> &K,
) -> impl Iterator<Item = Merged<A, B>> {
    let mut first = first.into_iter().peekable();
    let mut second = second.into_iter().peekable();
    std::iter::from_fn(move || {
        let order = match (first.peek(), second.peek()) {
            (None, None) => return None,
            (Some(_), None) => std::cmp::Ordering::Less,
            (None, Some(_)) => std::cmp::Ordering::Greater,
            (Some(a), Some(b)) => first_key(a).cmp(second_key(b)),
        };
        match order {
            std::cmp::Ordering::Less => first.next().map(Merged::First),
            std::cmp::Ordering::Greater => second.next().map(Merged::Second),
            std::cmp::Ordering::Equal => {
                first.next().zip(second.next()).map(|(a, b)| Merged::Both(a, b))
            }
        }
    })
}
