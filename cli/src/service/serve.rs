//! `gavel serve`: all participants and a coordinator in one process.

use std::sync::Arc;

use futures::future::try_join_all;
use gavel_participant::{Directory, Participant};
use gavel_tls::Role;

use super::coordinator;
use super::late::LateParticipant;
use super::observe;
use super::open::open;
use super::security;
use super::stop::exit_with_stdin;
use super::trace;
use crate::args::ServeArgs;
use crate::config::Config;
use crate::exit::Exit;
use crate::output::Output;

/// Runs until it is told to stop, or until a shard turns out to be one that cannot be served.
pub(crate) async fn run(config: &Config, args: &ServeArgs, output: Output) -> anyhow::Result<Exit> {
    if args.exit_with_stdin {
        exit_with_stdin();
    }
    let tls = security::load(config, security::COORDINATOR, Role::Coordinator)?;
    let observed = observe::install(config, args.metrics_listen, tls.as_ref()).await?;
    trace::install(config, "gavel-serve", None)?;
    let late: Vec<Arc<LateParticipant>> = config
        .shard
        .iter()
        .map(|shard| Arc::new(LateParticipant::new(shard.tag)))
        .collect();
    let participants = late.iter().map(|each| each.clone() as Arc<dyn Participant>);
    let directory = Directory::new(participants);
    let opening = try_join_all(config.shard.iter().zip(&late).map(|(shard, late)| {
        let directory = directory.clone();
        async move {
            let participant = open(config, shard).await?;
            participant.start(directory);
            tracing::info!(shard = %shard.name, "participant serves");
            late.set(participant);
            anyhow::Ok(())
        }
    }));
    // A shard that is down does not keep the others waiting.
    let opening = async {
        opening.await?;
        std::future::pending().await
    };
    tokio::select! {
        served = coordinator::serve(config, args, directory.clone(), observed, tls, output) => served,
        failed = opening => failed,
    }
}
