//! The coordinator: drives transactions through participants, and keeps nothing on disk.
//!
//! | module | what it does |
//! |---|---|
//! | [`engine`] | the seam between the engine and its faces |
//! | [`api`] | the faces: gRPC and JSON over HTTP on one port |
//! | `admission` | what is let in |
//! | `lanes`, `ticket` | transactions waiting for their batch, and clients waiting for them |
//! | `driver` | executes the effects of `gavel_protocol::Batch` |
//! | `interactive` | transactions whose statements come one by one |
//! | `presence` | being present at every participant |
//! | `shards` | which shards there are, as they come and go |

mod admission;
pub mod api;
mod backoff;
mod circuits;
mod clock;
pub mod coordinator;
mod driver;
pub mod engine;
mod interactive;
mod lanes;
pub mod metrics;
mod presence;
mod recent;
mod shards;
mod stories;
mod ticket;
mod verdict;

pub use coordinator::{Coordinator, StillInUse};
pub use engine::{Answer, CallTold, Engine, InteractiveAnswer, StoryTold, Submission};
pub use shards::KnownShards;
