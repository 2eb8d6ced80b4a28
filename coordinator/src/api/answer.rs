//! What callers hear as JSON: one shape for transactions, one error object everywhere.

use std::time::Duration;

use axum::response::Response;
use gavel_protocol::circuit::State;
use gavel_protocol::message::InDoubtBranch;
use gavel_protocol::outcome::{StatementResult, Status};
use gavel_protocol::standing::{Second, ShardStanding, Standing};
use gavel_protocol::{AbortReason, Outcome, ShardMap, ShardTag, Txid};
use http::StatusCode;
use serde_json::{Map, Value, json};

use super::error::{ApiError, respond};
use super::rows;
use crate::engine::{Answer, CallTold, StoryTold};

/// The answer to a submit or a commit.
pub(super) fn transaction(answer: Answer, shards: &ShardMap) -> Response {
    let (status, body) = outcome(answer, shards);
    respond(status, body)
}

/// The answer to an abort, where `aborted` is what was wanted.
pub(super) fn abort(answer: Answer, shards: &ShardMap) -> Response {
    let (mut status, body) = outcome(answer.clone(), shards);
    match answer.outcome {
        Outcome::Aborted(_) => status = StatusCode::OK,
        Outcome::Committed { .. } => status = StatusCode::CONFLICT,
        Outcome::Refused(_) | Outcome::InDoubt { .. } => {}
    }
    respond(status, body)
}

fn outcome(answer: Answer, shards: &ShardMap) -> (StatusCode, Value) {
    let txid = answer.txid;
    match answer.outcome {
        Outcome::Committed { applied } => {
            let results = results(&answer.results, shards);
            let body = json!({
                "txid": txid, "outcome": "committed", "applied": applied, "results": results,
            });
            (StatusCode::OK, body)
        }
        Outcome::Aborted(reason) => {
            let error = aborted(&reason, shards);
            let body = json!({ "txid": txid, "outcome": "aborted", "error": error });
            (StatusCode::CONFLICT, body)
        }
        Outcome::Refused(refusal) => {
            let error = ApiError::from(refusal);
            let body = json!({ "txid": txid, "outcome": "refused", "error": error.to_json() });
            (error.status, body)
        }
        Outcome::InDoubt { detail } => {
            let body = json!({ "txid": txid, "outcome": "in_doubt", "detail": detail });
            (StatusCode::ACCEPTED, body)
        }
    }
}

fn aborted(reason: &AbortReason, shards: &ShardMap) -> Value {
    let mut error = Map::new();
    error.insert("code".into(), reason.code.as_str().into());
    error.insert("message".into(), reason.message.clone().into());
    error.insert("retryable".into(), false.into());
    if let Some(shard) = reason.shard.and_then(|tag| shards.name(tag)) {
        error.insert("shard".into(), shard.as_str().into());
    }
    if let Some(statement) = reason.statement {
        error.insert("statement".into(), statement.into());
    }
    if let Some(sqlstate) = &reason.sqlstate {
        error.insert("sqlstate".into(), sqlstate.clone().into());
    }
    Value::Object(error)
}

fn results(results: &[(ShardTag, Vec<StatementResult>)], shards: &ShardMap) -> Value {
    let named = results.iter().filter_map(|(tag, results)| {
        let results: Vec<_> = results.iter().map(rows::statement).collect();
        Some((shards.name(*tag)?.to_string(), Value::Array(results)))
    });
    Value::Object(named.collect())
}

/// The answer to a status question. Always 200: the question has been answered.
pub(super) fn status(txid: Txid, status: &Status, shards: &ShardMap) -> Response {
    let body = match status {
        Status::Committed => json!({ "txid": txid, "outcome": "committed" }),
        Status::Aborted(reason) => {
            json!({ "txid": txid, "outcome": "aborted", "error": aborted(reason, shards) })
        }
        Status::NoneYet => json!({
            "txid": txid,
            "outcome": "none_yet",
            "detail": "nothing is recorded yet: it may still commit; abort it to make sure",
        }),
        Status::TooOld => json!({
            "txid": txid,
            "outcome": "too_old",
            "detail": "older than what is kept: the outcome is unknown",
        }),
    };
    respond(StatusCode::OK, body)
}

/// The answer to a statement that ran.
pub(super) fn executed(txid: Txid, sequence: u64, result: &StatementResult) -> Response {
    let body = json!({
        "txid": txid, "sequence": sequence, "result": rows::statement(result),
    });
    respond(StatusCode::OK, body)
}

