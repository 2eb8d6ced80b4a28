//! `gavel-embedded`: coordinator and participants inside the client's process.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use async_trait::async_trait;
use gavel_client::Gavel;
use gavel_coordinator::{Coordinator, Engine};
use gavel_participant::{Directory, LocalParticipant, Participant, ShardConfig};
use gavel_protocol::{Limits, ShardMap, ShardTag};

use super::through_client::ThroughClient;
use super::{Session, Variant};
use crate::world::{DEPLOYMENT, Shard, World};

const READY_LIMIT: Duration = Duration::from_secs(20);
const STOP_LIMIT: Duration = Duration::from_secs(10);

pub struct Embedded {
    participants: Vec<LocalParticipant>,
    coordinator: Coordinator,
    client: Gavel,
}

impl Embedded {
    pub async fn start(world: &World) -> anyhow::Result<Self> {
        let mut participants = Vec::new();
        for shard in world.shards() {
            let opened = LocalParticipant::open(config(shard)?).await;
            participants.push(opened.context("cannot open a shard")?);
        }
        let each = participants
            .iter()
            .map(|each| Arc::new(each.clone()) as Arc<dyn Participant>);
        let directory = Directory::new(each);
        for participant in &participants {
            participant.start(directory.clone());
        }
        let mut named = Vec::new();
        for shard in world.shards() {
            named.push((shard.name.parse()?, ShardTag(shard.tag)));
        }
        let coordinator = Coordinator::start(ShardMap::new(named)?, directory, Limits::default());
        wait_until_ready(&coordinator).await?;
        Ok(Self {
            participants,
            client: Gavel::embedded(Arc::new(coordinator.clone())),
            coordinator,
        })
    }
}

#[async_trait]
impl Variant for Embedded {
    async fn session(&self) -> anyhow::Result<Box<dyn Session>> {
        Ok(Box::new(ThroughClient(self.client.clone())))
    }

    async fn stop(self: Box<Self>) -> anyhow::Result<()> {
        self.coordinator.shut_down(STOP_LIMIT).await;
        self.participants.iter().for_each(LocalParticipant::stop);
        Ok(())
    }
}

fn config(shard: &Shard) -> anyhow::Result<ShardConfig> {
    Ok(ShardConfig {
        deployment: DEPLOYMENT.parse()?,
        name: shard.name.parse()?,
        tag: ShardTag(shard.tag),
        database_url: shard.url.clone(),
        limits: Limits::default(),
    })
}

async fn wait_until_ready(coordinator: &Coordinator) -> anyhow::Result<()> {
    let deadline = Instant::now() + READY_LIMIT;
    while let Some(why) = coordinator.not_ready().await {
        ensure!(Instant::now() < deadline, "gavel is not ready: {why}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Ok(())
}
