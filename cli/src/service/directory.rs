//! Directories of participants that run elsewhere.

use std::sync::Arc;

use gavel_participant::Participant;
use gavel_participant::remote::RemoteParticipant;

use super::network::participant_url;
use crate::config::{Config, ShardConfig};

/// The participants of all shards that `wanted` accepts, over the network. Nothing is connected
/// yet.
pub(crate) fn remotes(
    config: &Config,
    wanted: impl Fn(&ShardConfig) -> bool,
) -> anyhow::Result<Vec<Arc<dyn Participant>>> {
    let shards = config.shard.iter().filter(|shard| wanted(shard));
    shards.map(|shard| remote(config, shard)).collect()
}

fn remote(config: &Config, shard: &ShardConfig) -> anyhow::Result<Arc<dyn Participant>> {
    let url = participant_url(shard)?;
    let participant = RemoteParticipant::connect_lazy(shard.tag, url, &config.limits)?;
    Ok(Arc::new(participant))
}
