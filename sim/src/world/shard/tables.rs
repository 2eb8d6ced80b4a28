//! What a shard keeps: the tables of the `gavel` schema, prepared transactions, and the marks
//! that transactions leave.

use std::collections::BTreeMap;

use gavel_protocol::message::{Decision, Recorded};
use gavel_protocol::{AbortReason, BatchId, Gid, RequestHash, ShardTag, Txid};

/// A shard's committed state, apart from what waits to be seen.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub(crate) struct Tables {
    /// `pg_prepared_xacts`.
    pub(crate) prepared: BTreeMap<Gid, Branch>,
    /// `gavel.branch`, committed rows only.
    pub(crate) branches: BTreeMap<BatchId, ShardTag>,
    /// `gavel.decision`.
    pub(crate) decisions: BTreeMap<BatchId, Decision>,
    /// `gavel.transaction`.
    pub(crate) transactions: BTreeMap<Txid, TransactionRow>,
    /// What transactions did here: an application's own rows. A transaction that ran twice left
    /// two marks.
    pub(crate) marks: BTreeMap<Txid, Vec<BatchId>>,
    /// `gavel.identity`: Unix milliseconds below which ids are refused, have been verified, and
    /// have been dropped (R14).
    pub(crate) floor_ms: u64,
    pub(crate) verified_ms: u64,
    pub(crate) dropped_ms: u64,
    /// When retention was last at work here (simulation only).
    pub(crate) retained_at: u64,
}

/// The work of a prepared branch.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Branch {
    /// Who was executed, in order.
    pub(crate) executed: Vec<Txid>,
    /// When it was prepared, by the database's clock.
    pub(crate) at_ms: u64,
}

/// A row of `gavel.transaction`; with `aborted` empty it committed.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct TransactionRow {
    pub(crate) aborted: Option<AbortReason>,
    pub(crate) hash: RequestHash,
    pub(crate) principal: u8,
}

impl TransactionRow {
    /// What a repeated submit hears (R8); `participant/src/status.rs`.
    pub(crate) fn recorded(&self, principal: u8, hash: RequestHash) -> Recorded {
        if self.principal != principal {
            Recorded::OtherPrincipal
        } else if !self.hash.answers(hash) {
            Recorded::OtherContent
        } else {
            self.outcome()
        }
    }

    pub(crate) fn outcome(&self) -> Recorded {
        match &self.aborted {
            None => Recorded::Committed,
            Some(reason) => Recorded::Aborted(reason.clone()),
        }
    }
}

/// One committed change, with what is needed to take it back.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Change {
    Prepare(Gid, Branch),
    CommitPrepared(Gid, Branch),
    RollbackPrepared(Gid, Branch),
    Rows(Rows),
    /// A barrier, or another write that changes nothing here.
    Nothing,
}

/// Rows that one local transaction inserts.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Rows {
    pub(crate) batch: Option<BatchId>,
    pub(crate) decision: Option<Decision>,
    pub(crate) transactions: Vec<(Txid, TransactionRow)>,
    pub(crate) marks: Vec<Txid>,
}

impl Change {
    pub(crate) fn batch(&self) -> Option<BatchId> {
        match self {
            Self::Prepare(gid, _)
            | Self::CommitPrepared(gid, _)
            | Self::RollbackPrepared(gid, _) => Some(gid.batch),
            Self::Rows(rows) => rows.batch,
            Self::Nothing => None,
        }
    }
}

impl Tables {
    pub(crate) fn apply(&mut self, change: &Change) {
        match change {
            Change::Prepare(gid, branch) => {
                self.prepared.insert(gid.clone(), branch.clone());
            }
            Change::CommitPrepared(gid, branch) => {
                self.prepared.remove(gid);
                self.branches.insert(gid.batch, gid.home);
                self.mark(gid.batch, &branch.executed);
            }
            Change::RollbackPrepared(gid, _) => {
                self.prepared.remove(gid);
            }
            Change::Rows(rows) => self.insert(rows),
            Change::Nothing => {}
        }
    }

    /// Takes a change back, when a failover has lost it. Changes are taken back last first.
    pub(crate) fn undo(&mut self, change: &Change) {
        match change {
            Change::Prepare(gid, _) => {
                self.prepared.remove(gid);
            }
            Change::CommitPrepared(gid, branch) => {
                self.prepared.insert(gid.clone(), branch.clone());
                self.branches.remove(&gid.batch);
                self.unmark(gid.batch, &branch.executed);
            }
            Change::RollbackPrepared(gid, branch) => {
                self.prepared.insert(gid.clone(), branch.clone());
            }
            Change::Rows(rows) => {
                if let (Some(batch), Some(_)) = (rows.batch, &rows.decision) {
                    self.decisions.remove(&batch);
                }
                for (txid, _) in &rows.transactions {
                    self.transactions.remove(txid);
                }
                if let Some(batch) = rows.batch {
                    self.unmark(batch, &rows.marks);
                }
            }
            Change::Nothing => {}
        }
    }

    fn insert(&mut self, rows: &Rows) {
        if let (Some(batch), Some(decision)) = (rows.batch, &rows.decision) {
            self.decisions.insert(batch, decision.clone());
        }
        for (txid, row) in &rows.transactions {
            self.transactions.insert(*txid, row.clone());
        }
        if let Some(batch) = rows.batch {
            self.mark(batch, &rows.marks);
        }
    }

    fn mark(&mut self, batch: BatchId, txids: &[Txid]) {
        for txid in txids {
            self.marks.entry(*txid).or_default().push(batch);
        }
    }

    fn unmark(&mut self, batch: BatchId, txids: &[Txid]) {
        for txid in txids {
            let Some(marks) = self.marks.get_mut(txid) else {
                continue;
            };
            if let Some(at) = marks.iter().rposition(|mark| *mark == batch) {
                marks.remove(at);
            }
            if marks.is_empty() {
                self.marks.remove(txid);
            }
        }
    }
}
