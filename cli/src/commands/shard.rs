//! `gavel shard`: what an operator does to a shard itself.

use anyhow::{Context as _, bail};
use gavel_protocol::ShardName;
use gavel_tls::DatabaseUrl;
use serde_json::json;
use tokio_postgres::Row;
use tokio_postgres::types::{FromSql, ToSql};

use crate::config::{Config, ShardConfig};
use crate::exit::Exit;
use crate::output::Output;

/// The shard called `name`, or an error that lists the others.
pub(crate) fn named<'c>(config: &'c Config, name: &ShardName) -> anyhow::Result<&'c ShardConfig> {
    let names = || {
        let names: Vec<&str> = config
            .shard
            .iter()
            .map(|shard| shard.name.as_str())
            .collect();
        names.join(", ")
    };
    config.shard(name).with_context(|| {
        format!(
            "there is no shard `{name}`; the configuration has {}",
            names()
        )
    })
}

/// How a new life begins.
pub(crate) struct NewIncarnation<'a> {
    pub(crate) because: &'a str,
    pub(crate) admin_url: Option<&'a str>,
}

/// Begins a new life of a shard (R13), or says what that would do.
pub(crate) async fn new_incarnation(
    config: &Config,
    name: &ShardName,
    birth: NewIncarnation<'_>,
    dry_run: bool,
    output: Output,
) -> anyhow::Result<Exit> {
    let shard = named(config, name)?;
    let NewIncarnation { because, admin_url } = birth;
    let sql = "SELECT incarnation FROM gavel.whoami()";
    let now: i64 = as_admin(shard, admin_url, sql, &[]).await?;
    let sql = "SELECT count(*) FROM gavel.prepared()";
    let prepared: i64 = as_admin(shard, admin_url, sql, &[]).await?;
    let next = now + 1;
    let plan = format!(
        "{name} begins incarnation {next}: no transaction of before is ever executed or decided \
         there again, and branches elsewhere that wait for a decision of incarnation {now} wait \
         for a person. {prepared} branches are prepared on {name} itself; each asks its home"
    );
    if dry_run {
        output.result(
            format!("would do this: {plan}"),
            &json!({"shard": name.as_str(), "incarnation": now, "prepared": prepared, "would": plan}),
        );
        return Ok(Exit::Ok);
    }
    eprintln!("{plan}");
    let sql = "SELECT gavel.new_incarnation($1)";
    let incarnation: i64 = as_admin(shard, admin_url, sql, &[&because]).await?;
    output.result(
        format!(
            "{name}: incarnation {incarnation} begins; restart its participant and the coordinators"
        ),
        &json!({"shard": name.as_str(), "incarnation": incarnation}),
    );
    Ok(Exit::Ok)
}

/// The answer to an operator's function of the shard's schema, called with the rights of its owner:
/// `admin_url`, or the one that the configuration has.
pub(crate) async fn as_admin<T: for<'a> FromSql<'a>>(
    shard: &ShardConfig,
    admin_url: Option<&str>,
    sql: &str,
    params: &[&(dyn ToSql + Sync)],
) -> anyhow::Result<T> {
    let Some(url) = admin_url.or(shard.admin_url.as_ref().map(|url| url.expose())) else {
        let name = &shard.name;
        bail!(
            "shard `{name}` has no admin_url: add it to its [[shard]] table, or give --admin-url"
        );
    };
    let rows = ask(url, sql, params).await?;
    let row = rows.first().context("the database gave no answer")?;
    Ok(row.try_get(0)?)
}

/// The rows that one statement returns, however long it takes.
pub(crate) async fn ask(
    url: &str,
    sql: &str,
    params: &[&(dyn ToSql + Sync)],
) -> anyhow::Result<Vec<Row>> {
    let DatabaseUrl { config, tls } =
        DatabaseUrl::parse(url).context("the database's address is not usable")?;
    let (client, connection) = config
        .connect(tls)
        .await
        .context("cannot connect to the database")?;
    let connection = tokio::spawn(connection);
    let rows = client
        .query(sql, params)
        .await
        .context("the database refused")?;
    drop(client);
    // Closing is the server's business once the answer is here.
    let _ended = connection.await;
    Ok(rows)
}
