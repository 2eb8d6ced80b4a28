//! The services: participants, coordinators, and all in one process.
//!
//! Failure model: a shard that is down when a service starts is waited for; a configuration or a
//! database that is wrong ends the service with the message and the fix, because waiting cannot
//! mend it. A service that is told to stop admits nothing more, finishes what is in flight
//! within `shutdown_grace_ms`, and leaves the rest to the participants' recovery.

mod coordinator;
mod directory;
mod late;
mod network;
mod observe;
mod open;
mod participant;
mod registry;
mod reload;
pub(crate) mod security;
mod serve;
mod stop;
mod trace;

use gavel_participant::start_check::Expected;

use crate::config::{Config, ShardConfig};

pub(crate) use coordinator::run as coordinator;
pub(crate) use network::participant_url;
pub(crate) use open::{know_peers, local_config};
pub(crate) use participant::run as participant;
pub use registry::Hosts;
pub(crate) use reload::Source;
pub(crate) use serve::run as serve;
pub(crate) use stop::stop_signal;

/// What the configuration says about a shard, for its start check.
pub(crate) fn expected(config: &Config, shard: &ShardConfig) -> Expected {
    let limits = &config.limits;
    let connections = limits.work_connections + limits.interactive_connections;
    Expected {
        deployment: config.deployment.clone(),
        name: shard.name.clone(),
        tag: shard.tag,
        // Every one of them may have a branch prepared at the same time.
        slots_needed: u32::try_from(connections).unwrap_or(u32::MAX),
    }
}
