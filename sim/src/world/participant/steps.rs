//! One step of a job: PostgreSQL executes the statement that was sent, and the participant reads
//! the answer and sends the next.

use gavel_protocol::Txid;

use super::job::{DecidePhase, Failure, Job, PreparePhase, RecordPhase, ResolvePhase, Work};
use crate::world::World;
use crate::world::hole::Hole;
use crate::world::ids;
use crate::world::network::{LeftOut, Reply};

/// What a step leads to.
pub(crate) enum Then {
    /// The next statement is sent; `waits` if the last one waits for replication.
    Next { work: Work, waits: bool },
    /// The job is done.
    Answer(Reply),
    /// The job has come as far as it may go by itself.
    Open(Reply, Work),
}

impl Then {
    pub(crate) fn next(work: Work) -> Self {
        Self::Next { work, waits: false }
    }

    /// A head start ends before COMMIT, and does not record that it failed.
    fn for_head_start(self) -> Self {
        match self {
            Self::Next { work, .. } => match work {
                Work::Decide(_, DecidePhase::Aborting(_)) => Self::Answer(Reply::HeadStarted(None)),
                Work::Decide(_, DecidePhase::Committing) => {
                    Self::Open(Reply::HeadStarted(Some(LeftOut::new())), work)
                }
                work => Self::next(work),
            },
            ended => ended,
        }
    }
}

impl World {
    /// Whether the statement that a job has sent can be executed now: its locks are free.
    pub(crate) fn job_can_step(&self, at: usize, place: usize) -> bool {
        let shard = &self.shards[at];
        let job = &shard.jobs[place];
        let is_open = job.open_session().is_some();
        shard.up && !job.waits && !is_open && (job.timed_out || !self.is_blocked(at, place))
    }

    /// Whether a job waits for a lock.
    pub(crate) fn is_blocked(&self, at: usize, place: usize) -> bool {
        let shard = &self.shards[at];
        let rows_last = self.setup.has(Hole::RowsLast);
        match &shard.jobs[place].work {
            Work::Prepare(prepare, PreparePhase::Opening) => {
                let members = prepare.members.iter().map(|member| member.txid);
                self.rows_are_locked(at, place, members)
                    || (prepare.writes && shard.branch_is_held(prepare.gid.batch, place))
            }
            Work::Decide(decide, DecidePhase::Decision) => {
                let rows_last = rows_last || shard.jobs[place].works_first();
                !rows_last && shard.decision_is_held(decide.batch, place)
            }
            Work::Decide(decide, DecidePhase::Transactions) => {
                let is_decided_elsewhere =
                    shard.jobs[place].works_first() && shard.decision_is_held(decide.batch, place);
                let members = decide.members.iter().map(|member| member.txid);
                let failed = decide.failed.iter().map(|failed| failed.txid);
                let mut named = members.clone().chain(failed);
                is_decided_elsewhere
                    || named.any(|txid| !rows_last && shard.txid_is_held(txid, place))
                    || self.rows_are_locked(at, place, members)
            }
            Work::Decide(decide, DecidePhase::Aborting(failure)) => {
                shard.decision_is_held(decide.batch, place)
                    || own_abort(decide, failure)
                        .is_some_and(|own| shard.txid_is_held(own.txid, place))
            }
            Work::Resolve {
                batch,
                phase: ResolvePhase::Forcing,
                ..
            } => shard.decision_is_held(*batch, place),
            Work::Record(record, RecordPhase::Inserting) => {
                let mut aborts = record.aborts.iter();
                aborts.any(|abort| shard.txid_is_held(abort.txid, place))
            }
            Work::Prepare(..)
            | Work::Decide(..)
            | Work::Resolve { .. }
            | Work::Finish { .. }
            | Work::Record(..)
            | Work::Status { .. } => false,
        }
    }

    fn rows_are_locked(
        &self,
        at: usize,
        place: usize,
        members: impl Iterator<Item = Txid>,
    ) -> bool {
        let mut wanted = members.filter_map(|txid| self.row_of(at, txid)).peekable();
        if wanted.peek().is_none() {
            return false;
        }
        // This is asked at every step: each of the members against each of the others would be a
        // quarter of a million comparisons where batches have 500 members.
        let mut locked = [false; 1 << u8::BITS];
        for row in self.locked_rows(at, place) {
            locked[usize::from(row)] = true;
        }
        wanted.any(|row| locked[usize::from(row)])
    }

    /// Whether somebody else has locked the row that this transaction needs on this shard.
    pub(crate) fn row_is_locked(&self, at: usize, but: usize, txid: Txid) -> bool {
        let row = self.row_of(at, txid);
        row.is_some_and(|row| self.locked_rows(at, but).any(|locked| locked == row))
    }

    /// The row that a transaction locks on this shard, if it fights for one.
    fn row_of(&self, at: usize, txid: Txid) -> Option<u8> {
        let spec = self.setup.spec(ids::number(txid));
        let locks = spec.row != 0 && spec.writes.contains(&self.shards[at].tag);
        locks.then_some(spec.row)
    }

