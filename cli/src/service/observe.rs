//! Metrics for Prometheus, and health, on a listener of their own: whoever watches a service has
//! no business on the port that moves money.
//!
//! The recorder is installed before anything is measured. Without `metrics.listen` there is none,
//! and measuring costs nothing.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use anyhow::Context as _;
use axum::extract::{Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use futures::future::BoxFuture;
use gavel_coordinator::api::shard_health;
use gavel_tls::{Acceptor, ClientCertificates, Peer, Role, Tls};
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

/// When this process's certificate ends.
const EXPIRY: &str = "gavel_certificate_expiry_timestamp_seconds";

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
    acceptor: Acceptor,
    tls: Option<Tls>,
    recorder: PrometheusHandle,
}

/// Installs the recorder and listens, if that is wanted.
///
/// # Errors
/// The address cannot be listened on.
pub(crate) async fn install(
    config: &Config,
    asked: Option<SocketAddr>,
    tls: Option<&Tls>,
) -> anyhow::Result<Option<Observed>> {
    let Some(address) = asked.or(config.metrics.listen) else {
        return Ok(None);
    };
    let certificates = tls.map(|tls| (tls.clone(), ClientCertificates::Optional));
    let (listener, acceptor) = listen(config, address, true, certificates).await?;
    let recorder = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), SECONDS)?
        .set_buckets_for_metric(Matcher::Full("gavel_batch_members".to_owned()), MEMBERS)?
        .install_recorder()
        .context("metrics are recorded already")?;
    metrics::describe_gauge!(
        EXPIRY,
        "When this process's certificate ends, in Unix seconds"
    );
    metrics::describe_gauge!("gavel_build_info", "The version of this process: always 1");
    metrics::gauge!("gavel_build_info", "version" => env!("CARGO_PKG_VERSION")).set(1.0);
    Ok(Some(Observed {
        listener,
        acceptor,
        tls: tls.cloned(),
        recorder,
    }))
}

impl Observed {
    /// Serves until the process ends: a service that stops is watched, too.
    pub(crate) fn serve(self, health: Health) -> anyhow::Result<()> {
        let Self {
            listener,
            acceptor,
            tls,
            recorder,
        } = self;
        tracing::info!(address = %listener.local_addr()?, "metrics and health are served");
        let upkeep = recorder.clone();
        tokio::spawn(async move {
            loop {
                note_expiry(tls.as_ref());
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
            .route("/health/shards", get(shards))
            .route("/metrics", scraped)
            .layer(middleware::from_fn(authorize))
            .route("/health/live", get(async || Json(json!({ "live": true }))))
            .route("/health/ready", get(ready))
            .with_state(health);
        let forever = std::future::pending();
        tokio::spawn(gavel_coordinator::api::serve(
            listener, acceptor, router, forever,
        ));
        Ok(())
    }
}

/// With TLS, what the metrics say about traffic is for those who watch, and for operators. Whether
/// a process lives and is ready is for everybody: probes have no certificates.
async fn authorize(request: Request, next: Next) -> Response {
    let status = match request.extensions().get() {
        Some(Peer::Unverified) => None,
        Some(Peer::Known(identity)) => match identity.role {
            Role::Metrics | Role::Operator => None,
            Role::Coordinator | Role::Participant | Role::Client => Some(StatusCode::FORBIDDEN),
        },
        Some(Peer::Anonymous) | None => Some(StatusCode::UNAUTHORIZED),
    };
    match status {
        None => next.run(request).await,
        Some(status) => {
            let reason = "a certificate with the role metrics or operator is needed";
            (status, Json(json!({ "reason": reason }))).into_response()
        }
    }
}

fn note_expiry(tls: Option<&Tls>) {
    let Some(end) = tls.and_then(Tls::not_after) else {
        return;
    };
    let since_epoch = end.duration_since(UNIX_EPOCH).unwrap_or_default();
    metrics::gauge!(EXPIRY).set(since_epoch.as_secs_f64());
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
