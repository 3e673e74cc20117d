//! Directories above a path, as paths come in the order of their bytes: `a`, `a-x`, `a/b`.

use crate::record::{self, Path};

/// Directories that were met and of which more may come, each with what is known of it.
#[derive(Debug)]
pub(crate) struct Above<T>(Vec<(Path, T)>);

impl<T> Default for Above<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T> Above<T> {
    /// A directory is met.
    pub(crate) fn enter(&mut self, path: Path, known: T) {
        self.0.push((path, known));
    }

    /// The directory that a path lies in, if it was met.
    pub(crate) fn parent(&mut self, path: &[u8]) -> Option<&mut T> {
        let parent = record::parent(path)?;
        self.0.iter_mut().rev().find(|(known, _)| **known == *parent).map(|(_, known)| known)
    }

    /// A directory that a path lies below, if one was met.
    pub(crate) fn any(&self, path: &[u8]) -> Option<&(Path, T)> {
        self.0
            .iter()
            .rev()
            .find(|(known, _)| *known.as_ref() != *path && record::is_below(path, known))
    }

    /// Forgets the directories of which nothing comes from a path on; `None` is the end.
    pub(crate) fn pass(&mut self, path: Option<&[u8]>) -> Vec<(Path, T)> {
        let is_over = |known: &[u8]| match path {
            None => true,
            Some(path) => {
                let mut below = known.to_vec();
                below.push(b'/');
                !known.is_empty() && *path > *below && !path.starts_with(&below)
            }
        };
        self.0.extract_if(.., |(known, _)| is_over(known)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_left_when_nothing_of_it_can_come() {
        let mut above = Above::default();
        let names = |left: Vec<(Path, i32)>| left.into_iter().map(|it| it.1).collect::<Vec<_>>();
        above.enter(b""[..].into(), 0);
        above.enter(b"a"[..].into(), 1);
        assert_eq!(names(above.pass(Some(b"a-x"))), []);
        above.enter(b"a-x"[..].into(), 2);
        assert_eq!(names(above.pass(Some(b"a-x/y"))), []);
        assert_eq!(above.parent(b"a-x/y"), Some(&mut 2));
        assert_eq!(names(above.pass(Some(b"a/b"))), [2]);
        assert_eq!(above.any(b"a/b/c").map(|it| it.1), Some(1));
        assert_eq!(names(above.pass(Some(b"b"))), [1]);
        assert_eq!(names(above.pass(None)), [0]);
    }
}
