//! The one binary, `gavel`, as a library, so that tests can reach its parts.

pub mod config;
