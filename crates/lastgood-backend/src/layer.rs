//! Backends around other backends.

pub mod retry;
