//! Memory that comes in as an argument, since whoever makes one pack after another uses it again.

use std::fmt;

/// Memory of a fixed length, which holds zeros or whatever its last user left.
///
/// What needs more than it is given takes other memory instead, so the length decides on speed
/// alone.
pub trait Memory: AsRef<[u8]> + AsMut<[u8]> + Send + Sync + fmt::Debug {}

impl<M: AsRef<[u8]> + AsMut<[u8]> + Send + Sync + fmt::Debug> Memory for M {}
