//! `gavel participant`: fronts one shard, behind gRPC.
//!
//! It listens only once its shard has been opened: whoever can connect gets real answers.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::bail;
use gavel_participant::serve::ParticipantServer;
use gavel_participant::{Directory, LocalParticipant, Participant};
use gavel_protocol::ShardName;
use gavel_tls::{ClientCertificates, Role};
use serde_json::json;

use super::directory::Remotes;
use super::network::{listen, participant_address};
use super::observe::{self, Health, Wellbeing};
use super::open::{know_peers, open};
use super::registry::{Announcer, Registry};
use super::reload::{Source, TakesOver};
use super::stop::exit_with_stdin;
use super::{security, stop_signal, trace};
use crate::args::ParticipantArgs;
use crate::commands::shard::named;
use crate::config::{Config, ShardConfig};
use crate::exit::Exit;
use crate::output::Output;

/// Runs until it is told to stop.
pub(crate) async fn run(
    config: &Config,
    source: Source,
    args: &ParticipantArgs,
    output: Output,
) -> anyhow::Result<Exit> {
    if args.exit_with_stdin {
        exit_with_stdin();
    }
    let shard = named(config, &args.shard)?;
    let address = participant_address(config, shard, args.listen)?;
    let tls = security::load(config, &security::participant(shard), Role::Participant)?;
    let observed = observe::install(config, args.metrics_listen, tls.as_ref()).await?;
    trace::install(config, "gavel-participant", Some(shard))?;
    let registry = Arc::new(Registry::new(config));
    let remotes = Remotes::new(tls.clone(), registry.clone());
    let mut stop = std::pin::pin!(stop_signal());
    let opening = async {
        let participant = open(config, shard).await?;
        Peers::begin(config, participant, remotes).await
    };
    let peers = tokio::select! {
        opened = opening => opened?,
        () = &mut stop => return Ok(Exit::Ok),
    };
    let participant = peers.participant.clone();
    // Tokens are for clients: without TLS the network alone protects a participant.
    let accepts = tls.clone();
    let accepts = accepts.map(|tls| (tls, ClientCertificates::Required));
    let (listener, acceptor) = listen(config, address, true, accepts).await?;
    let address = listener.local_addr()?;
    let known_as = announced_address(config, shard, args, address)?;
    let myself: Arc<dyn Participant> = Arc::new(participant.clone());
    participant.start(peers.directory.clone());
    tokio::spawn(source.follow(config.clone(), peers, registry.clone()));
    if let Some(observed) = observed {
        observed.serve(health_of(&shard.name, &participant))?;
    }
    let server = ParticipantServer::new(myself, &config.limits);
    let shutdown = server.shutdown();
    let mut serving = tokio::spawn(server.serve(listener, acceptor));
    let name = &shard.name;
    output.result(
        format!("participant of {name} on {address}"),
        &json!({"participant": name.as_str(), "listen": address}),
    );
    tracing::info!(shard = %name, %address, "participant serves");
    // Others are told once it answers, and for as long as it does.
    let announcer = Announcer::new(config, name.clone(), known_as, tls, registry);
    let announcing = tokio::spawn(announcer.run());
    tokio::select! {
        ended = &mut serving => ended??,
        () = &mut stop => {
            announcing.abort();
            stop_serving(&participant);
            shutdown.cancel();
            let grace = Duration::from_millis(config.shutdown_grace_ms);
            if let Ok(ended) = tokio::time::timeout(grace, serving).await {
                ended??;
            } else {
                tracing::warn!("calls were still under way after {grace:?}");
            }
        }
    }
    Ok(Exit::Ok)
}

/// What the participant says of itself, if it is to say where it is.
fn announced_address(
    config: &Config,
    shard: &ShardConfig,
    args: &ParticipantArgs,
    listens: SocketAddr,
) -> anyhow::Result<Option<String>> {
    if !shard.is_announced() {
        return Ok(None);
    }
    let asked = args.announce.as_ref().or(config.registry.announce.as_ref());
    if let Some(address) = asked {
        return Ok(Some(address.clone()));
    }
    if listens.ip().is_unspecified() {
        bail!("it listens on {listens}, which is no address for others: add --announce URL");
    }
    let scheme = match config.tls {
        Some(_) => "https",
        None => "http",
    };
    Ok(Some(format!("{scheme}://{listens}")))
}

/// The shards that a participant has to do with, itself included.
struct Peers {
    participant: LocalParticipant,
    remotes: Remotes,
    directory: Directory,
}

impl Peers {
    async fn begin(
        config: &Config,
        participant: LocalParticipant,
        remotes: Remotes,
    ) -> anyhow::Result<Self> {
        let mut peers = Self {
            participant,
            remotes,
            directory: Directory::default(),
        };
        peers.take_over(config).await?;
        Ok(peers)
    }
}

impl TakesOver for Peers {
    async fn take_over(&mut self, config: &Config) -> anyhow::Result<()> {
        let own = self.participant.tag();
        if config.shard.iter().all(|shard| shard.tag != own) {
            bail!("this is the participant of shard {own}, which is gone from the file: stop it");
        }
        let removed = know_peers(config, &self.participant).await?;
        let is_other = |shard: &ShardConfig| shard.tag != own && !removed.contains(&shard.tag);
        let others = self.remotes.of(config, is_other)?;
        let myself: Arc<dyn Participant> = Arc::new(self.participant.clone());
        self.directory.replace(others.into_iter().chain([myself]));
        Ok(())
    }
}

fn stop_serving(participant: &LocalParticipant) {
    tracing::info!("stopping");
    participant.stop();
}

fn health_of(name: &ShardName, participant: &LocalParticipant) -> Health {
    let (name, participant) = (name.to_string(), participant.clone());
    Arc::new(move || {
        let (name, participant) = (name.clone(), participant.clone());
        Box::pin(async move {
            let not_ready = participant.not_ready().await;
            Wellbeing {
                shards: vec![(name, not_ready.clone())],
                not_ready,
            }
        })
    })
}
