//! A fake PostgreSQL server, as far as two-phase commit can tell it from a real one.
//!
//! - One change is one durable commit. It survives a crash of the server.
//! - With a standby, a change first waits in the `tail`. Until it is replicated nobody sees it and
//!   its locks are held, with three exceptions, all real: a prepared transaction is listed at once;
//!   a crash of the server makes the rest visible without waiting; and so does a cancelled wait,
//!   which reports success with warning 01000. A failover loses the tail.
//! - What holds locks are the jobs at work and the prepared transactions.

mod tables;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use gavel_protocol::recovery::DamageKind;
use gavel_protocol::{BatchId, Gid, Incarnation, ShardTag, Txid};

pub(crate) use tables::{Branch, Change, Rows, Tables, TransactionRow};

use super::bag::Bag;
use super::participant::job::Job;

/// One shard's database, with the jobs that its participant has under way on it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Shard {
    pub(crate) tag: ShardTag,
    pub(crate) up: bool,
    pub(crate) incarnation: Incarnation,
    pub(crate) tables: Tables,
    pub(crate) jobs: Bag<Job>,
    pub(crate) damage: BTreeSet<(BatchId, DamageKind)>,
    /// A prepared transaction of somebody else.
    pub(crate) foreign: bool,
    tail: VecDeque<Logged>,
    archive: VecDeque<Change>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Logged {
    change: Change,
    is_visible: bool,
}

impl Shard {
    pub(crate) fn new(tag: ShardTag) -> Self {
        Self {
            tag,
            up: true,
            incarnation: Incarnation(1),
            tables: Tables::default(),
            jobs: Bag::default(),
            damage: BTreeSet::new(),
            foreign: true,
            tail: VecDeque::new(),
            archive: VecDeque::new(),
        }
    }

    /// Whether everything that can be read here is replicated.
    pub(crate) fn is_replicated(&self) -> bool {
        self.tail.is_empty()
    }

    /// Commits a change. With a standby it waits in the tail.
    pub(crate) fn write(&mut self, change: Change, standby: bool, archive: usize) {
        if !standby {
            self.tables.apply(&change);
            self.keep(change, archive);
            return;
        }
        let is_visible = matches!(change, Change::Prepare(..) | Change::Nothing);
        if is_visible {
            self.tables.apply(&change);
        }
        self.tail.push_back(Logged { change, is_visible });
    }

    /// The standby has caught up: everything is visible and safe. Returns what that is.
    pub(crate) fn replicate(&mut self, archive: usize) -> Vec<Change> {
        let mut safe = Vec::new();
        while let Some(Logged { change, is_visible }) = self.tail.pop_front() {
            if !is_visible {
                self.tables.apply(&change);
            }
            safe.push(change.clone());
            self.keep(change, archive);
        }
        safe
    }

    /// Everything becomes visible, without being safe: after a crash, or for the batch whose wait
    /// was cancelled.
    pub(crate) fn show(&mut self, batch: Option<BatchId>) {
        for logged in &mut self.tail {
            let meant = batch.is_none() || logged.change.batch() == batch;
            if meant && !logged.is_visible {
                logged.is_visible = true;
                self.tables.apply(&logged.change);
            }
        }
    }

    /// A failover to the standby, which knows nothing of the tail; an asynchronous one has missed
    /// `more` changes besides. Returns what was lost of acknowledged changes.
    pub(crate) fn fail_over(&mut self, more: usize) -> Vec<Change> {
        while let Some(Logged { change, is_visible }) = self.tail.pop_back() {
            if is_visible {
                self.tables.undo(&change);
            }
        }
        let lost = more.min(self.archive.len());
        let lost: Vec<Change> = (0..lost).filter_map(|_| self.archive.pop_back()).collect();
        for change in &lost {
            self.tables.undo(change);
        }
        lost
    }

    fn keep(&mut self, change: Change, archive: usize) {
        if archive == 0 {
            return;
        }
        self.archive.push_back(change);
        if self.archive.len() > archive {
            self.archive.pop_front();
        }
    }

    // ---- locks ----

    /// Whether a job other than `but` holds the key of this decision (R4).
    pub(crate) fn decision_is_held(&self, batch: BatchId, but: usize) -> bool {
        self.others(but).any(|job| job.holds_decision(batch))
    }

    /// Whether a job other than `but` holds the key of this transaction.
    pub(crate) fn txid_is_held(&self, txid: Txid, but: usize) -> bool {
        self.others(but).any(|job| job.holds_txid(txid))
    }

    /// Whether a job other than `but` holds the key of this branch.
    pub(crate) fn branch_is_held(&self, batch: BatchId, but: usize) -> bool {
        self.others(but).any(|job| job.holds_branch(batch))
    }

    /// Who has work on this shard that is not committed: prepared branches and jobs but `but`.
    pub(crate) fn uncommitted(&self, but: usize) -> impl Iterator<Item = Txid> + '_ {
        let prepared = self.tables.prepared.values();
        let prepared = prepared.flat_map(|branch| branch.executed.iter().copied());
        let working = self
            .others(but)
            .flat_map(|job| job.works_for().iter().copied().chain(job.decides_for()));
        prepared.chain(working)
    }

    /// Whether somebody other than `but` is finishing this branch, or it waits for replication.
    pub(crate) fn is_busy(&self, gid: &Gid, but: usize) -> bool {
        self.others(but).any(|job| job.is_busy_with(gid))
    }

    fn others(&self, but: usize) -> impl Iterator<Item = &Job> {
        let jobs = self.jobs.iter().enumerate();
        jobs.filter(move |(at, _)| *at != but).map(|(_, job)| job)
    }

    /// Prepared slots in use, by home.
    pub(crate) fn slots_in_use(&self) -> BTreeMap<ShardTag, usize> {
        let mut used = BTreeMap::new();
        for gid in self.tables.prepared.keys() {
            *used.entry(gid.home).or_insert(0) += 1;
        }
        for home in self.jobs.iter().filter_map(Job::takes_slot_of) {
            *used.entry(home).or_insert(0) += 1;
        }
        used
    }
}
