//! A local directory.
