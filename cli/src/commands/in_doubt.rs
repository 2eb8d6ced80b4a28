//! `gavel in-doubt`: what is prepared and not decided, as its shards see it.

use std::fmt::Write as _;

use gavel_client::{Gid, ShardInDoubt};
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

/// Resolves one branch.
pub(crate) async fn resolve(
    config: Option<&Config>,
    client: &ClientArgs,
    (gid, because): (&Gid, &str),
    output: Output,
) -> anyhow::Result<Exit> {
    let gavel = connect(config, client).await?;
    let done = gavel.resolve(gid.clone(), because).await?;
    output.result(&done, &json!({"gid": gid.to_string(), "result": done}));
    Ok(Exit::Ok)
}
