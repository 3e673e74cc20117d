//! lastgood-host
