//! `gavel actions`: what operators did to the shards themselves.

use gavel_participant::actions::{self, Action};
use serde_json::{Value, json};

use super::check::with_causes;
use super::everybody::Everybody;
use crate::config::Config;
use crate::exit::Exit;
use crate::output::Output;

/// Lists what every shard has on record, in the order in which it was done by the shards' clocks.
pub(crate) async fn run(config: &Config, output: Output) -> anyhow::Result<Exit> {
    let everybody = Everybody::open(config).await;
    let mut done: Vec<(&str, Action)> = Vec::new();
    let mut failed: Vec<(&str, String)> = Vec::new();
    for (shard, error) in &everybody.failed {
        failed.push((shard.name.as_str(), with_causes(error)));
    }
    for (shard, participant) in &everybody.opened {
        let name = shard.name.as_str();
        match actions::list(participant.service_pool()).await {
            Ok(actions) => done.extend(actions.into_iter().map(|action| (name, action))),
            Err(error) => failed.push((name, error.detail())),
        }
    }
    done.sort_by(|(_, one), (_, other)| one.at.cmp(&other.at));
    let mut lines: Vec<String> = done.iter().map(|(shard, each)| text(shard, each)).collect();
    lines.extend(failed.iter().map(|(shard, why)| format!("{shard}: {why}")));
    if lines.is_empty() {
        lines.push("nothing is on record".to_owned());
    }
    let documents: Vec<Value> = done
        .iter()
        .map(|(shard, each)| as_json(shard, each))
        .collect();
    let errors: Vec<Value> = failed
        .iter()
        .map(|(shard, why)| json!({"shard": shard, "error": why}))
        .collect();
    let document = json!({"actions": documents, "errors": errors});
    output.result(lines.join("\n"), &document);
    Ok(match failed.is_empty() {
        true => Exit::Ok,
        false => Exit::Failure,
    })
}

fn text(shard: &str, action: &Action) -> String {
    let Action {
        id: _,
        at,
        by,
        what,
        because,
    } = action;
    // A line is one action, whatever a reason says.
    let because = because.escape_debug();
    format!("{at} {shard}: {what}, by {by}: {because}")
}

fn as_json(shard: &str, action: &Action) -> Value {
    json!({
        "shard": shard,
        "id": action.id,
        "at": action.at,
        "by": action.by,
        "what": action.what,
        "because": action.because,
    })
}