    fn locked_rows(&self, at: usize, but: usize) -> impl Iterator<Item = u8> + '_ {
        let others = self.shards[at].uncommitted(but);
        others.filter_map(move |txid| self.row_of(at, txid))
    }

    /// Executes the statement of a job; true if the job goes on at once, as the last in the bag.
    pub(crate) fn step_job(&mut self, at: usize, place: usize) -> bool {
        let Job {
            asker,
            work,
            head_start,
            is_orphan,
            timed_out,
            ..
        } = self.shards[at].jobs.take(place);
        let works_first = head_start.is_some_and(|ahead| ahead.first);
        let then = match work {
            Work::Prepare(prepare, phase) => self.step_prepare(at, prepare, phase, timed_out),
            Work::Decide(decide, DecidePhase::Decision) if works_first => {
                Then::next(Work::Decide(decide, DecidePhase::Transactions))
            }
            Work::Decide(decide, DecidePhase::Transactions) if works_first => {
                self.work_first(at, decide, timed_out)
            }
            Work::Decide(decide, phase) => self.step_decide(at, decide, phase, timed_out),
            Work::Resolve {
                batch,
                incarnation,
                phase,
            } => self.step_resolve(at, batch, incarnation, phase, timed_out),
            Work::Finish { gid, kind, phase } => self.step_finish(at, gid, kind, phase),
            Work::Record(record, phase) => self.step_record(at, record, phase, timed_out),
            Work::Status { txid, has_looked } => self.step_status(at, txid, has_looked),
        };
        let then = match head_start {
            Some(_) => then.for_head_start(),
            None => then,
        };
        match then {
            Then::Open(_, _) if is_orphan => false,
            Then::Open(reply, work) => {
                self.shards[at].jobs.add(Job {
                    asker: asker.clone(),
                    work,
                    head_start,
                    is_orphan,
                    waits: false,
                    timed_out: false,
                    since: self.now,
                });
                self.answer(at, asker, reply);
                false
            }
            Then::Answer(reply) => {
                if !is_orphan {
                    self.answer(at, asker, reply);
                }
                false
            }
            // With nobody connected, PostgreSQL sends no further statement.
            Then::Next { waits: false, .. } if is_orphan => false,
            Then::Next { work, waits } => {
                self.shards[at].jobs.add(Job {
                    asker,
                    work,
                    head_start,
                    is_orphan,
                    waits,
                    timed_out: false,
                    since: self.now,
                });
                !waits
            }
        }
    }

    /// The standby of a shard catches up, and whoever waited for that goes on.
    pub(crate) fn replicate(&mut self, at: usize) {
        for change in self.shards[at].replicate(self.setup.archive) {
            self.observer.on_durable(&change);
        }
        self.shards[at]
            .jobs
            .retain(|job| !job.is_orphan || !job.waits);
        for job in self.shards[at].jobs.iter_mut() {
            job.waits = false;
        }
    }

    /// The wait of a job is cancelled: success, with warning 01000 (facts 2).
    pub(crate) fn cancel_wait(&mut self, at: usize, place: usize) {
        let job = self.shards[at].jobs.take(place);
        self.end_wait(at, &job);
        let ignores = self.setup.has(Hole::WarningIgnored);
        match job.work {
            Work::Decide(_, DecidePhase::Committed) if ignores && !job.is_orphan => {
                let decided = gavel_protocol::message::Decided::Committed;
                self.answer(at, job.asker, Reply::Decided(decided));
            }
            _ => self.lose_connection(at, job),
        }
    }

    /// A backend is terminated. If it waited for replication, its change is visible from now on.
    pub(crate) fn terminate(&mut self, at: usize, place: usize) {
        let job = self.shards[at].jobs.take(place);
        self.end_wait(at, &job);
        self.lose_connection(at, job);
    }

    fn end_wait(&mut self, at: usize, job: &Job) {
        let batch = match &job.work {
            Work::Prepare(prepare, _) => Some(prepare.gid.batch),
            Work::Decide(decide, _) => Some(decide.batch),
            Work::Resolve { batch, .. } => Some(*batch),
            Work::Finish { gid, .. } => Some(gid.batch),
            Work::Record(record, _) => record.batch,
            Work::Status { .. } => None,
        };
        if job.waits {
            self.shards[at].show(batch);
        }
    }
}

/// The failure of a batch of one, by its own doing, is recorded with its abort row.
pub(crate) fn own_abort(
    decide: &crate::world::network::Decide,
    failure: &Failure,
) -> Option<gavel_protocol::message::FailedMember> {
    use gavel_protocol::message::{FailedMember, MemberFailure};
    let [member] = &decide.members[..] else {
        return None;
    };
    let failure = match failure {
        Failure::Culprit { failure, .. } | Failure::NoCulprit(failure) => failure,
        Failure::Recorded | Failure::Refused(_) => return None,
    };
    let MemberFailure::Failed(reason) = failure else {
        return None;
    };
    Some(FailedMember {
        txid: member.txid,
        request_hash: member.hash,
        reason: reason.clone(),
    })
}
