//! The participant: fronts one shard.
//!
//! It prepares branches, decides at home, finishes prepared branches in bulk, resolves what is
//! in doubt together with the other participants, and answers for its shard. Other parts of
//! Gavel see it through the [`Participant`] trait, whether it lives in their process or behind
//! gRPC.

pub mod api;
#[doc(hidden)]
pub mod crash;
mod decide;
mod failure;
mod finish;
pub mod pg;
mod prepare;
pub mod shard;
mod work;

pub use api::{Participant, Unavailable};
