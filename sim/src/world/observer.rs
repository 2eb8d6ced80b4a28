//! What an onlooker who sees everything remembers of a run: what was told, what was really
//! prepared and decided, and what was lost through no fault of Gavel's.
//!
//! It takes no part in the run. What can be judged at the moment it happens is judged here; the
//! rest is judged when the world is at rest ([`crate::invariants`]).

use std::collections::{BTreeMap, BTreeSet};

use gavel_protocol::message::{Decision, FinishKind};
use gavel_protocol::{BatchId, Gid, Outcome, ShardTag, Txid};

use super::World;
use super::ids::{self, ShortBatch, ShortTxid, TxNumber};
use super::shard::{Branch, Change, Rows};
use crate::invariants::{Invariant, i3_unanimity, i8_write_order};

#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub(crate) struct Observer {
    /// What was found wrong, and the first occasion.
    pub(crate) violations: BTreeMap<Invariant, String>,
    /// Final answers.
    pub(crate) told: BTreeMap<Txid, Final>,
    /// Who heard that a batch did nothing for it.
    pub(crate) refused: BTreeSet<(Txid, BatchId)>,
    prepared: Prepared,
    /// Commit decisions that cannot be lost any more.
    durable: BTreeSet<BatchId>,
    /// Recorded outcomes that cannot be lost any more.
    recorded: BTreeMap<Txid, Final>,
    committed: BTreeMap<TxNumber, BatchId>,
    /// What a failover has lost, or a person has done, behind Gavel's back.
    pub(crate) harmed: BTreeSet<BatchId>,
    pub(crate) harmed_transactions: BTreeSet<TxNumber>,
    /// Whether a shard began another life, be it without any loss.
    pub(crate) restored: bool,
}

/// Branches that PostgreSQL has really prepared, and the members whose work is in them.
pub(crate) type Prepared = BTreeMap<(BatchId, ShardTag), Vec<Txid>>;

/// An outcome that is final for a txid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Final {
    Committed,
    Aborted,
}

impl Observer {
    pub(crate) fn violate(&mut self, invariant: Invariant, what: impl FnOnce() -> String) {
        self.violations.entry(invariant).or_insert_with(what);
    }

    fn is_harmed(&self, txid: Txid) -> bool {
        self.harmed_transactions.contains(&ids::number(txid))
    }

    /// PREPARE TRANSACTION has been executed.
    pub(crate) fn on_prepared(&mut self, batch: BatchId, shard: ShardTag, branch: &Branch) {
        self.prepared
            .insert((batch, shard), branch.executed.clone());
    }

    /// Home's COMMIT has been executed: I3.
    pub(crate) fn on_decided(&mut self, batch: BatchId, prepared: &[ShardTag], members: &[Txid]) {
        if let Err(what) = i3_unanimity::check(&self.prepared, batch, prepared, members) {
            self.violate(Invariant::I3, || what);
        }
    }

    /// A change cannot be lost any more: I2 and I5.
    pub(crate) fn on_durable(&mut self, change: &Change) {
        let Change::Rows(rows) = change else {
            return;
        };
        let Rows {
            batch,
            decision,
            transactions,
            ..
        } = rows;
        let commits = matches!(decision, Some(Decision::Commit { .. }));
        if let (Some(batch), true) = (*batch, commits) {
            self.durable.insert(batch);
        }
        for (txid, row) in transactions {
            let outcome = match row.aborted {
                None => Final::Committed,
                Some(_) => Final::Aborted,
            };
            self.on_recorded(*txid, *batch, outcome);
        }
    }

    fn on_recorded(&mut self, txid: Txid, batch: Option<BatchId>, outcome: Final) {
        // Its home had aborted it, say, and has lost that: what comes now is no fault of Gavel's.
        if batch.is_some_and(|batch| self.harmed.contains(&batch)) {
            self.harmed_transactions.insert(ids::number(txid));
        }
        let before = self.recorded.insert(txid, outcome);
        let is_harmed = self.is_harmed(txid);
        if before.is_some_and(|before| before != outcome) && !is_harmed {
            let short = ShortTxid(txid);
            self.violate(Invariant::I2, || {
                format!("{short} was recorded as {before:?}, and then as {outcome:?}")
            });
        }
        let Some(batch) = batch.filter(|_| outcome == Final::Committed) else {
            return;
        };
        let first = *self.committed.entry(ids::number(txid)).or_insert(batch);
        if first != batch && !is_harmed {
            self.violate(Invariant::I5, || {
                let (txid, first, batch) = (ShortTxid(txid), ShortBatch(first), ShortBatch(batch));
                format!("{txid} has committed in {first} and in {batch}")
            });
        }
    }

