//! The coordinator: drives transactions through participants, and keeps nothing on disk.

pub mod engine;

pub use engine::{Answer, Engine, InteractiveAnswer, Submission};
