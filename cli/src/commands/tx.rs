//! `gavel tx id`, `status` and `abort`; `submit` is in a module of its own.

use gavel_client::{Status, Txid};
use gavel_protocol::ShardName;
use serde_json::json;

use super::client::connect;
use super::outcome;
use crate::args::ClientArgs;
use crate::config::Config;
use crate::exit::Exit;
use crate::output::Output;

/// Mints a txid.
pub(crate) async fn id(
    config: Option<&Config>,
    client: &ClientArgs,
    home: Option<&ShardName>,
    output: Output,
) -> anyhow::Result<Exit> {
    let gavel = connect(config, client).await?;
    let lowest = gavel.shards().iter().next().map(|(_, name)| name.clone());
    let home = home
        .cloned()
        .or(lowest)
        .unwrap_or_else(|| unreachable!("a shard map is never empty"));
    let txid = gavel.mint(home.as_str())?;
    output.result(txid, &json!({"txid": txid, "home": home.as_str()}));
    Ok(Exit::Ok)
}

/// Tells what is recorded.
pub(crate) async fn status(
    config: Option<&Config>,
    client: &ClientArgs,
    txid: Txid,
    output: Output,
) -> anyhow::Result<Exit> {
    let status = connect(config, client).await?.status(txid).await?;
    let (text, mut document) = match &status {
        Status::Committed => ("committed".to_owned(), json!({"outcome": "committed"})),
        Status::Aborted(reason) => (
            format!("aborted: {reason}"),
            json!({"outcome": "aborted", "error": outcome::reason(reason)}),
        ),
        Status::NoneYet => (
            "nothing recorded yet: it may still commit; `gavel tx abort` makes sure".to_owned(),
            json!({"outcome": "none_yet"}),
        ),
        Status::TooOld => (
            "older than what is kept: the outcome is unknown".to_owned(),
            json!({"outcome": "too_old"}),
        ),
    };
    document["txid"] = json!(txid);
    output.result(text, &document);
    Ok(Exit::of_status(&status))
}

/// Aborts for good.
pub(crate) async fn abort(
    config: Option<&Config>,
    client: &ClientArgs,
    txid: Txid,
    output: Output,
) -> anyhow::Result<Exit> {
    let outcome = connect(config, client).await?.abort(txid).await;
    output.result(&outcome, &outcome::as_json(&outcome));
    Ok(Exit::of_outcome(&outcome))
}
