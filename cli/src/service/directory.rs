//! Directories of participants that run elsewhere.

use std::sync::Arc;

use gavel_participant::Participant;
use gavel_participant::remote::{self, RemoteParticipant};
use gavel_tls::{Connector, Tls};

use super::network::participant_url;
use crate::config::{Config, ShardConfig};

/// The participants of all shards that `wanted` accepts, over the network. Nothing is connected
/// yet.
pub(crate) fn remotes(
    config: &Config,
    tls: Option<&Tls>,
    wanted: impl Fn(&ShardConfig) -> bool,
) -> anyhow::Result<Vec<Arc<dyn Participant>>> {
    let shards = config.shard.iter().filter(|shard| wanted(shard));
    shards.map(|shard| remote(config, tls, shard)).collect()
}

fn remote(
    config: &Config,
    tls: Option<&Tls>,
    shard: &ShardConfig,
) -> anyhow::Result<Arc<dyn Participant>> {
    let url = participant_url(shard)?;
    let connector = tls.map(|tls| {
        Connector::to_participant(tls.clone(), shard.name.clone(), remote::TCP_KEEPALIVE)
    });
    let participant = RemoteParticipant::connect_lazy(shard.tag, url, &config.limits, connector)?;
    Ok(Arc::new(participant))
}
