//! `gavel audit` (R16): compares branches and decisions on all shards, in both directions.

use std::collections::BTreeMap;

use gavel_participant::audit::{self, AuditReport, Finding};
use gavel_protocol::ShardTag;
use serde_json::{Value, json};

use super::check::with_causes;
use super::everybody::Everybody;
use crate::config::Config;
use crate::exit::Exit;
use crate::output::Output;

/// Audits everything that can be asked. A shard that cannot is named, and never counts as fine.
pub(crate) async fn run(config: &Config, output: Output) -> anyhow::Result<Exit> {
    let everybody = Everybody::open(config).await;
    let mut report = audit::audit(&everybody.directory()).await;
    for (shard, error) in &everybody.failed {
        report.not_audited.insert(shard.tag, with_causes(error));
    }
    for (shard, participant) in &everybody.opened {
        let shown_here = report.damage.iter().filter(|each| each.shard == shard.tag);
        for finding in shown_here {
            if let Err(error) = audit::record(participant.service_pool(), finding).await {
                let detail = error.detail();
                tracing::warn!(shard = %shard.name, detail, "the damage could not be recorded");
            }
        }
    }
    let names = names(config);
    output.result(text(&report, &names), &as_json(&report, &names));
    Ok(
        match (report.damage.is_empty(), report.not_audited.is_empty()) {
            (false, _) => Exit::Damage,
            (true, false) => Exit::Failure,
            (true, true) => Exit::Ok,
        },
    )
}

type Names<'c> = BTreeMap<ShardTag, &'c str>;

fn names(config: &Config) -> Names<'_> {
    let shards = config.shard.iter();
    shards
        .map(|shard| (shard.tag, shard.name.as_str()))
        .collect()
}

/// The configuration may know fewer shards than the data does.
fn name(names: &Names<'_>, tag: ShardTag) -> String {
    names
        .get(&tag)
        .map_or_else(|| format!("tag {tag}"), |name| (*name).to_owned())
}

fn text(report: &AuditReport, names: &Names<'_>) -> String {
    let (branches, decisions) = (report.branches, report.decisions);
    let mut lines = vec![format!(
        "{branches} branches and {decisions} decisions compared"
    )];
    for Finding {
        shard,
        home,
        batch,
        kind,
        evidence,
    } in &report.damage
    {
        lines.push(format!(
            "DAMAGE {} on {} (home {}), batch {batch}: {evidence}",
            kind.as_str(),
            name(names, *shard),
            name(names, *home)
        ));
    }
    for (tag, why) in &report.not_audited {
        lines.push(format!("not audited: {}: {why}", name(names, *tag)));
    }
    lines.push(
        match (report.damage.is_empty(), report.not_audited.is_empty()) {
            (false, _) => "atomicity is broken".to_owned(),
            (true, false) => "no damage found, but not everything was audited".to_owned(),
            (true, true) => "no damage".to_owned(),
        },
    );
    lines.join("\n")
}

fn as_json(report: &AuditReport, names: &Names<'_>) -> Value {
    let damage: Vec<Value> = report
        .damage
        .iter()
        .map(|finding| {
            json!({
                "kind": finding.kind.as_str(),
                "shard": name(names, finding.shard),
                "home": name(names, finding.home),
                "batch": finding.batch,
                "evidence": finding.evidence,
            })
        })
        .collect();
    let not_audited: Vec<Value> = report
        .not_audited
        .iter()
        .map(|(tag, why)| json!({"shard": name(names, *tag), "reason": why}))
        .collect();
    json!({
        "clean": report.is_clean(),
        "branches": report.branches,
        "decisions": report.decisions,
        "damage": damage,
        "not_audited": not_audited,
    })
}