/// The prepared branches of all shards.
pub(super) fn in_doubt(
    found: &[(ShardTag, Result<Vec<InDoubtBranch>, String>)],
    shards: &ShardMap,
) -> Response {
    let one = |(tag, found): &(ShardTag, Result<Vec<InDoubtBranch>, String>)| {
        let name = shards.name(*tag).map(ToString::to_string);
        match found {
            Ok(branches) => {
                let branches: Vec<_> = branches.iter().map(branch).collect();
                json!({ "shard": name, "tag": tag, "branches": branches })
            }
            Err(message) => {
                let error = json!({
                    "code": "shard_unavailable", "message": message, "retryable": true,
                });
                json!({ "shard": name, "tag": tag, "error": error })
            }
        }
    };
    let all: Vec<_> = found.iter().map(one).collect();
    respond(StatusCode::OK, json!({ "shards": all }))
}

fn branch(branch: &InDoubtBranch) -> Value {
    json!({
        "gid": branch.gid.to_string(), "age_ms": branch.age_ms, "waits_for": branch.waits_for,
    })
}

/// What is wrong with each shard: 503 if it is anything with any of them.
pub fn shard_health(shards: impl IntoIterator<Item = (String, Option<String>)>) -> Response {
    let mut status = StatusCode::OK;
    let each = shards.into_iter().map(|(name, wrong)| {
        let state = match wrong {
            None => json!({ "healthy": true }),
            Some(reason) => {
                status = StatusCode::SERVICE_UNAVAILABLE;
                json!({ "healthy": false, "reason": reason })
            }
        };
        (name, state)
    });
    let shards: Map<_, _> = each.collect();
    respond(status, json!({ "shards": shards }))
}

/// What a coordinator remembers of a transaction.
pub(super) fn stories(txid: Txid, stories: &[StoryTold], shards: &ShardMap) -> Response {
    let name = |tag| shards.name(tag).map(ToString::to_string);
    let call = |call: &CallTold| {
        json!({
            "call": call.name,
            "shard": name(call.shard),
            "from_us": micros(call.from),
            "to_us": call.to.map(micros),
            "trouble": call.trouble,
        })
    };
    let story = |story: &StoryTold| {
        json!({
            "batch": story.batch.to_string(),
            "home": name(story.home),
            "began_unix_us": story.began_unix_us,
            "queued_us": micros(story.queued),
            "members": story.members,
            "now_us": micros(story.age),
            "calls": story.calls.iter().map(call).collect::<Vec<_>>(),
            "decided_us": story.decided.map(micros),
            "applied_us": story.applied.map(micros),
        })
    };
    let all: Vec<_> = stories.iter().map(story).collect();
    respond(StatusCode::OK, json!({ "txid": txid, "stories": all }))
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// How a coordinator stands.
pub(super) fn standing(standing: Standing, shards: &ShardMap) -> Response {
    let shard = |shard: &ShardStanding| {
        let circuit = match shard.circuit {
            State::Closed => "closed",
            State::HalfOpen => "half_open",
            State::Open => "open",
        };
        let name = shards.name(shard.tag).map(ToString::to_string);
        json!({
            "shard": name,
            "tag": shard.tag,
            "circuit": circuit,
            "wrong": shard.wrong,
            "draining": shard.is_draining,
        })
    };
    let second = |second: &Second| {
        json!({
            "unix_s": second.unix_s,
            "committed": second.committed,
            "aborted": second.aborted,
            "refused": second.refused,
            "in_doubt": second.in_doubt,
            "p50_us": second.p50_us,
            "p99_us": second.p99_us,
            "max_us": second.max_us,
        })
    };
    let body = json!({
        "version": standing.version,
        "started_unix_s": standing.started_unix_s,
        "in_flight": standing.in_flight,
        "in_flight_max": standing.in_flight_max,
        "lanes": standing.lanes,
        "waiting": standing.waiting,
        "deepest": standing.deepest,
        "sessions": standing.sessions,
        "draining": standing.is_draining,
        "shards": standing.shards.iter().map(shard).collect::<Vec<_>>(),
        "seconds": standing.seconds.iter().map(second).collect::<Vec<_>>(),
    });
    respond(StatusCode::OK, body)
}

/// The shards of the deployment.
pub(super) fn shards(shards: &ShardMap) -> Response {
    let one = |(tag, name): (ShardTag, &gavel_protocol::ShardName)| json!({ "name": name.as_str(), "tag": tag });
    let all: Vec<_> = shards.iter().map(one).collect();
    respond(StatusCode::OK, json!({ "shards": all }))
}
