//! The gRPC transport between coordinators and participants, over real sockets: every question
//! and answer arrives as it was sent, and what does not arrive is "unknown".

mod calls;
mod health;
mod identities;
mod loss;
mod presence;
mod recorder;
mod server;
mod values;

use std::time::Duration;

use gavel_protocol::ShardTag;

/// How long a condition may take to come true before a test gives up. Nothing waits this long
/// when all is well.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// The shard of every server here.
pub const SHARD: ShardTag = ShardTag(1);
