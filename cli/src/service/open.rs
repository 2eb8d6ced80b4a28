//! Opens a shard: migrates it if that is wanted, checks it, and waits for one that is down.

use std::time::Duration;

use gavel_migrations::MigrateError;
use gavel_participant::start_check::StartError;
use gavel_participant::{LocalParticipant, OpenError, ShardConfig as LocalConfig};

use crate::commands::check::with_causes;
use crate::commands::migrate::migrate;
use crate::config::{Config, ShardConfig};

const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// Opens the shard; waits as long as it cannot be reached.
///
/// # Errors
/// What waiting cannot mend, with the fix.
pub(crate) async fn open(config: &Config, shard: &ShardConfig) -> anyhow::Result<LocalParticipant> {
    let mut pause = FIRST_PAUSE;
    loop {
        let error = match try_open(config, shard).await {
            Ok(participant) => return Ok(participant),
            Err(error) => error,
        };
        if !can_pass(&error) {
            return Err(error);
        }
        let cause = error.chain().map(ToString::to_string).collect::<Vec<_>>();
        tracing::warn!(
            shard = %shard.name,
            again_in_ms = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX),
            cause = cause.join(": "),
            "the shard is down; waiting for it"
        );
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

async fn try_open(config: &Config, shard: &ShardConfig) -> anyhow::Result<LocalParticipant> {
    if config.migrate_on_start && shard.admin_url.is_some() {
        let report = migrate(config, shard, None).await?;
        if report.version_before != Some(report.version) {
            tracing::info!(shard = %shard.name, version = report.version, "schema migrated");
        }
    }
    let opened = LocalParticipant::open(local_config(config, shard)).await;
    opened.map_err(|error| {
        if let OpenError::Check { cause, .. } = &error
            && !matches!(**cause, StartError::Unreachable(_))
        {
            let (code, why) = (cause.code(), with_causes(cause));
            tracing::error!(shard = %shard.name, code, "the shard is not served: {why}");
        }
        error.into()
    })
}

/// What a participant in this process needs to know.
pub(crate) fn local_config(config: &Config, shard: &ShardConfig) -> LocalConfig {
    LocalConfig {
        deployment: config.deployment.clone(),
        name: shard.name.clone(),
        tag: shard.tag,
        database_url: shard.database_url().expose().to_owned(),
        limits: config.limits.clone(),
    }
}

/// Whether waiting may help.
fn can_pass(error: &anyhow::Error) -> bool {
    let is_unreachable = |open: &OpenError| match open {
        OpenError::Check { cause, .. } => matches!(**cause, StartError::Unreachable(_)),
        OpenError::Url { .. } => false,
    };
    error.downcast_ref().is_some_and(is_unreachable)
        || error
            .downcast_ref()
            .is_some_and(|migrate: &MigrateError| match migrate {
                MigrateError::Connect { .. } => true,
                other => is_connection_loss(other),
            })
}

/// A server that goes down in the middle of a migration.
fn is_connection_loss(error: &MigrateError) -> bool {
    let mut cause = std::error::Error::source(error);
    while let Some(each) = cause {
        if each.is::<std::io::Error>() {
            return true;
        }
        cause = each.source();
    }
    false
}
