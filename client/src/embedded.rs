//! Gavel without servers of its own: coordinator and participants inside the client's process.
//!
//! The process that embeds Gavel is then the one that scans for in-doubt branches (R17): when it
//! dies between PREPARE and COMMIT PREPARED, its branches keep their locks until it, or a
//! standing `gavel participant` over the same shard, runs again.

use std::sync::Arc;
use std::time::Duration;

use gavel_coordinator::{Coordinator, Engine};
use gavel_participant::local::{LocalParticipant, OpenError, ShardConfig};
use gavel_participant::{Directory, Participant};
use gavel_protocol::shard_map::ShardMapError;
use gavel_protocol::{DeploymentName, Limits, ShardMap, ShardName, ShardTag};
use tokio::time::Instant;

use crate::gavel::Gavel;
use crate::options::Options;

/// How long [`Embedded::start`] waits until it can commit.
const READY_TIMEOUT: Duration = Duration::from_secs(15);

/// How often it looks.
const READY_INTERVAL: Duration = Duration::from_millis(20);

/// A shard of an embedded deployment.
#[derive(Clone)]
pub struct EmbeddedShard {
    /// Its name.
    pub name: ShardName,
    /// Its number, which must never change.
    pub tag: ShardTag,
    /// `postgres://…` of a login with the role `gavel_participant`, to a database that
    /// `gavel migrate` has prepared.
    pub database_url: String,
}

/// An embedded deployment could not start.
#[derive(Debug, thiserror::Error)]
pub enum EmbeddedError {
    /// Names or tags of shards are not unique.
    #[error("the shards cannot be told apart")]
    Shards(#[source] ShardMapError),
    /// A shard is down, or not fit.
    #[error("a shard could not be opened")]
    Open(#[source] OpenError),
    /// It did not become ready in time.
    #[error("not ready after {READY_TIMEOUT:?}: {0}")]
    NotReady(String),
}

/// Coordinator and participants inside this process. Dropping it stops them; call
/// [`Embedded::shut_down`] to let transactions under way end first.
pub struct Embedded {
    gavel: Gavel,
    coordinator: Coordinator,
    participants: Vec<LocalParticipant>,
}

impl Embedded {
    /// Opens the shards, starts to resolve what is in doubt on them, and waits until it can
    /// commit.
    ///
    /// # Errors
    /// A shard that is down or not fit, with the fix in the error's sources.
    pub async fn start(
        deployment: DeploymentName,
        shards: impl IntoIterator<Item = EmbeddedShard>,
        limits: Limits,
    ) -> Result<Self, EmbeddedError> {
        let shards: Vec<EmbeddedShard> = shards.into_iter().collect();
        let names = shards.iter().map(|shard| (shard.name.clone(), shard.tag));
        let map = ShardMap::new(names).map_err(EmbeddedError::Shards)?;
        let mut participants = Vec::with_capacity(shards.len());
        for shard in shards {
            let config = ShardConfig {
                deployment: deployment.clone(),
                name: shard.name,
                tag: shard.tag,
                database_url: shard.database_url,
                limits: limits.clone(),
            };
            let opened = LocalParticipant::open(config).await;
            participants.push(opened.map_err(EmbeddedError::Open)?);
        }
        let each = participants.iter();
        let directory =
            Directory::new(each.map(|each| Arc::new(each.clone()) as Arc<dyn Participant>));
        for participant in &participants {
            participant.start(directory.clone());
        }
        let coordinator = Coordinator::start(map, directory, limits);
        wait_until_ready(&coordinator).await?;
        let engine: Arc<dyn Engine> = Arc::new(coordinator.clone());
        Ok(Self {
            gavel: Gavel::embedded_with(engine, Options::default()),
            coordinator,
            participants,
        })
    }

    /// The client. Clones of it stay usable as long as this value lives.
    pub fn gavel(&self) -> &Gavel {
        &self.gavel
    }

    /// Admits nothing more, lets what is under way end for `patience` at most, and stops.
    pub async fn shut_down(self, patience: Duration) {
        self.coordinator.shut_down(patience).await;
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        for participant in &self.participants {
            participant.stop();
        }
    }
}

async fn wait_until_ready(coordinator: &Coordinator) -> Result<(), EmbeddedError> {
    let deadline = Instant::now() + READY_TIMEOUT;
    while let Some(reason) = coordinator.not_ready().await {
        if Instant::now() >= deadline {
            return Err(EmbeddedError::NotReady(reason));
        }
        tokio::time::sleep(READY_INTERVAL).await;
    }
    Ok(())
}
