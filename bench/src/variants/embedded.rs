//! `gavel-embedded`: coordinator and participants inside the client's process.

use std::time::Duration;

use async_trait::async_trait;
use gavel_client::{Embedded as Deployment, EmbeddedShard};
use tokio::sync::Mutex;

use super::settings::limits;
use super::through_client::run;
use super::{Ended, Variant};
use crate::work::Work;
use crate::world::{DEPLOYMENT, Shard};

const STOP_LIMIT: Duration = Duration::from_secs(10);

pub struct Embedded {
    client: gavel_client::Gavel,
    deployment: Mutex<Option<Deployment>>,
}

impl Embedded {
    pub async fn start(shards: &[Shard]) -> anyhow::Result<Self> {
        let mut described = Vec::new();
        for shard in shards {
            described.push(EmbeddedShard {
                name: shard.name.parse()?,
                tag: shard.tag,
                database_url: shard.url.clone(),
            });
        }
        let deployment = Deployment::start(DEPLOYMENT.parse()?, described, limits()?).await?;
        Ok(Self {
            client: deployment.gavel().clone(),
            deployment: Mutex::new(Some(deployment)),
        })
    }
}

#[async_trait]
impl Variant for Embedded {
    async fn run(&self, work: &Work) -> anyhow::Result<Ended> {
        run(&self.client, work).await
    }

    async fn stop(&self) -> anyhow::Result<()> {
        if let Some(deployment) = self.deployment.lock().await.take() {
            deployment.shut_down(STOP_LIMIT).await;
        }
        Ok(())
    }
}
