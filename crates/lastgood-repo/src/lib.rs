//! lastgood-repo
