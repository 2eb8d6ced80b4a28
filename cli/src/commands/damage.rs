//! `gavel damage`: the damage that resolvers and auditors have recorded (R16).

use anyhow::bail;
use gavel_participant::LocalParticipant;
use gavel_participant::damage::{self, Acknowledged, RecordedDamage};
use serde_json::{Value, json};

use super::check::with_causes;
use super::everybody::Everybody;
use super::shard::{as_admin, named};
use crate::args::{DamageArgs, DamageCommand};
use crate::config::{Config, ShardConfig};
use crate::exit::Exit;
use crate::output::Output;
use crate::service::local_config;

/// Lists damage, or acknowledges it.
pub(crate) async fn run(
    config: &Config,
    args: &DamageArgs,
    output: Output,
) -> anyhow::Result<Exit> {
    match &args.command {
        None => list(config, output).await,
        Some(DamageCommand::Acknowledge {
            shard,
            id,
            because,
            dry_run,
            admin_url,
        }) => {
            let shard = named(config, shard)?;
            if *dry_run {
                return show(config, shard, *id, output).await;
            }
            let sql = "SELECT gavel.acknowledge_damage($1, $2)";
            let known: bool = as_admin(shard, admin_url.as_deref(), sql, &[id, because]).await?;
            let name = &shard.name;
            if !known {
                bail!("{name} has no damage with id {id}: `gavel damage` lists what it has");
            }
            output.result(
                format!("{name}: damage {id} is acknowledged"),
                &json!({"shard": name.as_str(), "acknowledged": id}),
            );
            Ok(Exit::Ok)
        }
    }
}

/// Shows the record that would be acknowledged.
async fn show(
    config: &Config,
    shard: &ShardConfig,
    id: i64,
    output: Output,
) -> anyhow::Result<Exit> {
    let name = shard.name.as_str();
    let participant = LocalParticipant::open(local_config(config, shard)).await?;
    let recorded = damage::list(participant.service_pool()).await?;
    let Some(found) = recorded.iter().find(|each| each.id == id) else {
        bail!("{name} has no damage with id {id}: `gavel damage` lists what it has");
    };
    output.result(
        format!("would acknowledge this: {}", text(name, found)),
        &json!({"shard": name, "would_acknowledge": as_json(found)}),
    );
    Ok(Exit::Ok)
}

/// Lists what every shard has recorded. Nothing is compared anew: that is `gavel audit`.
async fn list(config: &Config, output: Output) -> anyhow::Result<Exit> {
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
                broken |= found.iter().any(|each| each.acknowledged.is_none());
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
    if lines.is_empty() {
        lines.push("no damage is recorded".to_owned());
    }
    output.result(lines.join("\n"), &json!({"shards": documents}));
    Ok(exit)
}

fn text(shard: &str, damage: &RecordedDamage) -> String {
    let RecordedDamage {
        id,
        batch,
        gid: _,
        kind,
        detail,
        seen_at,
        acknowledged,
    } = damage;
    let what = format!("{kind} on {shard}, id {id}, batch {batch}, found {seen_at}: {detail}");
    match acknowledged {
        None => format!("DAMAGE {what}"),
        Some(Acknowledged { at, by, because }) => {
            format!("damage {what}; acknowledged {at} by {by}: {because}")
        }
    }
}

fn as_json(damage: &RecordedDamage) -> Value {
    let acknowledged = damage.acknowledged.as_ref().map(|each| {
        let Acknowledged { at, by, because } = each;
        json!({"at": at, "by": by, "because": because})
    });
    json!({
        "id": damage.id,
        "acknowledged": acknowledged,
        "batch": damage.batch,
        "gid": damage.gid,
        "kind": damage.kind,
        "detail": damage.detail,
        "seen_at": damage.seen_at,
    })
}
