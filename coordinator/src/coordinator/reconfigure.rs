//! Other shards, while transactions are under way.

use std::sync::Arc;

use gavel_participant::Participant;
use gavel_protocol::{ShardName, ShardTag};

use super::{Coordinator, Inner, shards_of};
use crate::shards::KnownShards;

/// A shard cannot go yet.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a transaction that is under way here needs shard `{0}`: drain it first, and wait")]
pub struct StillInUse(pub ShardName);

impl Coordinator {
    /// Knows these shards, and reaches them through these participants, from now on. What is
    /// under way goes on; a participant that is the same as before is not disturbed.
    ///
    /// # Errors
    /// [`StillInUse`]: a shard would be gone that a transaction here still needs. Nothing has changed.
    pub fn reconfigure(
        &self,
        shards: KnownShards,
        participants: impl IntoIterator<Item = Arc<dyn Participant>>,
    ) -> Result<(), StillInUse> {
        let inner = &self.0;
        let before = inner.shards.map();
        let gone = before
            .iter()
            .filter(|(tag, _)| shards.map.name(*tag).is_none());
        for (tag, name) in gone {
            if inner.needs(tag) {
                return Err(StillInUse(name.clone()));
            }
        }
        inner.directory.replace(participants);
        inner.presence.follow(&inner.directory);
        inner.circuits.follow(&shards.map);
        inner.shards.replace(shards);
        Ok(())
    }
}

impl Inner {
    /// Whether anything here has to do with a shard.
    fn needs(&self, shard: ShardTag) -> bool {
        let in_flight = self.in_flight.lock();
        let mut tickets = in_flight.values().filter(|ticket| !ticket.is_ended());
        tickets.any(|ticket| shards_of(ticket).any(|of| of == shard)) || self.sessions.need(shard)
    }
}
