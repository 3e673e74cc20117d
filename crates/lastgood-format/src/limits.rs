//! Every bound a reader checks before it allocates or loops. Spec: `docs/format/layout.md`, section 5.

/// Longest plaintext of one blob, in bytes.
pub const BLOB_BYTES_MAX: usize = 8 << 20;
/// Longest plaintext of one group, in bytes: the largest blob fits.
pub const GROUP_BYTES_MAX: usize = BLOB_BYTES_MAX + (1 << 20);
/// Longest pack, in bytes.
pub const PACK_BYTES_MAX: u64 = 128 << 20;
/// Most blobs in one pack.
pub const PACK_BLOBS_MAX: usize = 1 << 18;
/// Longest pack header, in bytes.
pub const PACK_HEADER_BYTES_MAX: usize = 4096;
/// Longest wrapped secret, in bytes: room for a hybrid key encapsulation.
pub const WRAPPED_BYTES_MAX: usize = 2048;
/// Longest stored form of `config`, a key slot, session, outcome or other small object, in bytes.
pub const SMALL_OBJECT_BYTES_MAX: u64 = 64 << 10;
/// A revision of the config.
pub const REVISION_BYTES_MAX: u64 = 32 << 20;
/// Longest stored form of a snapshot object, in bytes.
pub const SNAPSHOT_BYTES_MAX: u64 = 16 << 20;
/// Most heads of other writers in one snapshot.
pub const SNAPSHOT_HEADS_MAX: usize = 1024;
/// Most snapshots that one record of the log names.
pub const LOG_SNAPSHOTS_MAX: usize = 1024;
/// Most counts in one record of the log.
pub const LOG_COUNTS_MAX: usize = 64;
/// Longest stored form of an index segment, in bytes.
pub const INDEX_BYTES_MAX: u64 = 64 << 20;
/// Longest stored form of a gc list (condemn, verdict, relocation), in bytes.
pub const GC_LIST_BYTES_MAX: u64 = 256 << 20;
/// Most entries in one index segment.
pub const INDEX_ENTRIES_MAX: usize = 1 << 20;
/// Most fields in one record.
pub const RECORD_FIELDS_MAX: usize = 1024;
/// Most items in one leaf page and most children of one interior page.
pub const PAGE_ITEMS_MAX: usize = 8192;
/// Weight at which a page ends though no item says so: an item may weigh half a blob.
pub const PAGE_WEIGHT_MAX: usize = 1 << 20;
/// Longest key in an interior page and longest path in a hard-link table, in bytes.
pub const PATH_BYTES_MAX: usize = 64 << 10;
/// Deepest nesting of interior pages.
pub const PAGE_LEVEL_MAX: u8 = 8;
/// Deepest nesting of directories.
pub const TREE_DEPTH_MAX: usize = 8192;
/// Key slots that a reader tries.
pub const KEY_SLOTS_MAX: usize = 8;
/// Longest value of one extended attribute, in bytes.
pub const XATTR_BYTES_MAX: usize = 64 << 10;
/// Most bytes of names and values of all extended attributes of one entry.
pub const ENTRY_XATTR_BYTES_MAX: usize = 4 << 20;
/// Longest target of a symbolic link, in bytes.
pub const SYMLINK_BYTES_MAX: usize = 4095;
