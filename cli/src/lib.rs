//! The one binary, `gavel`, as a library, so that tests can reach its parts.

mod app;
pub mod args;
mod commands;
pub mod config;
pub mod exit;
mod logging;
mod output;
mod runtime;
mod service;

pub use app::main;
