//! Home's work ahead of the votes; `participant/src/session.rs`.
//!
//! A head start is a job that does what a decide does, stops before COMMIT, and holds what it has
//! locked until it is committed, ended, or nobody comes back to it.

use gavel_protocol::message::{FailedMember, MemberReport};
use gavel_protocol::{BatchId, Txid};

use super::job::{DecidePhase, Job, Work};
use super::steps::Then;
use crate::world::World;
use crate::world::network::{Asker, Decide, LeftOut, Question, Reply};

impl World {
    /// Home's work before any branch is asked, without those who fail, and then the rows;
    /// `participant/src/decide/first.rs`.
    pub(super) fn work_first(&self, at: usize, decide: Decide, timed_out: bool) -> Then {
        let members: Vec<Txid> = decide.members.iter().map(|member| member.txid).collect();
        let reports = self.run_members(at, &members, timed_out);
        let mut worked = Decide {
            members: Vec::new(),
            ..decide
        };
        let mut left_out = LeftOut::new();
        for (place, (member, report)) in decide.members.into_iter().zip(reports).enumerate() {
            if report == MemberReport::Executed {
                worked.members.push(member);
                continue;
            }
            if let MemberReport::Failed(reason) = &report {
                worked.failed.push(FailedMember {
                    txid: member.txid,
                    request_hash: member.hash,
                    reason: reason.clone(),
                });
            }
            left_out.insert(place, report);
        }
        let ready = Reply::HeadStarted(Some(left_out));
        if worked.members.is_empty() {
            return Then::Answer(ready);
        }
        match self.insert_rows(at, &worked, timed_out) {
            true => Then::Open(ready, Work::Decide(worked, DecidePhase::Committing)),
            false => Then::Answer(Reply::HeadStarted(None)),
        }
    }

    /// A batch has one session, and none after it was ended.
    pub(super) fn may_start_ahead(&self, at: usize, batch: BatchId) -> bool {
        let is_over = self.participants[at].over.contains(&batch);
        let mut jobs = self.shards[at].jobs.iter();
        !is_over && !jobs.any(|job| job.is_head_start_of(batch))
    }

    /// COMMIT, which is the decision.
    pub(super) fn commit_session(&mut self, at: usize, batch: BatchId, asker: Asker) {
        let mut jobs = self.shards[at].jobs.iter();
        let is_it = |job: &Job| job.open_session().is_some_and(|(open, _)| open == batch);
        let Some(place) = jobs.position(is_it) else {
            let unknown = Question::CommitSession { batch }.unknown();
            return self.answer(at, asker, unknown);
        };
        let job = self.shards[at].jobs.take(place);
        self.start_job(
            at,
            Job {
                asker,
                head_start: None,
                since: self.now,
                ..job
            },
        );
    }

    /// Its coordinator gives the batch up.
    pub(super) fn end_session(&mut self, at: usize, batch: BatchId) {
        self.participants[at].over.insert(batch);
        self.end_head_start(at, batch);
    }

    pub(super) fn end_head_start(&mut self, at: usize, batch: BatchId) {
        let jobs = &mut self.shards[at].jobs;
        jobs.retain(|job| !job.is_head_start_of(batch));
    }

    /// One that still works is waited for (R4).
    pub(super) fn end_idle_head_start(&mut self, at: usize, batch: BatchId) {
        let is_idle = |job: &Job| job.open_session().is_some_and(|(open, _)| open == batch);
        self.shards[at].jobs.retain(|job| !is_idle(job));
    }

    /// Sessions whose drivers are known to be gone.
    pub(super) fn sweep_sessions(&mut self, at: usize) {
        let closed = &self.participants[at].closed;
        let is_left = |job: &Job| {
            let session = job.open_session();
            session.is_some_and(|(_, driver)| closed.contains(&driver))
        };
        self.shards[at].jobs.retain(|job| !is_left(job));
    }

    /// Whether a session has been idle for too long.
    pub(crate) fn session_is_forgotten(&self, at: usize, place: usize) -> bool {
        let job = &self.shards[at].jobs[place];
        let Some((batch, _)) = job.open_session() else {
            return false;
        };
        match &self.setup.timers {
            Some(timers) => self.now >= job.since + timers.answer_ms,
            // Time passes sooner or later, but not while somebody is about to come back.
            None => !self
                .coordinators
                .iter()
                .any(|each| each.needs_session(batch)),
        }
    }
}
