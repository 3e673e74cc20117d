//! Blobs that are stored as changes of others: whether these can be had.

use lastgood_format::pack::BlobEntry;
use lastgood_format::packset::PackRef;

use super::Check;
use crate::error::RepoError;
use crate::index::{BlobMarks, Mark};

impl Check<'_> {
    /// Notes which blobs are stored as changes.
    pub(super) fn mark_deltas(&self, marks: &BlobMarks) -> Result<(), RepoError> {
        self.each_delta(&mut |pack, delta| marks.note(delta.id, pack.pack, Mark::Delta))
    }

    /// Counts those as damaged of which the base lies whole in no pack that a snapshot names, or was
    /// found damaged there.
    pub(super) fn mark_lost_deltas(&self, marks: &BlobMarks) -> Result<(), RepoError> {
        self.each_delta(&mut |pack, delta| {
            if delta.base.is_some_and(|base| !marks.is_whole(base)) {
                marks.note(delta.id, pack.pack, Mark::Damaged);
            }
        })
    }

    fn each_delta(&self, visit: &mut dyn FnMut(PackRef, &BlobEntry)) -> Result<(), RepoError> {
        for &pack in &self.with_deltas {
            match self.reader.packs().open(pack) {
                Ok(opened) => {
                    let deltas = opened.directory.blobs.iter().filter(|blob| blob.base.is_some());
                    deltas.for_each(|delta| visit(pack, delta));
                }
                Err(error) if error.is_transient() => return Err(error),
                // It could be opened before: gc removed it meanwhile, or that is reported where it
                // is read.
                Err(_) => {}
            }
        }
        Ok(())
    }
}
