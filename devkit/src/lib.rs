//! A whole deployment on this machine: PostgreSQL servers, participants and coordinators, each a
//! process of its own. `gavel dev`, the demo and the black-box tests stand on it.
//!
//! # Purpose
//! [`Dev::start`] makes or resumes everything that lives in one data folder, and hands out what a
//! test needs to be cruel: kill, pause, start again, start with a crash point.
//!
//! # Invariants
//! * One owner per folder, by an advisory lock, not by a process id on disk.
//! * No child outlives its owner: each reads a pipe that only the owner holds, and leaves at its
//!   end. Servers have a watchdog of their own (see `local-postgres`).
//! * Ports, passwords, names and tags are settled once per folder and never change.
//!
//! # Failure model
//! The owner may be killed at any moment. The next start takes the lock, ends what was left
//! behind, and goes on with the same data; recovery of transactions is the participants' own
//! work. Calls block: inside an async runtime use a blocking task.

mod child;
mod config_file;
mod dev;
mod error;
mod folder;
mod leftover;
mod options;
mod probe;
mod security;
mod shards;
mod state;
mod supervisor;

pub use child::Role;
pub use dev::Dev;
pub use error::Error;
pub use options::{EnvOf, Options};
pub use shards::Shard;
