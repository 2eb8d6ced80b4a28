//! Deciding at home; `participant/src/decide.rs`.

use gavel_protocol::message::{
    Decided, Decision, KnownTxid, MemberFailure, MemberReport, Recorded, WhyAborted,
};
use gavel_protocol::{Refusal, RefusalCode, Txid};

use super::job::{DecidePhase, Failure, Work};
use super::prepare::guard;
use super::steps::{Then, own_abort};
use super::unavailable;
use crate::world::World;
use crate::world::hole::Hole;
use crate::world::ids;
use crate::world::network::{Decide, Reply, cut};
use crate::world::setup::Nature;
use crate::world::shard::{Change, Rows, TransactionRow};

impl World {
    pub(crate) fn step_decide(
        &mut self,
        at: usize,
        decide: Decide,
        phase: DecidePhase,
        timed_out: bool,
    ) -> Then {
        let then = match phase {
            DecidePhase::Decision => self.insert_decision(at, &decide, timed_out),
            DecidePhase::Transactions => self.run_at_home(at, &decide, timed_out),
            DecidePhase::Committing => return self.commit_decision(at, decide),
            DecidePhase::Committed => return committed(),
            DecidePhase::Aborting(failure) => {
                return self.insert_abort(at, decide, failure, timed_out);
            }
            DecidePhase::ReadingBack(failure) => {
                let decided = self.read_back(at, &decide, failure);
                return Then::Answer(Reply::Decided(decided));
            }
        };
        let next = match then {
            Ok(next) => next,
            Err(failure) => DecidePhase::Aborting(failure),
        };
        Then::next(Work::Decide(decide, next))
    }

    /// R4: the decision row, plainly.
    fn insert_decision(
        &self,
        at: usize,
        decide: &Decide,
        timed_out: bool,
    ) -> Result<DecidePhase, Failure> {
        let shard = &self.shards[at];
        let is_other_life = shard.incarnation != decide.incarnation;
        if is_other_life && !self.setup.has(Hole::AnyIncarnation) {
            return Err(Failure::Refused(unavailable()));
        }
        let floor = shard.tables.floor_ms;
        let mut txids = decide.txids();
        let txid_too_old = txids.any(|txid| txid.unix_ms() < floor);
        let too_old = decide.batch.unix_ms() < floor
            || self.is_too_old(decide.batch)
            || (txid_too_old && !self.setup.has(Hole::NoFloor));
        if too_old {
            let refusal = Refusal::new(RefusalCode::TxidTooOld, "floor");
            return Err(Failure::Refused(refusal));
        }
        if timed_out {
            return Err(Failure::Refused(lock_timeout()));
        }
        let is_taken = shard.tables.decisions.contains_key(&decide.batch);
        if is_taken && !self.setup.has(Hole::RowsLast) {
            return Err(Failure::Recorded);
        }
        Ok(DecidePhase::Transactions)
    }

    /// R8: the transaction rows.
    fn insert_transactions(
        &self,
        at: usize,
        decide: &Decide,
        timed_out: bool,
    ) -> Result<(), Failure> {
        let shard = &self.shards[at];
        let mut txids = decide.txids();
        if timed_out && txids.any(|txid| shard.txid_is_held(txid, super::prepare::NOBODY)) {
            return Err(Failure::Refused(lock_timeout()));
        }
        let is_recorded = |txid: Txid| shard.tables.transactions.contains_key(&txid);
        let looks = !self.setup.has(Hole::NoTransactionRow);
        if looks && !self.setup.has(Hole::RowsLast) && decide.txids().any(is_recorded) {
            return Err(Failure::Recorded);
        }
        Ok(())
    }

    /// All rows at once, after the work; whether that was possible.
    pub(super) fn insert_rows(&self, at: usize, decide: &Decide, timed_out: bool) -> bool {
        let is_held = self.shards[at].decision_is_held(decide.batch, super::prepare::NOBODY);
        self.insert_decision(at, decide, timed_out && is_held)
            .is_ok()
            && self.insert_transactions(at, decide, timed_out).is_ok()
    }

