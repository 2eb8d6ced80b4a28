//! The services: participants, coordinators, and all in one.

mod stop;

use gavel_participant::start_check::Expected;

use crate::config::{Config, ShardConfig};

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
