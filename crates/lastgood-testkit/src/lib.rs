//! lastgood-testkit