    /// The transaction rows, then the members' work.
    fn run_at_home(
        &self,
        at: usize,
        decide: &Decide,
        timed_out: bool,
    ) -> Result<DecidePhase, Failure> {
        self.insert_transactions(at, decide, timed_out)?;
        let members: Vec<Txid> = decide.members.iter().map(|member| member.txid).collect();
        for (index, txid) in members.iter().enumerate() {
            let run = self.run_member(at, *txid, &members[..index], timed_out);
            if let Err(failure) = run {
                return Err(Failure::Culprit {
                    index,
                    failure,
                    also: self.rehearse(at, &members, index),
                });
            }
        }
        Ok(DecidePhase::Committing)
    }

    /// Which of the later members fail as well, run without the culprit and those before it.
    fn rehearse(&self, at: usize, members: &[Txid], culprit: usize) -> Vec<usize> {
        let later = &members[culprit + 1..];
        let reports = self.run_members(at, later, false);
        let each = reports.iter().enumerate();
        each.filter(|(_, report)| {
            matches!(report, MemberReport::Failed(_) | MemberReport::Refused(_))
        })
        .map(|(index, _)| culprit + 1 + index)
        .collect()
    }

    /// COMMIT: the decision.
    fn commit_decision(&mut self, at: usize, decide: Decide) -> Then {
        let members: Vec<Txid> = decide.members.iter().map(|member| member.txid).collect();
        if self.breaks_deferred(at, &members) {
            let failure = Failure::NoCulprit(MemberFailure::Failed(guard()));
            return Then::next(Work::Decide(decide, DecidePhase::Aborting(failure)));
        }
        let rows = self.rows_of(at, &decide, &members);
        if rows.decision.is_some() {
            self.observer
                .on_decided(decide.batch, &decide.prepared, &members);
        }
        let standby = self.write(at, Change::Rows(rows));
        let hurries = |txid: &Txid| self.setup.spec(ids::number(*txid)).nature == Nature::Hurries;
        if standby && self.setup.has(Hole::Unpinned) && members.iter().any(hurries) {
            self.shards[at].show(Some(decide.batch));
            return committed();
        }
        if !standby {
            return committed();
        }
        Then::Next {
            work: Work::Decide(decide, DecidePhase::Committed),
            waits: true,
        }
    }

    fn rows_of(&self, at: usize, decide: &Decide, members: &[Txid]) -> Rows {
        let shard = &self.shards[at];
        let committed = decide.members.iter().map(|member| {
            let row = TransactionRow {
                aborted: None,
                hash: member.hash,
                principal: decide.principal,
            };
            (member.txid, row)
        });
        let failed = decide.failed.iter().map(|failed| {
            let row = TransactionRow {
                aborted: Some(failed.reason.clone()),
                hash: failed.request_hash,
                principal: decide.principal,
            };
            (failed.txid, row)
        });
        let is_new = |txid: &Txid| !shard.tables.transactions.contains_key(txid);
        let works = |txid: &&Txid| {
            let spec = self.setup.spec(ids::number(**txid));
            spec.writes.contains(&shard.tag)
        };
        let commit = Decision::Commit {
            prepared: decide.prepared.clone(),
        };
        let is_taken = shard.tables.decisions.contains_key(&decide.batch);
        Rows {
            batch: Some(decide.batch),
            decision: (!is_taken).then_some(commit),
            transactions: committed
                .chain(failed)
                .filter(|(txid, _)| is_new(txid))
                .collect(),
            marks: members.iter().filter(works).copied().collect(),
        }
    }

