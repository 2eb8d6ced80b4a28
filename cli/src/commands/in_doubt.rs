//! `gavel in-doubt`: what is prepared and not decided, as its shards see it.

use std::fmt::Write as _;

use anyhow::bail;
use gavel_client::{Gid, ShardInDoubt, ShardTag};
use serde_json::{Value, json};

use super::client::connect;
use crate::args::ClientArgs;
use crate::config::Config;
use crate::exit::Exit;
use crate::output::Output;

/// Lists prepared branches. A shard that cannot be asked makes the exit code 5: what it holds is
/// not known.
pub(crate) async fn list(
    config: Option<&Config>,
    client: &ClientArgs,
    output: Output,
) -> anyhow::Result<Exit> {
    let shards = connect(config, client).await?.in_doubt().await?;
    output.result(
        text(&shards),
        &json!({"shards": shards.iter().map(as_json).collect::<Vec<_>>()}),
    );
    let is_unknown = shards.iter().any(|shard| shard.branches.is_err());
    Ok(if is_unknown { Exit::InDoubt } else { Exit::Ok })
}

fn text(shards: &[ShardInDoubt]) -> String {
    let mut text = String::new();
    for shard in shards {
        let name = &shard.shard;
        let _infallible = match &shard.branches {
            Err(why) => writeln!(text, "{name}: cannot be asked: {why}"),
            Ok(branches) if branches.is_empty() => writeln!(text, "{name}: nothing prepared"),
            Ok(branches) => branches.iter().try_for_each(|branch| {
                let (gid, age, waits_for) = (&branch.gid, branch.age_ms, &branch.waits_for);
                writeln!(text, "{name}: {gid}  {age} ms  {waits_for}")
            }),
        };
    }
    text.truncate(text.trim_end().len());
    text
}

fn as_json(shard: &ShardInDoubt) -> Value {
    let name = shard.shard.as_str();
    match &shard.branches {
        Err(why) => json!({"shard": name, "error": why}),
        Ok(branches) => {
            let branches: Vec<Value> = branches
                .iter()
                .map(|branch| {
                    json!({
                        "gid": branch.gid.to_string(),
                        "age_ms": branch.age_ms,
                        "waits_for": branch.waits_for,
                    })
                })
                .collect();
            json!({"shard": name, "branches": branches})
        }
    }
}

/// What an operator wants of one branch.
pub(crate) struct Resolving<'a> {
    pub(crate) gid: &'a Gid,
    pub(crate) because: &'a str,
    pub(crate) dry_run: bool,
}

/// Says what will be done about one branch, and resolves it.
pub(crate) async fn resolve(
    config: Option<&Config>,
    client: &ClientArgs,
    resolving: Resolving<'_>,
    output: Output,
) -> anyhow::Result<Exit> {
    let Resolving {
        gid,
        because,
        dry_run,
    } = resolving;
    let gavel = connect(config, client).await?;
    let shards = gavel.shards();
    let name = |tag: ShardTag| {
        let name = shards.name(tag).map(ToString::to_string);
        name.unwrap_or_else(|| tag.to_string())
    };
    let plan = plan(gid, &gavel.in_doubt().await?, name);
    if dry_run {
        let plan = plan?;
        let document = json!({"gid": gid.to_string(), "would": plan});
        output.result(format!("would do this: {plan}"), &document);
        return Ok(Exit::Ok);
    }
    // Asked all the same if there is nothing to be done: who asked, and why, belongs on record.
    eprintln!("{}", plan.unwrap_or_else(|error| error.to_string()));
    let done = gavel.resolve(gid.clone(), because).await?;
    output.result(&done, &json!({"gid": gid.to_string(), "result": done}));
    Ok(Exit::Ok)
}

/// What resolving a branch does, if its shard has it prepared.
fn plan(
    gid: &Gid,
    shards: &[ShardInDoubt],
    name: impl Fn(ShardTag) -> String,
) -> anyhow::Result<String> {
    let (on, home) = (name(gid.shard), name(gid.home));
    let Some(shard) = shards.iter().find(|shard| shard.shard.as_str() == on) else {
        bail!("there is no shard {on}: is the gid of this deployment?");
    };
    let branches = match &shard.branches {
        Ok(branches) => branches,
        Err(why) => bail!("{on} cannot be asked: {why}"),
    };
    let Some(branch) = branches.iter().find(|branch| branch.gid == *gid) else {
        bail!("{on} has no such branch prepared: it is resolved already, or the gid is wrong");
    };
    let (age, waits_for) = (branch.age_ms, &branch.waits_for);
    Ok(format!(
        "ask {home} for the decision; if there is none, record there that the batch is aborted; \
         then commit or roll back on {on}, as it says. (Prepared for {age} ms. {waits_for})"
    ))
}
