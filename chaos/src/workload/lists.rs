//! Clients that append to lists and read them, on several shards in one transaction.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;

use gavel_client::{Committed, Interactive, Outcome, Rows, params};
use gavel_protocol::Isolation;
use rand::Rng;
use rand::seq::IteratorRandom;

use super::{Client, told};
use crate::arena::{DATA_SHARDS, LISTS};
use crate::bank::DATABASE;
use crate::error::ChaosError;
use crate::history::{Action, Event, MicroOp, Phase, Told, Workload};
use crate::lists::{APPEND, READ_LOCKED, READ_PLAIN};
use crate::replicas::Primary;

/// First of the lists of the locked workload on each shard.
pub const LOCKED_FIRST: i64 = 0;
/// First of the lists of the plain one.
pub const PLAIN_FIRST: i64 = LISTS;
/// Lists that are in use at the same time, on each shard.
const WINDOW: i64 = 5;
/// Elements after which the window moves on by one list: lists stay short, and so do histories
/// of who saw what.
const ELEMENTS_PER_MOVE: i64 = 12;

/// Where a list is.
#[must_use]
pub fn shard_of(key: i64) -> usize {
    usize::try_from(key).unwrap_or_default() % DATA_SHARDS
}

impl Client {
    pub(super) async fn list(&mut self, workload: Workload) {
        let ops = self.choose_ops(workload);
        if rand::rng().random_ratio(1, 6) {
            return self.interactive_list(workload, ops).await;
        }
        let home = self.home();
        let Ok(txid) = self.gavel.mint(&home) else {
            return;
        };
        let _route = self.route(txid);
        let begun =
            self.arena
                .recorder
                .invoke(self.process, workload, txid, Action::Txn(ops.clone()));
        let mut transaction = self.gavel.transaction().txid(txid);
        for (shard, ops) in by_shard(&ops) {
            let only_reads = ops.iter().all(|op| matches!(op, MicroOp::Read { .. }));
            let name = self.arena.shard(shard);
            // R18: a plain branch that only reads may say so, and is not prepared.
            transaction = if only_reads && workload == Workload::ListsPlain {
                transaction.read_only(name)
            } else {
                transaction.on(name)
            };
            for op in ops {
                transaction = match op {
                    MicroOp::Append { key, element } => transaction
                        .execute(APPEND, params![*element, *key])
                        .expect_rows(1),
                    MicroOp::Read { key, .. } => transaction
                        .query(read(workload), params![*key])
                        .expect_rows(1),
                };
            }
        }
        let Ok(outcome) = transaction.submit().await else {
            return self.record(begun, Action::Txn(ops), never_sent());
        };
        let seen = match &outcome {
            Outcome::Committed(committed) => self.seen(&ops, committed),
            _ => ops,
        };
        self.record(begun, Action::Txn(seen), told(&outcome));
    }

    async fn interactive_list(&mut self, workload: Workload, ops: Vec<MicroOp>) {
        let home = self.home();
        let begun = self.gavel.begin_at(&home, Isolation::ReadCommitted).await;
        let Ok(mut session) = begun else { return };
        let txid = session.txid();
        let _route = self.route(txid);
        let begun =
            self.arena
                .recorder
                .invoke(self.process, workload, txid, Action::Txn(ops.clone()));
        let mut seen = Vec::new();
        for op in &ops {
            let shard = self.arena.shard(shard_of(op.key()));
            let Some(op) = run(&mut session, shard, workload, op).await else {
                // If this is lost, the session ends by itself: its commit was never sent.
                let _lost = session.rollback().await;
                return self.record(begun, Action::Txn(ops), never_sent());
            };
            seen.push(op);
        }
        let outcome = session.commit().await;
        self.record(begun, Action::Txn(seen), told(&outcome));
    }

    fn choose_ops(&self, workload: Workload) -> Vec<MicroOp> {
        let first = match workload {
            Workload::ListsPlain => PLAIN_FIRST,
            _ => LOCKED_FIRST,
        };
        let window = self.elements.load(Ordering::Relaxed) / ELEMENTS_PER_MOVE / 4;
        let window = window.min(LISTS - WINDOW);
        let mut rng = rand::rng();
        let count = rng.random_range(1..=4);
        let shards = i64::try_from(DATA_SHARDS).expect("few shards");
        let one = |rng: &mut rand::rngs::ThreadRng| {
            let list = first + window + (0..WINDOW).choose(rng).unwrap_or_default();
            let key = list * shards + rng.random_range(0..shards);
            if rng.random() {
                let element = self.elements.fetch_add(1, Ordering::Relaxed);
                MicroOp::Append { key, element }
            } else {
                MicroOp::Read {
                    key,
                    elements: None,
                }
            }
        };
        (0..count).map(|_| one(&mut rng)).collect()
    }

