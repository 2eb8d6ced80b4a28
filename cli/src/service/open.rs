//! Opens a shard: migrates it if that is wanted, checks it, and waits for one that is down.

use std::collections::BTreeSet;
use std::time::Duration;

use gavel_migrations::MigrateError;
use gavel_participant::start_check::StartError;
use gavel_participant::{LocalParticipant, OpenError, ShardConfig as LocalConfig};
use gavel_protocol::ShardTag;

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

/// Tells a shard's database which shards the configuration has (R13). Returns the tags of those that
/// were removed, whose tables are still there.
///
/// # Errors
/// A shard is missing, or has a tag that was another's; or the database could not be asked.
pub(crate) async fn know_peers(
    config: &Config,
    participant: &LocalParticipant,
) -> anyhow::Result<BTreeSet<ShardTag>> {
    let shards = config.shard.iter();
    let shards = shards.map(|shard| (shard.tag, shard.name.clone()));
    let known = participant.know_peers(shards).await;
    let removed = known.inspect_err(|error| {
        let (code, why) = (error.code(), with_causes(error));
        tracing::error!(code, "the shards of the configuration: {why}");
    })?;
    for tag in &removed {
        tracing::warn!(shard = %tag, "it was removed: take its [[shard]] table out of the file");
    }
    Ok(removed)
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
