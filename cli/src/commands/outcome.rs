//! Outcomes as JSON, in the words of the HTTP API.

use gavel_client::{Committed, Outcome, Reason, Rows, ShardName};
use serde_json::{Map, Value, json};

/// An outcome.
pub(crate) fn as_json(outcome: &Outcome) -> Value {
    let txid = outcome.txid();
    match outcome {
        Outcome::Committed(committed) => json!({
            "txid": txid,
            "outcome": "committed",
            "applied": committed.applied,
            "results": results(committed),
        }),
        Outcome::Aborted { reason: why, .. } => {
            json!({"txid": txid, "outcome": "aborted", "error": reason(why)})
        }
        Outcome::Refused { why, .. } => json!({
            "txid": txid,
            "outcome": "refused",
            "error": {"code": why.code, "message": why.message, "retryable": why.is_retryable()},
        }),
        Outcome::InDoubt { detail, .. } => {
            json!({"txid": txid, "outcome": "in_doubt", "detail": detail})
        }
    }
}

/// Why a transaction was aborted.
pub(crate) fn reason(reason: &Reason) -> Value {
    json!({
        "code": reason.code,
        "message": reason.message,
        "retryable": false,
        "shard": reason.shard.as_ref().map(ShardName::as_str),
        "statement": reason.statement,
        "sqlstate": reason.sqlstate,
    })
}

fn results(committed: &Committed) -> Value {
    let named = committed.results().iter().map(|(shard, results)| {
        let results: Vec<Value> = results.iter().map(rows).collect();
        (shard.to_string(), Value::Array(results))
    });
    Value::Object(named.collect::<Map<_, _>>())
}

/// Values as PostgreSQL wrote them: a shell has no use for types.
fn rows(rows: &Rows) -> Value {
    let names: Vec<&str> = rows
        .columns()
        .iter()
        .map(|column| column.name.as_str())
        .collect();
    let values: Vec<Vec<Option<&str>>> = rows
        .iter()
        .map(|row| {
            (0..names.len())
                .map(|position| row.text(position))
                .collect()
        })
        .collect();
    json!({"row_count": rows.row_count(), "columns": names, "rows": values})
}
