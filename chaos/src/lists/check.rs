//! Judges list-append histories, after Adya and Elle, with the crate `adya`.
//!
//! What is promised is said once, in [`promises`], and every promise names the histories that
//! would break it: the tests below show that each is rejected.

use std::time::Duration;

use adya::{History, Opts, Report, Valid};
use serde_json::json;

use crate::history::{Action, Event, MicroOp, Phase, Workload};
use crate::verdict::{Invariant, Violation};

/// Cycles are searched for this long in every knot of transactions; a history that is right has
/// no knots.
const SEARCH_LIMIT: Duration = Duration::from_secs(60);

/// An isolation level, by the checker's name for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Isolation {
    /// As if one after the other, in an order that agrees with real time.
    StrictSerializable,
    /// No dirty, intermediate or aborted reads, no interleaved writes.
    ReadCommitted,
}

impl Isolation {
    fn model(self) -> &'static str {
        match self {
            Self::StrictSerializable => "strict-serializable",
            Self::ReadCommitted => "read-committed",
        }
    }
}

/// A workload and what its history must satisfy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Promise {
    /// Whose history.
    pub workload: Workload,
    /// One shard's part of it, or all of it.
    pub shard: Option<usize>,
    /// What it must satisfy.
    pub isolation: Isolation,
}

/// Everything that is promised about lists on `shards` shards.
#[must_use]
pub fn promises(shards: usize) -> Vec<Promise> {
    let promise = |workload, shard, isolation| Promise {
        workload,
        shard,
        isolation,
    };
    let locked = promise(Workload::ListsLocked, None, Isolation::StrictSerializable);
    // Row locks of writes are held until phase two, so no write and no committed read can be
    // part of a cycle over several shards either.
    let plain = promise(Workload::ListsPlain, None, Isolation::ReadCommitted);
    let each = (0..shards)
        .map(|shard| promise(Workload::ListsPlain, Some(shard), Isolation::ReadCommitted));
    [locked, plain].into_iter().chain(each).collect()
}

/// What a check has seen.
#[derive(Debug, Clone)]
pub struct Checked {
    /// How many transactions it compared.
    pub transactions: usize,
    /// What breaks the promise.
    pub violations: Vec<Violation>,
}

/// Checks one promise. `shard_of` says where a list is.
#[must_use]
pub fn check(events: &[Event], promise: Promise, shard_of: impl Fn(i64) -> usize) -> Checked {
    let lines = lines(events, promise, shard_of);
    let transactions = lines.iter().filter(|line| line.contains("\"ok\"")).count();
    let violations = match History::from_json(&lines.join("\n")) {
        Ok(history) => violations(&judge(&history, promise.isolation), promise),
        Err(error) => vec![violation(
            promise,
            &format!("the history is malformed: {error}"),
        )],
    };
    Checked {
        transactions,
        violations,
    }
}

fn judge(history: &History, isolation: Isolation) -> Report {
    let options = Opts {
        models: vec![isolation.model().to_owned()],
        timeout: SEARCH_LIMIT,
        ..Opts::default()
    };
    adya::check(history, adya::Workload::ListAppend, &options)
}

/// The promise's part of the history, as JSON lines of micro-operations.
fn lines(events: &[Event], promise: Promise, shard_of: impl Fn(i64) -> usize) -> Vec<String> {
    let of_workload = events
        .iter()
        .filter(|event| event.workload == promise.workload);
    of_workload
        .filter_map(|event| {
            let Action::Txn(ops) = &event.action else {
                return None;
            };
            let here = |op: &&MicroOp| {
                promise
                    .shard
                    .is_none_or(|shard| shard == shard_of(op.key()))
            };
            // The rows that a repeated submission returned are lost: what it read is not known,
            // which is not the same as having read an empty list. And what an unknown transaction
            // read may be what an aborted one did, to whom nothing is promised.
            let is_known = |op: &&MicroOp| match (event.phase, op) {
                (Phase::Invoke, _) | (_, MicroOp::Append { .. }) => true,
                (phase, MicroOp::Read { elements, .. }) => {
                    phase != Phase::Info && elements.is_some()
                }
            };
            let ops: Vec<&MicroOp> = ops.iter().filter(here).filter(is_known).collect();
            let line = json!({
                "index": event.index,
                "type": event.phase,
                "process": event.process,
                "time": event.time,
                "value": ops,
            });
            Some(line.to_string())
        })
        .collect()
}

fn violations(report: &Report, promise: Promise) -> Vec<Violation> {
    match report.valid {
        Valid::True => Vec::new(),
        Valid::Unknown => vec![violation(promise, "the checker came to no conclusion")],
        Valid::False => report
            .anomalies
            .values()
            .flatten()
            .map(|anomaly| {
                let what = format!("{}: {}", anomaly.kind, anomaly.explanation);
                violation(promise, &what)
            })
            .collect(),
    }
}

fn violation(promise: Promise, what: &str) -> Violation {
    let Promise {
        workload,
        shard,
        isolation,
    } = promise;
    let place = shard.map_or("all shards".to_owned(), |shard| format!("shard {shard}"));
    let what = format!(
        "{workload:?} on {place} is not {}: {what}",
        isolation.model()
    );
    Violation {
        invariant: Invariant::Isolation,
        what,
    }
}

#[cfg(test)]
mod tests;
