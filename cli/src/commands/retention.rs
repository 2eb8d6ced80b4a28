//! `gavel retention` (R14): what participants do a few times a day, now and visibly.

use gavel_participant::Participant as _;
use gavel_participant::actions;
use gavel_participant::retention::{
    CycleReport, Droppable, RetentionError, cycle, droppable, look_ahead,
};
use gavel_protocol::message::Retention;
use serde_json::{Value, json};

use super::check::with_causes;
use super::everybody::Everybody;
use crate::config::Config;
use crate::exit::Exit;
use crate::output::Output;
use crate::service::know_peers;

/// Runs one cycle on every shard, or nothing at all while one of them cannot be asked: a shard
/// that is missing from the directory would not be verified, and might still need what is
/// dropped elsewhere.
pub(crate) async fn run(
    config: &Config,
    because: &str,
    dry_run: bool,
    output: Output,
) -> anyhow::Result<Exit> {
    let everybody = Everybody::open(config).await;
    let directory = everybody.directory();
    let (mut lines, mut documents, mut failed) = failures(&everybody);
    for (shard, participant) in &everybody.opened {
        // A shard that is missing from the file would not be asked either.
        if let Err(error) = know_peers(config, participant).await {
            failed = true;
            lines.push(format!("{}: {error:#}", shard.name));
            documents.push(json!({"shard": shard.name.as_str(), "error": format!("{error:#}")}));
        }
    }
    if dry_run && !failed {
        return look(&everybody, output).await;
    }
    if failed {
        lines.push("nothing was dropped: every shard has to be asked first".to_owned());
        output.result(lines.join("\n"), &json!({"shards": documents}));
        return Ok(Exit::Failure);
    }
    for (_, participant) in &everybody.opened {
        actions::note(participant.service_pool(), "retention run", because).await?;
    }
    for (shard, participant) in &everybody.opened {
        let result = cycle(participant.service_pool(), shard.tag, &directory).await;
        failed |= result.is_err();
        lines.push(format!("{}: {}", shard.name, describe(&result)));
        documents.push(as_json(shard.name.as_str(), &result));
    }
    output.result(lines.join("\n"), &json!({"shards": documents}));
    Ok(if failed { Exit::Failure } else { Exit::Ok })
}

/// Says what a cycle on every shard would drop, and what would keep it from more.
async fn look(everybody: &Everybody<'_>, output: Output) -> anyhow::Result<Exit> {
    let directory = everybody.directory();
    let mut ahead = Vec::new();
    for (shard, participant) in &everybody.opened {
        let pool = participant.service_pool();
        ahead.push((shard, pool, look_ahead(pool, shard.tag, &directory).await?));
    }
    let verified = ahead.iter().map(|(.., ahead)| ahead.verified_floor_ms);
    let lowest = verified.min().unwrap_or(0);
    let (mut lines, mut documents) = (Vec::new(), Vec::new());
    for (shard, pool, ahead) in ahead {
        let name = shard.name.as_str();
        let Droppable {
            branch_partitions: branches,
            decision_partitions: decisions,
        } = droppable(pool, lowest).await?;
        let waits = ahead.waits_for.as_ref();
        let waits = waits.map_or_else(String::new, |why| format!("; waits: {why}"));
        lines.push(format!(
            "{name}: would drop {branches} branch and {decisions} decision partitions; floor {}{waits}",
            ahead.floor_ms
        ));
        documents.push(json!({
            "shard": name,
            "would_drop": {"branch_partitions": branches, "decision_partitions": decisions},
            "floor_ms": ahead.floor_ms,
            "waits_for": ahead.waits_for,
        }));
    }
    output.result(lines.join("\n"), &json!({"shards": documents}));
    Ok(Exit::Ok)
}

/// Shows the floors of every shard.
pub(crate) async fn show(config: &Config, output: Output) -> anyhow::Result<Exit> {
    let everybody = Everybody::open(config).await;
    let (mut lines, mut documents, mut failed) = failures(&everybody);
    for (shard, participant) in &everybody.opened {
        let name = &shard.name;
        match participant.retention().await {
            Ok(floors) => {
                lines.push(format!("{name}: {}", floors_text(floors)));
                documents.push(json!({"shard": name.as_str(), "floors": floors_json(floors)}));
            }
            Err(error) => {
                failed = true;
                lines.push(format!("{name}: {error}"));
                documents.push(json!({"shard": name.as_str(), "error": error.to_string()}));
            }
        }
    }
    output.result(lines.join("\n"), &json!({"shards": documents}));
    Ok(if failed { Exit::Failure } else { Exit::Ok })
}

fn failures(everybody: &Everybody<'_>) -> (Vec<String>, Vec<Value>, bool) {
    let (mut lines, mut documents) = (Vec::new(), Vec::new());
    for (shard, error) in &everybody.failed {
        let why = with_causes(error);
        lines.push(format!("{}: {why}", shard.name));
        documents.push(json!({"shard": shard.name.as_str(), "error": why}));
    }
    (lines, documents, !everybody.failed.is_empty())
}

fn describe(result: &Result<CycleReport, RetentionError>) -> String {
    match result {
        Err(error) => with_causes(error),
        Ok(report) => {
            let CycleReport {
                days_created,
                branch_partitions_dropped: branches,
                decision_partitions_dropped: decisions,
                floors,
                waits_for,
            } = report;
            let waits = waits_for.as_ref().map(|why| format!("; waits: {why}"));
            format!(
                "{days_created} days of partitions created, {branches} branch and {decisions} \
                 decision partitions dropped; {}{}",
                floors_text(*floors),
                waits.unwrap_or_default()
            )
        }
    }
}

fn as_json(name: &str, result: &Result<CycleReport, RetentionError>) -> Value {
    match result {
        Err(error) => json!({"shard": name, "error": with_causes(error)}),
        Ok(report) => json!({
            "shard": name,
            "days_created": report.days_created,
            "branch_partitions_dropped": report.branch_partitions_dropped,
            "decision_partitions_dropped": report.decision_partitions_dropped,
            "floors": floors_json(report.floors),
            "waits_for": report.waits_for,
        }),
    }
}

/// Unix milliseconds, 0 for never moved.
fn floors_text(floors: Retention) -> String {
    format!(
        "floor {}, verified {}, branches dropped below {}, decisions dropped below {}",
        floors.floor_ms, floors.verified_floor_ms, floors.branch_floor_ms, floors.dropped_floor_ms
    )
}

fn floors_json(floors: Retention) -> Value {
    json!({
        "floor_ms": floors.floor_ms,
        "verified_floor_ms": floors.verified_floor_ms,
        "branch_floor_ms": floors.branch_floor_ms,
        "dropped_floor_ms": floors.dropped_floor_ms,
    })
}
