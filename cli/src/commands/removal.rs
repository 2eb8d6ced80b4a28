//! `gavel shard remove` (R13): a shard leaves the deployment only when no gid and no retained row
//! names it, and the others remember that its tag was used.
//!
//! Failure model: it may end at any point, and be run again. A shard that was retired prepares and
//! decides nothing any more, but still answers for what it has decided.

use anyhow::{Context as _, bail};
use gavel_participant::crash_point;
use gavel_protocol::ShardName;
use serde_json::{Value, json};

use super::shard::{ask, named};
use crate::config::{Config, ShardConfig, ShardState};
use crate::exit::Exit;
use crate::output::Output;

/// Something that names the shard.
struct Named {
    on: ShardName,
    what: String,
    example: String,
}

/// Removes the shard, or says what stands in the way.
pub(crate) async fn run(
    config: &Config,
    name: &ShardName,
    because: &str,
    dry_run: bool,
    output: Output,
) -> anyhow::Result<Exit> {
    let shard = named(config, name)?;
    if shard.state != ShardState::Draining {
        bail!(
            "shard `{name}` takes transactions: set state = \"draining\" in its [[shard]] table, \
             and let every process take that over (`gavel doctor` says whether they have)"
        );
    }
    let others: Vec<&ShardConfig> = config
        .shard
        .iter()
        .filter(|other| other.tag != shard.tag)
        .collect();
    if others.is_empty() {
        bail!("`{name}` is the only shard: a deployment has at least one");
    }
    let in_the_way = who_names(shard, config.shard.iter()).await?;
    if !in_the_way.is_empty() {
        return Ok(refused(name, &in_the_way, output));
    }
    let plan = plan(name, &others);
    if dry_run {
        let document = json!({"shard": name.as_str(), "would": plan, "removed": false});
        output.result(
            format!(
                "nothing names {name}. It would be removed so:\n{}",
                lines(&plan)
            ),
            &document,
        );
        return Ok(Exit::Ok);
    }
    eprintln!("nothing names {name}. Removing it:\n{}", lines(&plan));
    if !retire(shard, because).await? {
        bail!("{name} has been used just now: does every process know that it is draining?");
    }
    crash_point!("operator.remove.retired");
    // What others prepared for it until a moment ago is resolved with its help.
    let in_the_way = who_names(shard, others.iter().copied()).await?;
    if !in_the_way.is_empty() {
        return Ok(refused(name, &in_the_way, output));
    }
    for other in &others {
        note(other, shard, because).await?;
        crash_point!("operator.remove.noted");
    }
    output.result(
        format!(
            "{name} is removed. Take its [[shard]] table out of every process's configuration, \
             then stop its participant"
        ),
        &json!({"shard": name.as_str(), "removed": true}),
    );
    Ok(Exit::Ok)
}

fn plan(name: &ShardName, others: &[&ShardConfig]) -> Vec<String> {
    let retired = format!("{name} prepares and decides nothing any more, for good");
    let noted = others.iter().map(|other| {
        let other = &other.name;
        format!("{other} remembers that {name} was removed, by whom and why")
    });
    [retired].into_iter().chain(noted).collect()
}

fn lines(plan: &[String]) -> String {
    let lines: Vec<String> = plan.iter().map(|step| format!("  - {step}")).collect();
    lines.join("\n")
}

fn refused(name: &ShardName, in_the_way: &[Named], output: Output) -> Exit {
    let text: Vec<String> = in_the_way
        .iter()
        .map(|Named { on, what, example }| format!("{on}: {what} {example}"))
        .collect();
    let documents: Vec<Value> = in_the_way
        .iter()
        .map(|Named { on, what, example }| {
            json!({"on": on.as_str(), "what": what, "example": example})
        })
        .collect();
    output.result(
        format!(
            "{name} cannot be removed yet, because something names it:\n{}\nBranches in doubt \
             are resolved (`gavel in-doubt list`); rows are dropped by retention, whole days \
             after retention_ms (`gavel retention show`)",
            text.join("\n")
        ),
        &json!({"shard": name.as_str(), "removed": false, "named_by": documents}),
    );
    Exit::Failure
}

/// What names `shard` on each of `on`; all of them have to answer.
async fn who_names(
    shard: &ShardConfig,
    on: impl Iterator<Item = &ShardConfig>,
) -> anyhow::Result<Vec<Named>> {
    let tag = i32::from(shard.tag.0);
    let asked = on.map(|each| async move {
        let sql = "SELECT what, example FROM gavel.names_shard($1)";
        let rows = ask(each.database_url().expose(), sql, &[&tag]).await;
        let rows = rows.with_context(|| cannot_be_asked(&each.name))?;
        let named = rows.iter().map(|row| {
            Ok(Named {
                on: each.name.clone(),
                what: row.try_get(0)?,
                example: row.try_get(1)?,
            })
        });
        named.collect::<anyhow::Result<Vec<Named>>>()
    });
    let named = futures::future::try_join_all(asked).await?;
    Ok(named.into_iter().flatten().collect())
}

async fn retire(shard: &ShardConfig, because: &str) -> anyhow::Result<bool> {
    let url = shard.database_url().expose();
    let rows = ask(url, "SELECT gavel.retire($1)", &[&because]).await;
    let rows = rows.with_context(|| cannot_be_asked(&shard.name))?;
    let row = rows.first().context("the database gave no answer")?;
    Ok(row.try_get(0)?)
}

async fn note(on: &ShardConfig, shard: &ShardConfig, because: &str) -> anyhow::Result<()> {
    let sql = "SELECT gavel.remove_peer($1, $2)";
    let params: [&(dyn tokio_postgres::types::ToSql + Sync); 2] =
        [&i32::from(shard.tag.0), &because];
    let rows = ask(on.database_url().expose(), sql, &params).await;
    let rows = rows.with_context(|| cannot_be_asked(&on.name))?;
    let noted: bool = rows.first().context("no answer")?.try_get(0)?;
    if noted {
        return Ok(());
    }
    bail!(
        "{} names {} again: run this command once more",
        on.name,
        shard.name
    )
}

fn cannot_be_asked(name: &ShardName) -> String {
    format!("shard `{name}` has to be asked, and did not answer; the command may be run again")
}
