//! The participant: fronts one shard.
//!
//! It prepares branches, decides at home, finishes prepared branches in bulk, resolves what is
//! in doubt together with the other participants, and answers for its shard. Other parts of
//! Gavel see it through the [`Participant`] trait, whether it lives in their process or behind
//! gRPC.

pub mod actions;
pub mod api;
pub mod attendance;
pub mod audit;
#[doc(hidden)]
pub mod crash;
pub mod damage;
mod decide;
mod failure;
mod finish;
pub mod local;
pub mod metrics;
pub mod peers;
pub mod pg;
mod prepare;
pub mod remote;
pub mod resolve;
pub mod retention;
pub mod rows;
pub mod scan;
pub mod serve;
pub mod service_pool;
mod session;
pub mod shard;
pub mod start_check;
pub mod status;
mod watch;
mod work;

pub use api::{Attendance, Directory, Participant, Unavailable};
pub use local::{LocalParticipant, OpenError, ShardConfig};
