//! `gavel participant`: fronts one shard, behind gRPC.
//!
//! It listens only once its shard has been opened: whoever can connect gets real answers.

use std::sync::Arc;
use std::time::Duration;

use gavel_participant::serve::ParticipantServer;
use gavel_participant::{Directory, LocalParticipant, Participant};
use gavel_protocol::ShardName;
use gavel_tls::{ClientCertificates, Role};
use serde_json::json;

use super::network::{listen, participant_address};
use super::observe::{self, Health, Wellbeing};
use super::open::open;
use super::stop::exit_with_stdin;
use super::{directory, security, stop_signal, trace};
use crate::args::ParticipantArgs;
use crate::commands::shard::named;
use crate::config::Config;
use crate::exit::Exit;
use crate::output::Output;

/// Runs until it is told to stop.
pub(crate) async fn run(
    config: &Config,
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
    let peers = directory::remotes(config, tls.as_ref(), |other| other.tag != shard.tag)?;
    let mut stop = std::pin::pin!(stop_signal());
    let participant = tokio::select! {
        opened = open(config, shard) => opened?,
        () = &mut stop => return Ok(Exit::Ok),
    };
    // Tokens are for clients: without TLS the network alone protects a participant.
    let tls = tls.map(|tls| (tls, ClientCertificates::Required));
    let (listener, acceptor) = listen(config, address, true, tls).await?;
    let myself: Arc<dyn Participant> = Arc::new(participant.clone());
    let everybody = Directory::new(peers.into_iter().chain([myself.clone()]));
    participant.start(everybody);
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
    tokio::select! {
        ended = &mut serving => ended??,
        () = &mut stop => {
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
