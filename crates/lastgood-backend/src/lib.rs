//! Named immutable objects, and the places that keep them.
//!
//! This crate does not know what the bytes mean.

#![forbid(unsafe_code)]

mod backend;
pub mod layer;
#[cfg(target_os = "linux")]
pub mod local;
pub mod memory;
mod pages;

pub use backend::{Backend, BackendError, ErrorKind, Listed, ObjectName, PutOutcome};
pub use pages::Pages;
