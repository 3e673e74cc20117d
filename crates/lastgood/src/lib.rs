//! lastgood
