//! `gavel coordinator`: drives transactions through participants elsewhere.

use std::sync::Arc;
use std::time::Duration;

use gavel_coordinator::api::{self, Authenticator};
use gavel_coordinator::{Coordinator, Engine as _};
use gavel_participant::Directory;
use gavel_tls::{ClientCertificates, Role, Tls};
use serde_json::json;

use super::directory::Remotes;
use super::network::listen;
use super::observe::{self, Health, Observed, Wellbeing};
use super::registry::{self, Registry};
use super::reload::{Source, TakesOver};
use super::stop::exit_with_stdin;
use super::{security, stop_signal, trace};
use crate::args::ServeArgs;
use crate::config::Config;
use crate::exit::Exit;
use crate::output::Output;

/// Runs until it is told to stop.
pub(crate) async fn run(
    config: &Config,
    source: Source,
    args: &ServeArgs,
    output: Output,
) -> anyhow::Result<Exit> {
    let begun = Begun::begin(config, args, "gavel-coordinator").await?;
    let registry = Arc::new(Registry::new(config));
    let mut remotes = Remotes::new(begun.tls.clone(), registry.clone());
    let directory = Directory::new(remotes.of(config, |_| true)?);
    let follow = |coordinator: &Coordinator| {
        let shards = Shards {
            coordinator: coordinator.clone(),
            remotes,
        };
        tokio::spawn(source.follow(config.clone(), shards, registry.clone()));
    };
    begun
        .serve(directory, Some(&registry), follow, output)
        .await
}

/// The shards of a coordinator, all of them elsewhere.
struct Shards {
    coordinator: Coordinator,
    remotes: Remotes,
}

impl TakesOver for Shards {
    async fn take_over(&mut self, config: &Config) -> anyhow::Result<()> {
        let participants = self.remotes.of(config, |_| true)?;
        let shards = config.known_shards();
        Ok(self.coordinator.reconfigure(shards, participants)?)
    }
}

/// A service with a coordinator in it that has begun: it is watched, and knows its certificate.
pub(super) struct Begun<'a> {
    config: &'a Config,
    args: &'a ServeArgs,
    pub(super) tls: Option<Tls>,
    observed: Option<Observed>,
}

impl<'a> Begun<'a> {
    /// `name` is what its spans call it.
    pub(super) async fn begin(
        config: &'a Config,
        args: &'a ServeArgs,
        name: &'static str,
    ) -> anyhow::Result<Self> {
        if args.exit_with_stdin {
            exit_with_stdin();
        }
        let tls = security::load(config, security::COORDINATOR, Role::Coordinator)?;
        let observed = observe::install(config, args.metrics_listen, tls.as_ref()).await?;
        trace::install(config, name, None)?;
        Ok(Self {
            config,
            args,
            tls,
            observed,
        })
    }

    /// Serves the coordinator over `directory`; `registry` hears where participants are, if it is to,
    /// and `started` is told once the coordinator is there.
    pub(super) async fn serve(
        self,
        directory: Directory,
        registry: Option<&Arc<Registry>>,
        started: impl FnOnce(&Coordinator),
        output: Output,
    ) -> anyhow::Result<Exit> {
        let Self {
            config,
            args,
            tls,
            observed,
        } = self;
        let authenticator = Authenticator::from_files(&config.token_sources())?;
        let address = args.listen.unwrap_or(config.coordinator.listen);
        // Who has no certificate may have a token.
        let tls = tls.map(|tls| (tls, ClientCertificates::Optional));
        let has_principals = authenticator.has_principals();
        let (listener, acceptor) = listen(config, address, has_principals, tls).await?;
        let address = listener.local_addr()?;
        let (shards, limits) = (config.known_shards(), config.limits.clone());
        let coordinator = Coordinator::start_knowing(shards, directory, limits);
        started(&coordinator);
        if let Some(observed) = observed {
            observed.serve(health_of(&coordinator))?;
        }
        let mut router = api::router(Arc::new(coordinator.clone()), authenticator, &config.limits);
        if let Some(registry) = registry {
            router = router.route_service(registry::PATH, registry::service(registry.clone()));
        }
        let url = match config.tls {
            Some(_) => format!("https://{address}"),
            None => format!("http://{address}"),
        };
        output.result(
            format!("coordinator on {url}"),
            &json!({"coordinator": url}),
        );
        tracing::info!(%address, "coordinator serves");
        let grace = Duration::from_millis(config.shutdown_grace_ms);
        let shutdown = async move {
            stop_signal().await;
            tracing::info!("stopping: nothing more is admitted");
            // It still answers while it finishes: `shutting_down` sends clients elsewhere.
            coordinator.shut_down(grace).await;
        };
        api::serve(listener, acceptor, router, shutdown).await?;
        Ok(Exit::Ok)
    }
}

fn health_of(coordinator: &Coordinator) -> Health {
    let coordinator = coordinator.clone();
    Arc::new(move || {
        let coordinator = coordinator.clone();
        Box::pin(async move {
            let shards = coordinator.shard_health().into_iter();
            let names = coordinator.shards();
            let named = shards.filter_map(|(tag, why)| Some((names.name(tag)?.to_string(), why)));
            Wellbeing {
                not_ready: coordinator.not_ready().await,
                shards: named.collect(),
            }
        })
    })
}
