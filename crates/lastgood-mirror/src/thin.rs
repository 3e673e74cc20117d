//! Removing versions from the history, one commit for each.

use std::collections::BTreeSet;

use crate::delta;
use crate::error::MirrorError;
use crate::journal::Operation;
use crate::layout;
use crate::mirror::{Mirror, View};
use crate::record::Path;
use crate::sheet::Sheet;
use crate::texts::{Head, records_text, versions_text};

/// What the removal of a version costs and frees.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Dropped {
    /// Files of its folder that an older version still needs.
    pub files_needed: u64,
    /// Files that nobody needs any more.
    pub files_freed: u64,
    /// Their bytes.
    pub bytes_freed: u64,
}

/// Removes a version that is not the newest. Every other version stays what it is; what an older
/// one needs of it goes into the folder before. `mirror` is locked and recovered.
///
/// # Errors
/// [`MirrorError::NoVersion`]; [`MirrorError::Newest`]. Nothing has changed before the commit.
pub fn drop_version(mirror: &Mirror, name: &str, is_dry: bool) -> Result<Dropped, MirrorError> {
    let newest = mirror.view_from(usize::MAX)?;
    let k = newest.index(name)?;
    if k + 1 == newest.versions.len() {
        return Err(MirrorError::Newest(name.to_owned()));
    }
    let removal = match k {
        0 => Removal::of_oldest(mirror, &newest)?,
        k => Removal::of_middle(mirror, &mirror.view_from(k - 1)?, k)?,
    };
    if !is_dry {
        removal.commit(mirror, name)?;
    }
    Ok(removal.dropped)
}

/// A version that goes, and what that means for the others.
struct Removal {
    dropped: Dropped,
    /// Texts as they will be.
    texts: Vec<(Path, Vec<u8>)>,
    /// Files that go into the folder before: from, to.
    moves: Vec<(Path, Path)>,
    /// Files of the folder before that are not needed any more.
    freed: Vec<Path>,
}

impl Removal {
    /// It may go even when nobody can tell what it had: its text is damaged.
    fn of_oldest(mirror: &Mirror, view: &View) -> Result<Self, MirrorError> {
        let mut dropped = Dropped::default();
        let delta = match mirror.delta(view, &view.versions[0]) {
            Ok((delta, _)) => delta,
            Err(MirrorError::Text { .. } | MirrorError::Missing(_)) => Sheet::default(),
            Err(error) => return Err(error),
        };
        for record in delta.records() {
            let (path, state) = record?;
            if let Some(bytes) = delta::own_bytes(&path, &state) {
                dropped.files_freed += 1;
                dropped.bytes_freed += bytes;
            }
        }
        let versions = versions_text(&view.versions[1..]);
        let texts = vec![(layout::VERSIONS.into(), versions)];
        Ok(Self { dropped, texts, moves: Vec::new(), freed: Vec::new() })
    }

    fn of_middle(mirror: &Mirror, view: &View, k: usize) -> Result<Self, MirrorError> {
        let (older, newer) = (&view.deltas[0].load()?, &view.deltas[1].load()?);
        let (before, gone) = (&view.versions[k - 1], &view.versions[k]);
        let history = view.history();
        let merged = delta::merge(older, newer, |path| history.state_or_lost(2, path))?;
        let (head, gone_head) = (mirror.delta(view, before)?.1, mirror.delta(view, gone)?.1);
        let replaced = [vec![before.seal], gone_head.replaces, vec![gone.seal]].concat();
        let head = Head { replaces: [head.replaces, replaced].concat(), ..head };
        let records = merged.delta.iter().map(|(path, state)| (path, state.clone()));
        let (text, seal) = records_text("delta", &before.name, before.time, &head, records);
        let mut versions = view.versions.clone();
        versions[k - 1].seal = seal;
        versions[k - 1].bytes_kept = delta::stored(&merged.delta).map(|(_, bytes)| bytes).sum();
        versions.remove(k);
        let needed: BTreeSet<Path> =
            delta::stored(&merged.delta).map(|(path, _)| path.clone()).collect();
        let freed: Vec<(&Path, u64)> =
            delta::stored(older).filter(|(path, _)| !needed.contains(*path)).collect();
        let taken: BTreeSet<&Path> = merged.moves.iter().map(|(from, _)| from).collect();
        let left = delta::stored(newer).filter(|(path, _)| !taken.contains(path));
        let mut dropped = Dropped { files_needed: merged.moves.len() as u64, ..Dropped::default() };
        for (_, bytes) in freed.iter().copied().chain(left) {
            dropped.files_freed += 1;
            dropped.bytes_freed += bytes;
        }
        let moves = merged
            .moves
            .iter()
            .map(|(from, to)| (layout::folder(&gone.name, from), layout::folder(&before.name, to)));
        let freed = freed.iter().map(|(path, _)| layout::folder(&before.name, path));
        Ok(Self {
            dropped,
            moves: moves.collect(),
            freed: freed.collect(),
            texts: vec![
                (layout::delta(&before.name), text),
                (layout::VERSIONS.into(), versions_text(&versions)),
            ],
        })
    }

    /// Second names, then the texts; only when no text speaks of it any more, the version goes.
    fn commit(&self, mirror: &Mirror, name: &str) -> Result<(), MirrorError> {
        let keep = |(from, to): &(Path, Path)| Operation::Keep {
            from: from.clone(),
            to: to.clone(),
            hash: None,
            looks: None,
        };
        let mut operations: Vec<Operation> = self.moves.iter().map(keep).collect();
        operations.push(Operation::Barrier);
        operations.extend(mirror.stage_texts(self.texts.clone())?);
        operations.push(Operation::Barrier);
        let delta = layout::delta(name);
        let gone = [layout::second(&delta), delta, name.as_bytes().into()];
        let rubbish = self.freed.iter().cloned().chain(gone);
        operations.extend(rubbish.zip(1_u64..).map(|(from, number)| Operation::Put {
            from,
            to: layout::stage(&format!("gone-{number}")),
        }));
        operations.push(Operation::Barrier);
        mirror.commit_all(layout::conflicts(name), &operations).map(drop)
    }
}
