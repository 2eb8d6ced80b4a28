//! `2pc-naive` and `local-naive`: what one writes first. A connection per client and shard, one
//! statement after the other, each awaited before the next, first on the one shard and then on
//! the other. Above [`CONNECTIONS_MAX`] clients, connections are shared, because more would cost
//! the servers more than they bring.

use anyhow::Context as _;
use async_trait::async_trait;
use deadpool::unmanaged::Pool;

use super::by_hand::{self, Connections, Habit};
use super::{Ended, Setting, Variant};
use crate::work::Work;

/// Per server.
pub const CONNECTIONS_MAX: usize = 256;

pub struct Naive(Pool<Connections>);

impl Naive {
    pub async fn start(setting: Setting<'_>) -> anyhow::Result<Self> {
        let count = setting.clients.min(CONNECTIONS_MAX);
        Ok(Self(by_hand::pool(setting.shards, count).await?))
    }
}

#[async_trait]
impl Variant for Naive {
    async fn run(&self, work: &Work) -> anyhow::Result<Ended> {
        let mut connections = self.0.get().await.context("no connection")?;
        connections.run(work, Habit::OneByOne).await
    }
}
