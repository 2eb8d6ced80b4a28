//! Metrics for Prometheus, and health, on a listener of their own: whoever watches a service has
//! no business on the port that moves money.
//!
//! The recorder is installed before anything is measured. Without `metrics.listen` there is none,
//! and measuring costs nothing.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use futures::future::BoxFuture;
use gavel_coordinator::api::shard_health;
use http::{StatusCode, header};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use serde_json::json;
use tokio::net::TcpListener;

use super::network::listen;
use crate::config::Config;

/// Seconds; half a millisecond is a commit on one machine, half a minute the longest patience.
const SECONDS: &[f64] = &[
    0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0,
];

/// Members of a batch.
const MEMBERS: &[f64] = &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0];

/// How often what histograms have gathered is taken over.
const UPKEEP_EVERY: Duration = Duration::from_secs(1);

/// How a service says that it is well.
pub(crate) type Health = Arc<dyn Fn() -> BoxFuture<'static, Wellbeing> + Send + Sync>;

/// What a service says.
pub(crate) struct Wellbeing {
    /// Why it can do nothing for anybody, if that is so.
    pub(crate) not_ready: Option<String>,
    /// Every shard that it knows, and what is wrong with it.
    pub(crate) shards: Vec<(String, Option<String>)>,
}

/// A recorder that is installed, and a listener that nobody has been told of.
pub(crate) struct Observed {
    listener: TcpListener,
    recorder: PrometheusHandle,
}

/// Installs the recorder and listens, if that is wanted.
///
/// # Errors
/// The address cannot be listened on.
pub(crate) async fn install(
    config: &Config,
    asked: Option<SocketAddr>,
) -> anyhow::Result<Option<Observed>> {
    let Some(address) = asked.or(config.metrics.listen) else {
        return Ok(None);
    };
    let listener = listen(config, address, true).await?;
    let recorder = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), SECONDS)?
        .set_buckets_for_metric(Matcher::Full("gavel_batch_members".to_owned()), MEMBERS)?
        .install_recorder()
        .context("metrics are recorded already")?;
    metrics::describe_gauge!("gavel_build_info", "The version of this process: always 1");
    metrics::gauge!("gavel_build_info", "version" => env!("CARGO_PKG_VERSION")).set(1.0);
    Ok(Some(Observed { listener, recorder }))
}

impl Observed {
    /// Serves until the process ends: a service that stops is watched, too.
    pub(crate) fn serve(self, health: Health) -> anyhow::Result<()> {
        let Self { listener, recorder } = self;
        tracing::info!(address = %listener.local_addr()?, "metrics and health are served");
        let upkeep = recorder.clone();
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(UPKEEP_EVERY).await;
                upkeep.run_upkeep();
            }
        });
        let process = metrics_process::Collector::default();
        process.describe();
        let scraped = get(move || async move {
            process.collect();
            let text = [(
                header::CONTENT_TYPE,
                "text/plain; version=0.0.4; charset=utf-8",
            )];
            (text, recorder.render())
        });
        let router = Router::new()
            .route("/health/live", get(async || Json(json!({ "live": true }))))
            .route("/health/ready", get(ready))
            .route("/health/shards", get(shards))
            .with_state(health)
            .route("/metrics", scraped);
        let forever = std::future::pending();
        tokio::spawn(gavel_coordinator::api::serve(listener, router, forever));
        Ok(())
    }
}

async fn ready(State(health): State<Health>) -> Response {
    match health().await.not_ready {
        None => Json(json!({ "ready": true })).into_response(),
        Some(reason) => {
            let body = Json(json!({ "ready": false, "reason": reason }));
            (StatusCode::SERVICE_UNAVAILABLE, body).into_response()
        }
    }
}

async fn shards(State(health): State<Health>) -> Response {
    shard_health(health().await.shards)
}
