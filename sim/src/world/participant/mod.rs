//! Participants: the process in front of each shard.
//!
//! It turns questions into jobs on its database, keeps the book of drivers, and scans. What it
//! does is `participant/src/`, statement by statement, without SQL; its scanner runs the real
//! [`gavel_protocol::branch::Branch`], and so the real recovery table.

pub(crate) mod decide;
pub(crate) mod finish;
mod head_start;
pub(crate) mod job;
pub(crate) mod prepare;
pub(crate) mod resolve;
pub(crate) mod scan;
pub(crate) mod steps;

use std::collections::{BTreeMap, BTreeSet};

use gavel_protocol::branch::{Branch, DriverSeen};
use gavel_protocol::message::{NoVote, Vote};
use gavel_protocol::{BatchId, DriverId, Gid, Incarnation, Refusal, RefusalCode};

use self::job::{Job, PreparePhase, Work};
use super::World;
use super::hole::Hole;
use super::network::{Asker, Prepare, Question, Reply};

/// The process in front of one shard.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Participant {
    pub(crate) up: bool,
    pub(crate) paused: bool,
    pub(crate) life: u16,
    /// The shard's incarnation, as it was read at start.
    pub(crate) incarnation: Incarnation,
    pub(crate) attending: BTreeSet<DriverId>,
    pub(crate) closed: BTreeSet<DriverId>,
    /// Whose branches these are; noted before PREPARE is sent.
    pub(crate) notes: BTreeMap<Gid, DriverId>,
    /// Branches that their coordinators have rolled back.
    pub(crate) over: BTreeSet<BatchId>,
    pub(crate) branches: BTreeMap<Gid, Tracked>,
    pub(crate) next_scan: u64,
}

/// A branch that the scan follows.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Tracked {
    pub(crate) branch: Branch,
    pub(crate) first_seen: u64,
    pub(crate) retry_at: u64,
    pub(crate) asked_at: u64,
}

impl Participant {
    pub(crate) fn new() -> Self {
        Self {
            up: true,
            paused: false,
            life: 0,
            incarnation: Incarnation(1),
            attending: BTreeSet::new(),
            closed: BTreeSet::new(),
            notes: BTreeMap::new(),
            over: BTreeSet::new(),
            branches: BTreeMap::new(),
            next_scan: 0,
        }
    }

    pub(crate) fn runs(&self) -> bool {
        self.up && !self.paused
    }

    /// What is known of the driver of a branch (R15).
    pub(crate) fn driver_of(&self, gid: &Gid) -> DriverSeen {
        if self.over.contains(&gid.batch) {
            return DriverSeen::Closed;
        }
        match self.notes.get(gid) {
            None => DriverSeen::Unknown,
            Some(driver) if self.attending.contains(driver) => DriverSeen::Attending,
            Some(driver) if self.closed.contains(driver) => DriverSeen::Closed,
            Some(_) => DriverSeen::Unknown,
        }
    }
}

impl World {
    /// A question arrives at a participant.
    pub(crate) fn on_question(&mut self, at: usize, asker: Asker, question: Question) {
        if !self.participants[at].up {
            self.answer(at, asker, question.unknown());
            return;
        }
        if let Question::Prepare(prepare) = &question {
            if prepare.writes {
                let participant = &mut self.participants[at];
                participant
                    .notes
                    .insert(prepare.gid.clone(), prepare.driver);
            }
            if let Err(refusal) = self.may_prepare(at, prepare) {
                self.participants[at].notes.remove(&prepare.gid);
                self.answer(at, asker, refused(refusal));
                return;
            }
        }
        if !self.shards[at].up {
            let reply = match &question {
                Question::Prepare(_) => refused(unavailable()),
                _ => question.unknown(),
            };
            self.answer(at, asker, reply);
            return;
        }
        match &question {
            Question::CommitSession { batch } => return self.commit_session(at, *batch, asker),
            Question::EndSession { batch } => {
                self.end_session(at, *batch);
                return self.answer(at, asker, Reply::SessionEnded);
            }
            Question::HeadStart { decide, .. } if !self.may_start_ahead(at, decide.batch) => {
                return self.answer(at, asker, Reply::HeadStarted(None));
            }
            Question::Decide(decide) => self.end_head_start(at, decide.batch),
            Question::Resolve { batch, .. } => self.end_idle_head_start(at, *batch),
            _ => {}
        }
        if let Some(job) = Job::new(asker, question, self.now) {
            self.start_job(at, job);
        }
    }

