//! The shards that a coordinator knows. They come and go while it runs.

use std::collections::BTreeSet;
use std::sync::Arc;

use gavel_protocol::{Refusal, RefusalCode, ShardMap, ShardTag};
use parking_lot::RwLock;

/// The shards of a moment, as a configuration names them.
#[derive(Debug, Clone, Default)]
pub struct KnownShards {
    /// All of them.
    pub map: Arc<ShardMap>,
    /// Those that take nothing new, because they are being taken out.
    pub draining: Arc<BTreeSet<ShardTag>>,
}

impl KnownShards {
    /// Shards none of which is draining.
    pub fn active(map: ShardMap) -> Self {
        Self {
            map: Arc::new(map),
            draining: Arc::default(),
        }
    }

    /// Whether a shard takes something new.
    ///
    /// # Errors
    /// [`RefusalCode::ShardDraining`].
    pub fn check_takes(&self, shard: ShardTag) -> Result<(), Refusal> {
        if !self.draining.contains(&shard) {
            return Ok(());
        }
        let name = self.map.name(shard).map(ToString::to_string);
        let message = format!(
            "shard {} is being taken out and takes nothing new: use another one",
            name.unwrap_or_else(|| shard.to_string())
        );
        Err(Refusal::new(RefusalCode::ShardDraining, message))
    }
}

/// What a coordinator knows now.
#[derive(Debug, Default)]
pub struct Shards(RwLock<KnownShards>);

impl Shards {
    /// Begins with these.
    pub fn new(known: KnownShards) -> Self {
        Self(RwLock::new(known))
    }

    /// The shards of this moment.
    pub fn now(&self) -> KnownShards {
        self.0.read().clone()
    }

    /// The shards of this moment, draining or not.
    pub fn map(&self) -> Arc<ShardMap> {
        self.0.read().map.clone()
    }

    /// Knows these from now on.
    pub fn replace(&self, known: KnownShards) {
        *self.0.write() = known;
    }
}
