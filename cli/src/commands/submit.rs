//! `gavel tx submit`: the JSON of `POST /v1/transactions`, through the client library, which
//! retries with the same txid.

use std::fmt::Write as _;
use std::io::Read as _;
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use gavel_client::{
    Ack, Gavel, Guard, IntoParam as _, Isolation, Outcome, Param, TransactionBuilder, Txid,
};
use serde::Deserialize;
use serde_json::Value;

use super::client::connect;
use super::outcome;
use crate::args::ClientArgs;
use crate::config::Config;
use crate::exit::Exit;
use crate::output::Output;

/// A request. Unknown keys are errors: a misspelt guard must not be a guard that is missing.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Request {
    txid: Option<Txid>,
    home: Option<String>,
    #[serde(default)]
    ack: Ack,
    timeout_ms: Option<u64>,
    #[serde(default)]
    isolation: Isolation,
    #[serde(default)]
    retry: bool,
    branches: Vec<Branch>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Branch {
    shard: String,
    #[serde(default)]
    read_only: bool,
    statements: Vec<Statement>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Statement {
    sql: String,
    #[serde(default)]
    params: Vec<Value>,
    expect: Option<Guard>,
}

/// Submits what a file holds and prints the outcome.
pub(crate) async fn run(
    config: Option<&Config>,
    client: &ClientArgs,
    file: &Path,
    output: Output,
) -> anyhow::Result<Exit> {
    let request: Request = serde_json::from_str(&read(file)?)
        .with_context(|| format!("{} is not a transaction; see docs/api.md", file.display()))?;
    let gavel = connect(config, client).await?;
    let outcome = request.into_transaction(&gavel).submit().await?;
    output.result(describe(&outcome), &outcome::as_json(&outcome));
    Ok(Exit::of_outcome(&outcome))
}

fn read(file: &Path) -> anyhow::Result<String> {
    if file == Path::new("-") {
        let mut text = String::new();
        std::io::stdin()
            .read_to_string(&mut text)
            .context("cannot read standard input")?;
        return Ok(text);
    }
    std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))
}

impl Request {
    fn into_transaction(self, gavel: &Gavel) -> TransactionBuilder {
        let mut transaction = gavel.transaction().ack(self.ack).isolation(self.isolation);
        if let Some(home) = &self.home {
            transaction = transaction.home(home);
        }
        if let Some(txid) = self.txid {
            transaction = transaction.txid(txid);
        }
        if let Some(timeout_ms) = self.timeout_ms {
            transaction = transaction.deadline(Duration::from_millis(timeout_ms));
        }
        if self.retry {
            transaction = transaction.sent_before();
        }
        for branch in self.branches {
            transaction = branch.add_to(transaction);
        }
        transaction
    }
}

impl Branch {
    fn add_to(self, transaction: TransactionBuilder) -> TransactionBuilder {
        let mut transaction = match self.read_only {
            true => transaction.read_only(&self.shard),
            false => transaction.on(&self.shard),
        };
        for statement in self.statements {
            let params = statement.params.into_iter().map(param).collect();
            transaction = transaction.execute(&statement.sql, params);
            transaction = match statement.expect {
                Some(Guard::RowsExactly(rows)) => transaction.expect_rows(rows),
                Some(Guard::RowsAtLeast(rows)) => transaction.expect_rows_at_least(rows),
                None => transaction,
            };
        }
        transaction
    }
}

/// JSON's null is SQL's NULL, text is itself, and numbers keep every digit.
fn param(value: Value) -> Param {
    match value {
        Value::Null => Param::NULL,
        Value::String(text) => Param::text(text),
        other => other.into_param(),
    }
}

fn describe(outcome: &Outcome) -> String {
    let mut text = outcome.to_string();
    let Outcome::Committed(committed) = outcome else {
        return text;
    };
    for (shard, results) in committed.results() {
        for (index, rows) in results.iter().enumerate() {
            let _infallible = write!(
                text,
                "\n{shard}, statement {index}: {} rows",
                rows.row_count()
            );
            for row in rows.iter() {
                let values: Vec<&str> = (0..rows.columns().len())
                    .map(|position| row.text(position).unwrap_or("NULL"))
                    .collect();
                let _infallible = write!(text, "\n  {}", values.join(" | "));
            }
        }
    }
    text
}
