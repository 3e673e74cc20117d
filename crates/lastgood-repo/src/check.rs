//! Checking a repository against itself. Written by its own session of work; see `check` below.
