//! Where the spans of a service go.

use gavel_spans::{Collector, Service};

use crate::config::{Config, ShardConfig};

/// From now on, spans go to the collector of the configuration, if there is one. `name` is what
/// the process is; `shard` the one that it serves, if it serves one.
///
/// # Errors
/// The collector's address cannot be used. One that does not answer is no error: it may later.
pub(super) fn install(
    config: &Config,
    name: &str,
    shard: Option<&ShardConfig>,
) -> anyhow::Result<()> {
    let Some(endpoint) = &config.tracing.endpoint else {
        return Ok(());
    };
    let shard = shard.map(|shard| ("gavel.shard", shard.name.to_string()));
    let service = Service {
        name: name.to_owned(),
        namespace: config.deployment.to_string(),
        version: env!("CARGO_PKG_VERSION"),
        attributes: shard.into_iter().collect(),
    };
    let collector = Collector::start(endpoint, &service)?;
    gavel_spans::install(Box::new(collector), config.tracing.roots);
    tracing::info!(%endpoint, "spans are sent");
    Ok(())
}