    /// Acknowledged changes were lost by a failover.
    pub(crate) fn on_lost(&mut self, changes: &[Change]) {
        for change in changes {
            let executed = match change {
                Change::Prepare(_, branch)
                | Change::CommitPrepared(_, branch)
                | Change::RollbackPrepared(_, branch) => branch.executed.clone(),
                Change::Rows(rows) => rows.transactions.iter().map(|(txid, _)| *txid).collect(),
                Change::Nothing => Vec::new(),
            };
            self.on_harm(change.batch(), &executed);
        }
    }

    /// Something happened to a batch that Gavel cannot prevent.
    pub(crate) fn on_harm(&mut self, batch: Option<BatchId>, members: &[Txid]) {
        self.harmed.extend(batch);
        let prepared = self.prepared.iter();
        let prepared = prepared.filter(|((prepared, _), _)| Some(*prepared) == batch);
        let involved: BTreeSet<Txid> = prepared
            .flat_map(|(_, executed)| executed)
            .chain(members)
            .copied()
            .collect();
        for txid in &involved {
            self.recorded.remove(txid);
            self.committed.remove(&ids::number(*txid));
            self.harmed_transactions.insert(ids::number(*txid));
        }
    }

    /// The core believes that a person must look. Only a world in which something was lost, a
    /// shard restored, or a person interfered, may give it a reason.
    pub(crate) fn on_alarm(&mut self, detail: &str) {
        if self.harmed.is_empty() && !self.restored {
            self.violate(Invariant::Calm, || detail.to_owned());
        }
    }
}

impl World {
    /// A client is told, or could hear if it still listened: I2 and I4.
    pub(crate) fn observe_told(&mut self, txid: Txid, batch: Option<BatchId>, outcome: &Outcome) {
        let observer = &mut self.observer;
        let outcome = match (outcome, batch) {
            (Outcome::Committed { .. }, _) => Final::Committed,
            (Outcome::Aborted(_), _) => Final::Aborted,
            (Outcome::Refused(_), Some(batch)) => {
                observer.refused.insert((txid, batch));
                return;
            }
            (Outcome::Refused(_) | Outcome::InDoubt { .. }, _) => return,
        };
        let short = ShortTxid(txid);
        let is_harmed = observer.is_harmed(txid);
        let before = *observer.told.entry(txid).or_insert(outcome);
        if before != outcome && !is_harmed {
            observer.violate(Invariant::I2, || {
                format!("{short} was told {before:?}, and then {outcome:?}")
            });
        }
        let recorded = observer.recorded.get(&txid).copied();
        if recorded != Some(outcome) && !is_harmed {
            observer.violate(Invariant::I4, || {
                format!("{short} is told {outcome:?}, and durably recorded is {recorded:?}")
            });
        }
    }

    /// A prepared branch is about to be finished: I8 and I1.
    pub(crate) fn observe_finish(&mut self, at: usize, gid: &Gid, kind: FinishKind) {
        let observer = &mut self.observer;
        let (short, shard) = (ShortBatch(gid.batch), self.shards[at].tag);
        let is_durable = observer.durable.contains(&gid.batch);
        if observer.harmed.contains(&gid.batch) {
            return;
        }
        if let Err(what) = i8_write_order::check(gid.batch, shard, kind, is_durable) {
            observer.violate(Invariant::I8, || what);
        }
        if kind == FinishKind::Rollback && is_durable {
            observer.violate(Invariant::I1, || {
                format!("ROLLBACK PREPARED of {short} on shard {shard}, which is committed")
            });
        }
    }

    /// A participant says that a branch is finished as decided: I4, and "does not exist" is never
    /// success. Whatever was lost: what it says is about this moment.
    pub(crate) fn observe_done(&mut self, at: usize, gid: &Gid, kind: FinishKind) {
        let shard = &self.shards[at];
        let is_applied = shard.tables.branches.contains_key(&gid.batch);
        let home = &self.shards[super::setup::place(gid.home)];
        let is_dropped = gid.batch.unix_ms() < home.tables.dropped_ms;
        if kind == FinishKind::Commit && !is_applied && !is_dropped {
            let (batch, tag) = (ShortBatch(gid.batch), shard.tag);
            self.observer.violate(Invariant::I4, || {
                format!("shard {tag} says that {batch} is committed there, and has no trace of it")
            });
        }
    }

    /// A coordinator says that every shard shows what a batch did: I4.
    pub(crate) fn observe_applied(&mut self, batch: BatchId) {
        if self.observer.harmed.contains(&batch) {
            return;
        }
        for shard in &self.shards {
            let executed = self.observer.prepared.get(&(batch, shard.tag));
            let shows = |txid: &Txid| {
                let marks = shard.tables.marks.get(txid);
                marks.is_some_and(|marks| marks.contains(&batch))
            };
            if !executed.is_none_or(|executed| executed.iter().all(shows)) {
                let (batch, tag) = (ShortBatch(batch), shard.tag);
                self.observer.violate(Invariant::I4, || {
                    format!("{batch} is said to be applied, but not on shard {tag}")
                });
            }
        }
    }
}
