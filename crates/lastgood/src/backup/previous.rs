//! What a file was in the baseline, so that its new chunks can be stored as changes of that.

use lastgood_repo::format::entry::{Content, Node};
use lastgood_repo::format::id::BlobId;
use lastgood_repo::format::pack::BlobKind;
use lastgood_repo::format::recipe::{Part, RecipeCodec};

use super::baseline::BaselineEntry;
use super::content::WINDOW_BYTES;
use super::engine::Worker;

impl Worker<'_> {
    /// The chunks of the previous version of a file that is small, in order. What cannot be read of
    /// it is of no use, and no trouble of this run: what it takes over from there it reads itself.
    pub(super) fn previous_chunks(&self, base: Option<&BaselineEntry>) -> Vec<BlobId> {
        let is_of_use = |base: &&BaselineEntry| match base.entry.node {
            Node::File { size, .. } => size <= 2 * WINDOW_BYTES as u64,
            _ => false,
        };
        let Some(base) = base.filter(is_of_use).filter(|_| self.engine.takes_deltas) else {
            return Vec::new();
        };
        match base.entry.node {
            Node::File { content: Content::Chunk(id), .. } => vec![id],
            Node::File { content: Content::Recipe(root), .. } => self.chunks_of(root),
            _ => Vec::new(),
        }
    }

    fn chunks_of(&self, recipe: BlobId) -> Vec<BlobId> {
        let mut chunks = Vec::new();
        let walked =
            self.engine.baseline.walk::<RecipeCodec>(BlobKind::Recipe, recipe, &mut |part| {
                if let Part::Chunk { id, .. } | Part::Repeat { id, .. } = part {
                    chunks.push(id);
                }
                Ok(())
            });
        if walked.is_err() {
            chunks.clear();
        }
        chunks
    }
}
