//! Operations on real trees, through the public API alone.

mod backup;
mod change;
mod interrupted;
mod place;
