//! The certificates of a process.

use anyhow::Context as _;
use gavel_tls::{Role, Tls};

use crate::config::{Config, ShardConfig};

/// What a coordinator is called where files are named after processes.
pub(crate) const COORDINATOR: &str = "coordinator";

/// What a command is called there.
pub(crate) const OPERATOR: &str = "operator";

/// What the participant of `shard` is called there.
pub(crate) fn participant(shard: &ShardConfig) -> String {
    format!("participant-{}", shard.name)
}

/// The certificate of the process called `name`, if there are any. Its role must be `role`: what
/// is wrong is said here, and not by those who later refuse the connections.
pub(crate) fn load(config: &Config, name: &str, role: Role) -> anyhow::Result<Option<Tls>> {
    let Some(tls) = &config.tls else {
        return Ok(None);
    };
    let tls = Tls::load(tls.files(name), config.deployment.clone())
        .context("[tls] cannot be used; `gavel certs` makes certificates for a trial")?;
    match tls.identity() {
        Some(identity) if identity.role == role => {
            tracing::info!(%identity, "connections are encrypted");
        }
        found => {
            let found = found.map_or_else(|| "nobody".to_owned(), |found| format!("`{found}`"));
            anyhow::bail!(
                "[tls]: the certificate is that of {found}; it needs exactly one alternative name \
                 spiffe://{}/gavel/{role}/NAME; see docs/security.md",
                config.deployment
            )
        }
    }
    Ok(Some(tls))
}
