//! `gavel check`: the configuration, and what every shard's participant would find at start.
//!
//! Changes nothing. The configuration has been checked before this runs: a broken one ends the
//! program with exit code 2 and all its problems.

use anyhow::Context as _;
use futures::future::join_all;
use gavel_participant::service_pool::{ServicePool, ServicePoolConfig};
use gavel_participant::start_check::{self, Checked, StartError};
use gavel_tls::DatabaseUrl;
use serde_json::{Value, json};

use crate::config::{Config, ShardConfig};
use crate::exit::Exit;
use crate::output::Output;
use crate::service::expected;

/// Checks all shards at once and prints what is wrong, with the fix.
pub(crate) async fn run(config: &Config, output: Output) -> anyhow::Result<Exit> {
    let results = join_all(config.shard.iter().map(|shard| check(config, shard))).await;
    let (mut lines, mut documents, mut failed) = (Vec::new(), Vec::new(), false);
    for (shard, result) in config.shard.iter().zip(results) {
        let result = result?;
        failed |= result.is_err();
        lines.extend(describe(shard, &result));
        documents.push(as_json(shard, &result));
    }
    lines.push(match failed {
        true => "not ready: mend what is marked as failed".to_owned(),
        false => "ready".to_owned(),
    });
    output.result(
        lines.join("\n"),
        &json!({"ok": !failed, "shards": documents}),
    );
    Ok(if failed { Exit::Failure } else { Exit::Ok })
}

async fn check(
    config: &Config,
    shard: &ShardConfig,
) -> anyhow::Result<Result<Checked, StartError>> {
    let pool = pool(config, shard)?;
    Ok(start_check::check(&pool, &expected(config, shard)).await)
}

/// A pool for questions to one shard; nothing is connected yet.
pub(crate) fn pool(config: &Config, shard: &ShardConfig) -> anyhow::Result<ServicePool> {
    let database = DatabaseUrl::parse(shard.database_url().expose());
    Ok(ServicePool::new(ServicePoolConfig {
        database: database.context("database_url is not a usable address")?,
        limits: config.limits.clone(),
    }))
}

fn describe(shard: &ShardConfig, result: &Result<Checked, StartError>) -> Vec<String> {
    let name = &shard.name;
    match result {
        Ok(checked) => {
            let incarnation = checked.identity.incarnation;
            let slots = checked.slots;
            let mut lines = vec![format!(
                "{name}: good (tag {}, incarnation {incarnation}, {slots} prepared slots)",
                shard.tag
            )];
            let warnings = checked.warnings.iter();
            lines.extend(warnings.map(|each| format!("{name}: warning {}: {each}", each.code())));
            if checked.foreign_prepared > 0 {
                let foreign = checked.foreign_prepared;
                lines.push(format!(
                    "{name}: {foreign} prepared transactions are not Gavel's"
                ));
            }
            lines
        }
        Err(error) => vec![format!(
            "{name}: failed {}: {}",
            error.code(),
            with_causes(error)
        )],
    }
}

fn as_json(shard: &ShardConfig, result: &Result<Checked, StartError>) -> Value {
    let name = shard.name.as_str();
    match result {
        Ok(checked) => {
            let warnings: Vec<Value> = checked
                .warnings
                .iter()
                .map(|each| json!({"code": each.code(), "message": each.to_string()}))
                .collect();
            json!({
                "shard": name,
                "ok": true,
                "incarnation": checked.identity.incarnation,
                "prepared_slots": checked.slots,
                "foreign_prepared": checked.foreign_prepared,
                "warnings": warnings,
            })
        }
        Err(error) => json!({
            "shard": name,
            "ok": false,
            "code": error.code(),
            "message": with_causes(error),
        }),
    }
}

/// The error with its causes, on one line.
pub(crate) fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        text = format!("{text}: {next}");
        cause = next.source();
    }
    text
}
