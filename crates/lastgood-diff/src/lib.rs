//! lastgood-diff
