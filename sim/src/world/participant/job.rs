//! Jobs: what a participant has under way on its shard, between two answers of PostgreSQL.
//!
//! A phase names the statement that has been sent and not yet executed. If the participant dies
//! then, its job becomes an orphan: PostgreSQL may still execute that one statement (facts 11).

use gavel_protocol::message::{FinishKind, MemberFailure, MemberReport, RegisterAnswer, Vote};
use gavel_protocol::{BatchId, DriverId, Gid, Incarnation, Refusal, ShardTag, Txid};

use crate::world::network::{Asker, Decide, Prepare, Question, Record};

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Job {
    pub(crate) asker: Asker,
    pub(crate) work: Work,
    /// A head start: it stops before COMMIT.
    pub(crate) head_start: Option<HeadStart>,
    /// Its participant is gone: nobody hears the answer.
    pub(crate) is_orphan: bool,
    /// Its last statement waits for replication.
    pub(crate) waits: bool,
    /// A lock was not to be had in time.
    pub(crate) timed_out: bool,
    /// When its statement was sent (simulation only).
    pub(crate) since: u64,
}

/// What makes a decide a head start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct HeadStart {
    pub(crate) driver: DriverId,
    /// No branch has been asked: who fails is left out, and the rows come after the work.
    pub(crate) first: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Work {
    Prepare(Prepare, PreparePhase),
    Decide(Decide, DecidePhase),
    Resolve {
        batch: BatchId,
        incarnation: Incarnation,
        phase: ResolvePhase,
    },
    Finish {
        gid: Gid,
        kind: FinishKind,
        phase: FinishPhase,
    },
    Record(Record, RecordPhase),
    Status {
        txid: Txid,
        has_looked: bool,
    },
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum PreparePhase {
    /// BEGIN, the branch row, the members' work.
    Opening,
    /// PREPARE TRANSACTION.
    Preparing {
        executed: Vec<Txid>,
        reports: Vec<MemberReport>,
    },
    /// It is prepared; only the answer is missing.
    Voting(Vote),
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum DecidePhase {
    /// BEGIN and the decision row.
    Decision,
    /// The transaction rows, then the members' work. The decision row is held.
    Transactions,
    /// COMMIT. Everything is held.
    Committing,
    /// Only the answer is missing.
    Committed,
    /// The abort row, after a ROLLBACK.
    Aborting(Failure),
    /// The rows are read back.
    ReadingBack(Failure),
}

/// What made the deciding transaction fail; `participant/src/decide.rs`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Failure {
    Culprit {
        index: usize,
        failure: MemberFailure,
        also: Vec<usize>,
    },
    NoCulprit(MemberFailure),
    Recorded,
    Refused(Refusal),
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum ResolvePhase {
    Looking,
    Forcing,
    Reading,
    Answering(RegisterAnswer),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum FinishPhase {
    Executing,
    /// It is finished; only the answer is missing.
    Answering,
    /// It does not exist: the branch row is read, behind a barrier.
    Explaining,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum RecordPhase {
    Inserting,
    ReadingBack,
}

impl Job {
    /// The job that a question becomes. Those about sessions become none.
    pub(crate) fn new(asker: Asker, question: Question, since: u64) -> Option<Self> {
        let head_start = match &question {
            Question::HeadStart { driver, first, .. } => Some(HeadStart {
                driver: *driver,
                first: *first,
            }),
            _ => None,
        };
        let work = match question {
            Question::CommitSession { .. } | Question::EndSession { .. } => return None,
            Question::Prepare(prepare) => Work::Prepare(prepare, PreparePhase::Opening),
            Question::Decide(decide) | Question::HeadStart { decide, .. } => {
                Work::Decide(decide, DecidePhase::Decision)
            }
            Question::Resolve { batch, incarnation } => Work::Resolve {
                batch,
                incarnation,
                phase: ResolvePhase::Looking,
            },
            Question::Finish { gid, kind } => Work::Finish {
                gid,
                kind,
                phase: FinishPhase::Executing,
            },
            Question::Record(record) => Work::Record(record, RecordPhase::Inserting),
            Question::Status { txid } => Work::Status {
                txid,
                has_looked: false,
            },
        };
        Some(Self {
            asker,
            work,
            head_start,
            is_orphan: false,
            waits: false,
            timed_out: false,
            since,
        })
    }

    /// Home's work on a batch is done, and waits for the votes: the batch and its driver.
    pub(crate) fn open_session(&self) -> Option<(BatchId, DriverId)> {
        match &self.work {
            Work::Decide(decide, DecidePhase::Committing) => {
                self.head_start.map(|ahead| (decide.batch, ahead.driver))
            }
            _ => None,
        }
    }

    /// Whether it works before any branch is asked.
    pub(crate) fn works_first(&self) -> bool {
        self.head_start.is_some_and(|ahead| ahead.first)
    }

    /// Whether this is the head start of a batch, at work or done.
    pub(crate) fn is_head_start_of(&self, batch: BatchId) -> bool {
        matches!(&self.work, Work::Decide(decide, _)
            if decide.batch == batch && self.head_start.is_some())
    }

    pub(crate) fn holds_decision(&self, batch: BatchId) -> bool {
        match &self.work {
            Work::Decide(decide, phase) if decide.batch == batch => match phase {
                DecidePhase::Decision | DecidePhase::Aborting(_) => false,
                DecidePhase::Transactions => !self.works_first(),
                DecidePhase::Committing => true,
                DecidePhase::Committed | DecidePhase::ReadingBack(_) => self.waits,
            },
            Work::Resolve {
                batch: resolved,
                phase: ResolvePhase::Reading,
                ..
            } => *resolved == batch && self.waits,
            _ => false,
        }
    }

    pub(crate) fn holds_txid(&self, txid: Txid) -> bool {
        match &self.work {
            Work::Decide(decide, DecidePhase::Committing) => decide.names(txid),
            Work::Decide(decide, DecidePhase::Committed | DecidePhase::ReadingBack(_)) => {
                self.waits && decide.names(txid)
            }
            Work::Record(record, RecordPhase::ReadingBack) => {
                self.waits && record.aborts.iter().any(|abort| abort.txid == txid)
            }
            _ => false,
        }
    }

    pub(crate) fn holds_branch(&self, batch: BatchId) -> bool {
        matches!(
            &self.work,
            Work::Prepare(prepare, PreparePhase::Preparing { .. })
                if prepare.writes && prepare.gid.batch == batch
        )
    }

    /// Whose rows it has locked.
    pub(crate) fn works_for(&self) -> &[Txid] {
        match &self.work {
            Work::Prepare(_, PreparePhase::Preparing { executed, .. }) => executed,
            _ => &[],
        }
    }

    /// Whose rows it has locked at home.
    pub(crate) fn decides_for(&self) -> impl Iterator<Item = Txid> + '_ {
        let members = match &self.work {
            Work::Decide(decide, DecidePhase::Committing) => &decide.members[..],
            Work::Decide(decide, DecidePhase::Committed) if self.waits => &decide.members[..],
            _ => &[],
        };
        members.iter().map(|member| member.txid)
    }

    /// 55000: it is being prepared or finished, or waits for replication.
    pub(crate) fn is_busy_with(&self, gid: &Gid) -> bool {
        match &self.work {
            Work::Prepare(prepare, PreparePhase::Voting(_)) => self.waits && prepare.gid == *gid,
            Work::Finish {
                gid: finished,
                phase: FinishPhase::Answering,
                ..
            } => self.waits && finished == gid,
            _ => false,
        }
    }

    /// The home for which it is about to take a prepared slot.
    pub(crate) fn takes_slot_of(&self) -> Option<ShardTag> {
        match &self.work {
            Work::Prepare(prepare, PreparePhase::Opening | PreparePhase::Preparing { .. })
                if prepare.writes =>
            {
                Some(prepare.gid.home)
            }
            _ => None,
        }
    }

    /// Whether PostgreSQL may still do something for it that matters, with nobody connected.
    pub(crate) fn outlives_its_connection(&self) -> bool {
        let is_last = matches!(
            self.work,
            Work::Prepare(_, PreparePhase::Preparing { .. })
                | Work::Decide(_, DecidePhase::Committing)
        );
        self.waits || (is_last && self.head_start.is_none())
    }
}

impl Decide {
    /// Whether it writes a row for this txid.
    pub(crate) fn names(&self, txid: Txid) -> bool {
        self.members.iter().any(|member| member.txid == txid)
            || self.failed.iter().any(|failed| failed.txid == txid)
    }
}