    /// What was read. Rows come with the first answer only: without them it is not known.
    fn seen(&self, ops: &[MicroOp], committed: &Committed) -> Vec<MicroOp> {
        let mut seen = Vec::with_capacity(ops.len());
        let mut statements = [0; DATA_SHARDS];
        for op in ops {
            let shard = shard_of(op.key());
            let rows = committed.rows(self.arena.shard(shard), statements[shard]);
            statements[shard] += 1;
            seen.push(match op {
                MicroOp::Read { key, .. } => MicroOp::Read {
                    key: *key,
                    elements: rows.and_then(elements),
                },
                append @ MicroOp::Append { .. } => append.clone(),
            });
        }
        seen
    }
}

/// One step of an interactive transaction; `None` if it failed.
async fn run(
    session: &mut Interactive,
    shard: &str,
    workload: Workload,
    op: &MicroOp,
) -> Option<MicroOp> {
    match op {
        MicroOp::Append { key, element } => {
            let appended = session.execute(shard, APPEND, params![*element, *key]);
            (appended.await.ok()? == 1).then(|| op.clone())
        }
        MicroOp::Read { key, .. } => {
            let rows = session.query(shard, read(workload), params![*key]);
            let elements = elements(&rows.await.ok()?);
            Some(MicroOp::Read {
                key: *key,
                elements,
            })
        }
    }
}

fn read(workload: Workload) -> &'static str {
    match workload {
        Workload::ListsPlain => READ_PLAIN,
        _ => READ_LOCKED,
    }
}

/// The order within a shard is the order of the transaction.
fn by_shard(ops: &[MicroOp]) -> impl Iterator<Item = (usize, Vec<&MicroOp>)> {
    (0..DATA_SHARDS).filter_map(|shard| {
        let here: Vec<&MicroOp> = ops
            .iter()
            .filter(|op| shard_of(op.key()) == shard)
            .collect();
        (!here.is_empty()).then_some((shard, here))
    })
}

fn elements(rows: &Rows) -> Option<Vec<i64>> {
    parse(rows.first()?.text(0)?)
}

/// PostgreSQL's array literal.
fn parse(array: &str) -> Option<Vec<i64>> {
    let inner = array.strip_prefix('{')?.strip_suffix('}')?;
    if inner.is_empty() {
        return Some(Vec::new());
    }
    inner.split(',').map(|each| each.parse().ok()).collect()
}

fn never_sent() -> Told {
    Told::Refused("a statement failed, and it was rolled back".to_owned())
}

/// What every list that was used holds at the end, read by direct SQL, as one more transaction
/// of each workload: an append that is lost has no later reader otherwise.
///
/// # Errors
/// A server cannot be asked.
pub fn final_reads(servers: &[Primary<'_>], events: &mut Vec<Event>) -> Result<(), ChaosError> {
    let mut last = events.last().cloned();
    for workload in [Workload::ListsLocked, Workload::ListsPlain] {
        let mut ops = Vec::new();
        let used = events.iter().filter(|event| event.workload == workload);
        let keys: BTreeSet<i64> = used
            .filter_map(|event| match &event.action {
                Action::Txn(ops) => Some(ops),
                Action::Transfer(_) => None,
            })
            .flatten()
            .map(MicroOp::key)
            .collect();
        for (shard, server) in servers.iter().enumerate().take(DATA_SHARDS) {
            let sql = "SELECT key, elements FROM list WHERE elements <> '{}'";
            let rows = server.sql(DATABASE, sql)?;
            let found: BTreeMap<i64, Vec<i64>> = rows
                .iter()
                .filter_map(|row| {
                    Some((row[0].as_deref()?.parse().ok()?, parse(row[1].as_deref()?)?))
                })
                .collect();
            for key in keys.iter().filter(|key| shard_of(**key) == shard) {
                let elements = Some(found.get(key).cloned().unwrap_or_default());
                ops.push(MicroOp::Read {
                    key: *key,
                    elements,
                });
            }
        }
        let Some(previous) = &last else { return Ok(()) };
        let process = previous.process + 1_000_000;
        for phase in [Phase::Invoke, Phase::Ok] {
            let event = Event {
                index: events.len() as u64,
                phase,
                process,
                workload,
                action: Action::Txn(ops.clone()),
                told: None,
                ..previous.clone()
            };
            events.push(event);
        }
        last = events.last().cloned();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrays_are_read() {
        assert_eq!(parse("{}"), Some(vec![]));
        assert_eq!(parse("{3,1,2}"), Some(vec![3, 1, 2]));
        assert_eq!(parse("{x}"), None);
        assert_eq!(shard_of(7), 1);
    }
}