    /// Starts a job, and runs it as far as the grain of this world puts steps together.
    pub(crate) fn start_job(&mut self, at: usize, job: Job) {
        let is_vote_or_decision = matches!(job.work, Work::Prepare(..) | Work::Decide(..));
        self.shards[at].jobs.add(job);
        if self.setup.fine {
            return;
        }
        loop {
            let last = self.shards[at].jobs.len() - 1;
            let job = &self.shards[at].jobs[last];
            let is_ready = !is_vote_or_decision || !job.outlives_its_connection();
            if !is_ready || !self.job_can_step(at, last) || !self.step_job(at, last) {
                return;
            }
        }
    }

    /// `Shard::check_branch` and `Slots::acquire`.
    fn may_prepare(&self, at: usize, prepare: &Prepare) -> Result<(), Refusal> {
        let (shard, participant) = (&self.shards[at], &self.participants[at]);
        let is_other_life = prepare.incarnation != participant.incarnation;
        if is_other_life && !self.setup.has(Hole::AnyIncarnation) {
            return Err(unavailable());
        }
        if prepare.writes && participant.over.contains(&prepare.gid.batch) {
            return Err(Refusal::new(RefusalCode::OutOfSequence, "over"));
        }
        let quota = match self.setup.has(Hole::NoQuota) {
            true => self.setup.slots,
            false => self.setup.slots_per_home,
        };
        let used = shard.slots_in_use();
        let used = used.get(&prepare.gid.home).copied().unwrap_or(0);
        if prepare.writes && used >= quota {
            return Err(Refusal::new(RefusalCode::SlotsExhausted, "slots"));
        }
        Ok(())
    }

    /// The connection of a job is lost: its server crashed, or its backend was terminated. The
    /// participant answers what it knows; what was sent may or may not have been executed.
    pub(crate) fn lose_connection(&mut self, at: usize, job: Job) {
        if job.is_orphan || !self.participants[at].up {
            return;
        }
        if let Work::Prepare(prepare, PreparePhase::Opening) = &job.work {
            self.participants[at].notes.remove(&prepare.gid);
        }
        let reply = match &job.work {
            Work::Prepare(_, PreparePhase::Opening) => refused(unavailable()),
            Work::Prepare(prepare, _) if !prepare.writes => refused(unavailable()),
            Work::Prepare(prepare, _) => Question::Prepare(prepare.clone()).unknown(),
            // It has been answered.
            Work::Decide(..) if job.open_session().is_some() => return,
            Work::Decide(..) if job.head_start.is_some() => Reply::HeadStarted(None),
            Work::Decide(decide, _) => Question::Decide(decide.clone()).unknown(),
            Work::Resolve {
                batch, incarnation, ..
            } => Question::Resolve {
                batch: *batch,
                incarnation: *incarnation,
            }
            .unknown(),
            Work::Finish { gid, kind, .. } => Question::Finish {
                gid: gid.clone(),
                kind: *kind,
            }
            .unknown(),
            Work::Record(record, _) => Question::Record(record.clone()).unknown(),
            Work::Status { txid, .. } => Question::Status { txid: *txid }.unknown(),
        };
        self.answer(at, job.asker, reply);
    }

    // ---- life and death of the process ----

    pub(crate) fn crash_participant(&mut self, at: usize) {
        let participant = &mut self.participants[at];
        *participant = Participant {
            up: false,
            life: participant.life + 1,
            ..Participant::new()
        };
        // What was sent to PostgreSQL may still be executed.
        self.shards[at].jobs.retain(Job::outlives_its_connection);
        for job in self.shards[at].jobs.iter_mut() {
            job.is_orphan = true;
        }
    }

    pub(crate) fn restart_participant(&mut self, at: usize) {
        let incarnation = self.shards[at].incarnation;
        let participant = &mut self.participants[at];
        participant.up = true;
        participant.incarnation = incarnation;
        participant.next_scan = self.now;
    }

    // ---- life and death of the database ----

    /// `kill -9`, or an immediate stop.
    pub(crate) fn crash_shard(&mut self, at: usize) {
        self.shards[at].up = false;
        for job in self.shards[at].jobs.take_all() {
            self.lose_connection(at, job);
        }
    }

    /// What had not been replicated is visible now, and still is not.
    pub(crate) fn restart_shard(&mut self, at: usize) {
        self.shards[at].up = true;
        self.shards[at].show(None);
    }

    /// Another server takes over. With `more`, it has missed acknowledged changes.
    pub(crate) fn fail_over(&mut self, at: usize, more: usize) {
        self.crash_shard(at);
        let lost = self.shards[at].fail_over(more);
        self.shards[at].up = true;
        self.observer.on_lost(&lost);
    }
}

pub(crate) fn refused(refusal: Refusal) -> Reply {
    Reply::Vote(Vote::No(NoVote::Refused(refusal)))
}

pub(crate) fn unavailable() -> Refusal {
    Refusal::new(RefusalCode::ShardUnavailable, "down")
}
