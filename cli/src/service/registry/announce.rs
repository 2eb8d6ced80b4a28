//! A participant says where it is, and hears where the others are.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use gavel_participant::remote;
use gavel_protocol::{Limits, ShardName};
use gavel_tls::{Connector, Tls};
use gavel_wire::participant::registry_service_client::RegistryServiceClient;
use gavel_wire::participant::{self as wire};

use super::{EVERY, Registry, Whereabouts};
use crate::config::Config;

/// How long a coordinator may take to answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// Announces one participant to all coordinators, until it is dropped with its task.
pub(crate) struct Announcer {
    coordinators: Vec<String>,
    limits: Limits,
    tls: Option<Tls>,
    registry: Arc<Registry>,
    /// `None` if its address is in the configuration: it only hears.
    whereabouts: Option<Whereabouts>,
}

impl Announcer {
    /// Announces that the participant of `shard` is at `address`; without one, it only hears where
    /// others are.
    pub(crate) fn new(
        config: &Config,
        shard: ShardName,
        address: Option<String>,
        tls: Option<Tls>,
        registry: Arc<Registry>,
    ) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let started_unix_ms = now.map_or(0, |now| now.as_millis());
        Self {
            coordinators: config.registry.coordinators.clone(),
            limits: config.limits.clone(),
            tls,
            registry,
            whereabouts: address.map(|address| Whereabouts {
                shard,
                address,
                started_unix_ms: u64::try_from(started_unix_ms).unwrap_or(u64::MAX),
            }),
        }
    }

    /// Does so for ever, or not at all if there is nobody to tell.
    pub(crate) async fn run(self) {
        if self.coordinators.is_empty() {
            return;
        }
        let mut ticks = tokio::time::interval(EVERY);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut told: Vec<Option<String>> = vec![None; self.coordinators.len()];
        loop {
            ticks.tick().await;
            let asked = self.coordinators.iter().map(|each| self.announce(each));
            let answers = futures::future::join_all(asked).await;
            for ((told, coordinator), answer) in
                told.iter_mut().zip(&self.coordinators).zip(answers)
            {
                let why = answer.err().map(|error| format!("{error:#}"));
                if *told != why {
                    match &why {
                        Some(why) => {
                            tracing::warn!(coordinator, why, "it does not hear where this is");
                        }
                        None => tracing::info!(coordinator, "it hears where this is again"),
                    }
                    *told = why;
                }
            }
        }
    }

    /// Every announcement has a connection of its own: behind a balancer, all hear it in turn.
    async fn announce(&self, coordinator: &str) -> anyhow::Result<()> {
        let connector = self
            .tls
            .clone()
            .map(|tls| Connector::to_coordinator(tls, remote::TCP_KEEPALIVE));
        let channel = remote::channel(coordinator, &self.limits, connector)?;
        let request = wire::AnnounceRequest {
            whereabouts: self.whereabouts.clone().map(Into::into),
        };
        let mut client = RegistryServiceClient::new(channel);
        let answer = tokio::time::timeout(PATIENCE, client.announce(request));
        let answer = answer.await.context("no answer")?;
        let known = answer.map_err(|status| anyhow::anyhow!("{}", status.message()))?;
        for known in known.into_inner().known {
            let Ok(known) = Whereabouts::try_from(known) else {
                continue;
            };
            // What is not expected or allowed here does not count here.
            if let Err(why) = self.registry.hear(known, Instant::now()) {
                tracing::debug!(%why, "not taken over from a coordinator");
            }
        }
        Ok(())
    }
}
