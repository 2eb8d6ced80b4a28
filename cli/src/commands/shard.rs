//! `gavel shard`: what an operator does to a shard itself.

use anyhow::{Context as _, bail};
use gavel_protocol::ShardName;
use serde_json::json;
use tokio_postgres::NoTls;

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

/// Begins a new life of a shard (R13).
pub(crate) async fn new_incarnation(
    config: &Config,
    name: &ShardName,
    admin_url: Option<&str>,
    output: Output,
) -> anyhow::Result<Exit> {
    let shard = named(config, name)?;
    let Some(url) = admin_url.or(shard.admin_url.as_ref().map(|url| url.expose())) else {
        bail!(
            "shard `{name}` has no admin_url: add it to its [[shard]] table, or give --admin-url"
        );
    };
    let incarnation = begin(url).await?;
    output.result(
        format!(
            "{name}: incarnation {incarnation} begins; restart its participant and the coordinators"
        ),
        &json!({"shard": name.as_str(), "incarnation": incarnation}),
    );
    Ok(Exit::Ok)
}

async fn begin(url: &str) -> anyhow::Result<i64> {
    let (client, connection) = tokio_postgres::connect(url, NoTls)
        .await
        .context("cannot connect to the database")?;
    let connection = tokio::spawn(connection);
    let row = client
        .query_one("SELECT gavel.new_incarnation()", &[])
        .await
        .context("the database refused a new incarnation")?;
    drop(client);
    // Closing is the server's business once the answer is here.
    let _ended = connection.await;
    Ok(row.try_get(0)?)
}
