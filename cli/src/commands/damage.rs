//! `gavel damage`: the damage that resolvers and auditors have recorded (R16).

use gavel_participant::damage::{self, RecordedDamage};
use serde_json::{Value, json};

use super::check::with_causes;
use super::everybody::Everybody;
use crate::config::Config;
use crate::exit::Exit;
use crate::output::Output;

/// Lists what every shard has recorded. Nothing is compared anew: that is `gavel audit`.
pub(crate) async fn run(config: &Config, output: Output) -> anyhow::Result<Exit> {
    let everybody = Everybody::open(config).await;
    let (mut lines, mut documents) = (Vec::new(), Vec::new());
    let (mut failed, mut broken) = (false, false);
    for (shard, error) in &everybody.failed {
        failed = true;
        lines.push(format!("{}: {}", shard.name, with_causes(error)));
        documents.push(json!({"shard": shard.name.as_str(), "error": with_causes(error)}));
    }
    for (shard, participant) in &everybody.opened {
        let name = shard.name.as_str();
        match damage::list(participant.service_pool()).await {
            Ok(found) => {
                broken |= !found.is_empty();
                lines.extend(found.iter().map(|each| text(name, each)));
                let found: Vec<Value> = found.iter().map(as_json).collect();
                documents.push(json!({"shard": name, "damage": found}));
            }
            Err(error) => {
                failed = true;
                lines.push(format!("{name}: {}", error.detail()));
                documents.push(json!({"shard": name, "error": error.detail()}));
            }
        }
    }
    let exit = match (broken, failed) {
        (true, _) => Exit::Damage,
        (false, true) => Exit::Failure,
        (false, false) => Exit::Ok,
    };
    if exit == Exit::Ok {
        lines.push("no damage is recorded".to_owned());
    }
    output.result(lines.join("\n"), &json!({"shards": documents}));
    Ok(exit)
}

fn text(shard: &str, damage: &RecordedDamage) -> String {
    let RecordedDamage {
        batch,
        gid: _,
        kind,
        detail,
        seen_at,
    } = damage;
    format!("DAMAGE {kind} on {shard}, batch {batch}, found {seen_at}: {detail}")
}

fn as_json(damage: &RecordedDamage) -> Value {
    json!({
        "batch": damage.batch,
        "gid": damage.gid,
        "kind": damage.kind,
        "detail": damage.detail,
        "seen_at": damage.seen_at,
    })
}
