//! `gavel serve`: all participants and a coordinator in one process.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures::future::try_join_all;
use gavel_coordinator::Coordinator;
use gavel_participant::{Directory, Participant};
use gavel_protocol::ShardTag;

use super::coordinator::Begun;
use super::late::LateParticipant;
use super::open::{know_peers, open};
use super::registry::Registry;
use super::reload::{Source, TakesOver};
use crate::args::ServeArgs;
use crate::config::{Config, ShardConfig};
use crate::exit::Exit;
use crate::output::Output;

/// Runs until it is told to stop, or until a shard turns out to be one that cannot be served.
pub(crate) async fn run(
    config: &Config,
    source: Source,
    args: &ServeArgs,
    output: Output,
) -> anyhow::Result<Exit> {
    let begun = Begun::begin(config, args, "gavel-serve").await?;
    let locals = Locals::of(config);
    let directory = Directory::new(locals.participants());
    let opening = try_join_all(config.shard.iter().map(|shard| {
        open_late(
            config,
            shard,
            locals.late[&shard.tag].clone(),
            directory.clone(),
        )
    }));
    // A shard that is down does not keep the others waiting.
    let opening = async {
        opening.await?;
        std::future::pending().await
    };
    let (now, shared) = (config.clone(), directory.clone());
    let follow = |coordinator: &Coordinator| {
        let shards = Shards {
            coordinator: coordinator.clone(),
            directory: shared,
            locals,
        };
        // All participants are here: nobody has to say where.
        let registry = Arc::new(Registry::new(&now));
        tokio::spawn(source.follow(now, shards, registry));
    };
    tokio::select! {
        served = begun.serve(directory, None, follow, output) => served,
        failed = opening => failed,
    }
}

/// Opens a shard, waiting for it if it is down, and starts its participant.
async fn open_late(
    config: &Config,
    shard: &ShardConfig,
    late: Arc<LateParticipant>,
    directory: Directory,
) -> anyhow::Result<()> {
    let participant = open(config, shard).await?;
    know_peers(config, &participant).await?;
    participant.start(directory);
    tracing::info!(shard = %shard.name, "participant serves");
    late.set(participant);
    Ok(())
}

/// The participants of this process.
struct Locals {
    late: BTreeMap<ShardTag, Arc<LateParticipant>>,
}

impl Locals {
    fn of(config: &Config) -> Self {
        let shards = config.shard.iter();
        let late = shards.map(|shard| (shard.tag, Arc::new(LateParticipant::new(shard.tag))));
        Self {
            late: late.collect(),
        }
    }

    fn participants(&self) -> impl Iterator<Item = Arc<dyn Participant>> + '_ {
        let late = self.late.values();
        late.map(|each| each.clone() as Arc<dyn Participant>)
    }
}

/// The shards of this process, as they come and go.
struct Shards {
    coordinator: Coordinator,
    directory: Directory,
    locals: Locals,
}

impl TakesOver for Shards {
    async fn take_over(&mut self, config: &Config) -> anyhow::Result<()> {
        for late in self.locals.late.values() {
            if let Some(participant) = late.participant() {
                know_peers(config, participant).await?;
            }
        }
        let tags: BTreeSet<ShardTag> = config.shard.iter().map(|shard| shard.tag).collect();
        let mut late = self.locals.late.clone();
        let gone = late.extract_if(.., |tag, _| !tags.contains(tag));
        let gone: Vec<Arc<LateParticipant>> = gone.map(|(_, late)| late).collect();
        let new = config
            .shard
            .iter()
            .filter(|shard| !late.contains_key(&shard.tag));
        let new: Vec<ShardConfig> = new.cloned().collect();
        for shard in &new {
            late.insert(shard.tag, Arc::new(LateParticipant::new(shard.tag)));
        }
        let locals = Locals { late };
        self.coordinator
            .reconfigure(config.known_shards(), locals.participants())?;
        self.locals = locals;
        for participant in gone.iter().filter_map(|late| late.participant()) {
            participant.stop();
        }
        for shard in new {
            self.open(config.clone(), shard);
        }
        Ok(())
    }
}

impl Shards {
    /// Opens a shard that was added, in the background. One that cannot be served is told of, and
    /// stays unavailable; the others go on.
    fn open(&self, config: Config, shard: ShardConfig) {
        let late = self.locals.late[&shard.tag].clone();
        let directory = self.directory.clone();
        tokio::spawn(async move {
            if let Err(error) = open_late(&config, &shard, late, directory).await {
                tracing::error!(shard = %shard.name, "the added shard is not served: {error:#}");
            }
        });
    }
}