    /// R5: commits an abort row for this batch, and the failure of its only member with it.
    fn insert_abort(
        &mut self,
        at: usize,
        decide: Decide,
        failure: Failure,
        timed_out: bool,
    ) -> Then {
        let shard = &self.shards[at];
        let is_other_life = shard.incarnation != decide.incarnation;
        let is_dropped = decide.batch.unix_ms() < shard.tables.dropped_ms;
        let other_life = is_other_life && !self.setup.has(Hole::AnyIncarnation);
        if timed_out || is_dropped || other_life {
            return Then::Answer(Reply::Decided(Decided::Unknown { detail: cut() }));
        }
        let own = own_abort(&decide, &failure)
            .filter(|own| !shard.tables.transactions.contains_key(&own.txid));
        let is_taken = shard.tables.decisions.contains_key(&decide.batch);
        let rows = Rows {
            batch: Some(decide.batch),
            decision: (!is_taken).then_some(Decision::Abort),
            transactions: own
                .map(|own| {
                    let row = TransactionRow {
                        aborted: Some(own.reason),
                        hash: own.request_hash,
                        principal: decide.principal,
                    };
                    (own.txid, row)
                })
                .into_iter()
                .collect(),
            marks: Vec::new(),
        };
        let change = match is_taken && rows.transactions.is_empty() {
            true => Change::Nothing,
            false => Change::Rows(rows),
        };
        let work = Work::Decide(decide, DecidePhase::ReadingBack(failure));
        let waits = self.commit_rows(at, change);
        Then::Next { work, waits }
    }

    /// Commits a change of home's own; whether its answer waits for replication.
    pub(crate) fn commit_rows(&mut self, at: usize, change: Change) -> bool {
        let is_barrier = change == Change::Nothing;
        !(is_barrier && self.shards[at].is_replicated()) && self.write(at, change)
    }

    /// Commits a change; whether it waits for replication.
    pub(crate) fn write(&mut self, at: usize, change: Change) -> bool {
        if !self.setup.standby {
            self.observer.on_durable(&change);
        }
        self.shards[at].write(change, self.setup.standby, self.setup.archive);
        self.setup.standby
    }

    fn read_back(&self, at: usize, decide: &Decide, failure: Failure) -> Decided {
        let tables = &self.shards[at].tables;
        match tables.decisions.get(&decide.batch) {
            None => return Decided::Unknown { detail: cut() },
            // A duplicate of this decide has won.
            Some(Decision::Commit { .. }) => return Decided::Committed,
            Some(Decision::Abort) => {}
        }
        let members = decide
            .members
            .iter()
            .map(|member| (member.txid, member.hash));
        let failed = decide.failed.iter();
        let submitted = members.chain(failed.map(|failed| (failed.txid, failed.request_hash)));
        let known: Vec<KnownTxid> = submitted
            .filter_map(|(txid, hash)| {
                let row = tables.transactions.get(&txid)?;
                let record = row.recorded(decide.principal, hash);
                Some(KnownTxid { txid, record })
            })
            .collect();
        Decided::Aborted(why(decide, failure, known))
    }
}

/// What the coordinator hears. A recorded outcome goes before a failure of this try.
fn why(decide: &Decide, failure: Failure, known: Vec<KnownTxid>) -> WhyAborted {
    let own = own_abort(decide, &failure).map(|own| KnownTxid {
        txid: own.txid,
        record: Recorded::Aborted(own.reason),
    });
    let recorded = !known.is_empty();
    let others: Vec<KnownTxid> = known
        .into_iter()
        .filter(|known| Some(known) != own.as_ref())
        .collect();
    if !others.is_empty() {
        return WhyAborted::Known(others);
    }
    match failure {
        Failure::Culprit {
            index,
            failure,
            also,
        } => WhyAborted::Member {
            index,
            failure,
            recorded,
            also,
        },
        Failure::NoCulprit(failure) => WhyAborted::NoCulprit { failure, recorded },
        Failure::Recorded => {
            WhyAborted::Refused(Refusal::new(RefusalCode::Contended, "recorded first"))
        }
        Failure::Refused(refusal) => WhyAborted::Refused(refusal),
    }
}

impl Decide {
    /// Everybody whose row it writes.
    pub(crate) fn txids(&self) -> impl Iterator<Item = Txid> + '_ {
        let members = self.members.iter().map(|member| member.txid);
        members.chain(self.failed.iter().map(|failed| failed.txid))
    }
}

fn committed() -> Then {
    Then::Answer(Reply::Decided(Decided::Committed))
}

fn lock_timeout() -> Refusal {
    Refusal::new(RefusalCode::LockTimeout, "lock")
}
