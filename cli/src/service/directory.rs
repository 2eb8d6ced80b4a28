//! Participants that run elsewhere.

use std::collections::BTreeMap;
use std::sync::Arc;

use gavel_participant::Participant;
use gavel_participant::remote::{self, RemoteParticipant};
use gavel_protocol::ShardTag;
use gavel_tls::{Connector, Tls};

use super::late::LateParticipant;
use super::network::participant_url;
use super::registry::Registry;
use crate::config::{Config, ShardConfig};

/// The participants that this process has to do with, over the network. One whose address stays the
/// same stays the same, so that nothing under way is disturbed when others come and go.
pub(crate) struct Remotes {
    tls: Option<Tls>,
    registry: Arc<Registry>,
    known: BTreeMap<ShardTag, Remote>,
}

struct Remote {
    /// `None` as long as it has not announced where it is.
    url: Option<String>,
    participant: Arc<dyn Participant>,
}

impl Remotes {
    pub(crate) fn new(tls: Option<Tls>, registry: Arc<Registry>) -> Self {
        Self {
            tls,
            registry,
            known: BTreeMap::new(),
        }
    }

    /// The participants of all shards that `wanted` accepts; the others are forgotten. Nothing is
    /// connected yet.
    pub(crate) fn of(
        &mut self,
        config: &Config,
        wanted: impl Fn(&ShardConfig) -> bool,
    ) -> anyhow::Result<Vec<Arc<dyn Participant>>> {
        self.registry.follow(config);
        let mut now = BTreeMap::new();
        for shard in config.shard.iter().filter(|shard| wanted(shard)) {
            let url = match shard.is_announced() {
                true => self.registry.address(&shard.name),
                false => Some(participant_url(shard)?.to_owned()),
            };
            let participant = match self.known.get(&shard.tag) {
                Some(known) if known.url == url => known.participant.clone(),
                _ => self.remote(config, shard, url.as_deref())?,
            };
            now.insert(shard.tag, Remote { url, participant });
        }
        self.known = now;
        let participants = self.known.values();
        Ok(participants.map(|each| each.participant.clone()).collect())
    }

    fn remote(
        &self,
        config: &Config,
        shard: &ShardConfig,
        url: Option<&str>,
    ) -> anyhow::Result<Arc<dyn Participant>> {
        let Some(url) = url else {
            return Ok(Arc::new(LateParticipant::unheard(shard.tag)));
        };
        let connector = self.tls.as_ref().map(|tls| {
            Connector::to_participant(tls.clone(), shard.name.clone(), remote::TCP_KEEPALIVE)
        });
        let remote = RemoteParticipant::connect_lazy(shard.tag, url, &config.limits, connector)?;
        Ok(Arc::new(remote))
    }
}
