//! Preparing a branch; `participant/src/prepare.rs`.

use gavel_protocol::message::{MemberFailure, MemberReport, NoVote, Vote};
use gavel_protocol::{AbortCode, AbortReason, BatchId, MembersDigest, Refusal, RefusalCode, Txid};

use super::job::{PreparePhase, Work};
use super::refused;
use super::steps::Then;
use crate::world::World;
use crate::world::hole::Hole;
use crate::world::ids::{self, EPOCH_MS};
use crate::world::network::{Prepare, Reply, cut};
use crate::world::setup::Nature;
use crate::world::shard::{Branch, Change};

/// Nobody's place in a bag of jobs.
pub(crate) const NOBODY: usize = usize::MAX;

/// Members that share a savepoint; fewer than in life, so that small batches have several.
const CHUNK_MEMBERS: usize = 2;

impl World {
    pub(crate) fn step_prepare(
        &mut self,
        at: usize,
        prepare: Prepare,
        phase: PreparePhase,
        timed_out: bool,
    ) -> Then {
        let then = match phase {
            PreparePhase::Opening => self.open_branch(at, &prepare, timed_out),
            PreparePhase::Preparing { executed, reports } => {
                self.prepare_transaction(at, &prepare, executed, reports)
            }
            PreparePhase::Voting(vote) => Ok(Voted::Now(vote)),
        };
        match then {
            Ok(Voted::Now(vote)) => {
                if matches!(vote, Vote::No(_)) {
                    self.participants[at].notes.remove(&prepare.gid);
                }
                Then::Answer(Reply::Vote(vote))
            }
            Ok(Voted::AfterReplication(vote)) => Then::Next {
                work: Work::Prepare(prepare, PreparePhase::Voting(vote)),
                waits: true,
            },
            Err(next) => Then::next(Work::Prepare(prepare, next)),
        }
    }

    /// BEGIN, the branch row (R1), the members' work.
    fn open_branch(
        &mut self,
        at: usize,
        prepare: &Prepare,
        timed_out: bool,
    ) -> Result<Voted, PreparePhase> {
        let shard = &self.shards[at];
        let batch = prepare.gid.batch;
        let other_life = shard.incarnation != prepare.incarnation;
        if (other_life && !self.setup.has(Hole::AnyIncarnation)) || self.is_too_old(batch) {
            return Ok(Voted::Now(no(RefusalCode::ShardUnavailable)));
        }
        let is_duplicate = prepare.writes
            && (shard.tables.branches.contains_key(&batch)
                || shard.tables.prepared.contains_key(&prepare.gid)
                || shard.branch_is_held(batch, NOBODY));
        if is_duplicate && !self.setup.has(Hole::NoBranchRow) {
            return Ok(Voted::Now(Vote::Unknown { detail: cut() }));
        }
        let members: Vec<Txid> = prepare.members.iter().map(|member| member.txid).collect();
        let reports = self.run_members(at, &members, timed_out);
        let executed = executed(&members, &reports);
        if executed.is_empty() {
            return Ok(Voted::Now(Vote::No(NoVote::NoneExecuted { reports })));
        }
        if !prepare.writes {
            return Ok(Voted::Now(Vote::ReadOnly { reports }));
        }
        Err(PreparePhase::Preparing { executed, reports })
    }

    /// Whether a batch is older than participants take (R14). Their clock is their database's.
    pub(crate) fn is_too_old(&self, batch: BatchId) -> bool {
        let timers = self.setup.timers.as_ref();
        let oldest = timers.map_or(0, |timers| self.now.saturating_sub(timers.batch_age_ms));
        batch.unix_ms() < EPOCH_MS + oldest
    }

    /// The vote itself: only the tag says what happened (facts 1).
    fn prepare_transaction(
        &mut self,
        at: usize,
        prepare: &Prepare,
        executed: Vec<Txid>,
        reports: Vec<MemberReport>,
    ) -> Result<Voted, PreparePhase> {
        let yes = Vote::Yes {
            digest: MembersDigest::of(executed.iter().copied()),
            xid: 1,
            reports,
        };
        if self.breaks_deferred(at, &executed) {
            // In an aborted transaction PREPARE is not an error: its tag is ROLLBACK.
            if self.setup.has(Hole::TagIgnored) {
                return Ok(Voted::Now(yes));
            }
            let failure = MemberFailure::Failed(guard());
            return Ok(Voted::Now(Vote::No(NoVote::NoCulprit(failure))));
        }
        let shard = &mut self.shards[at];
        if shard.tables.prepared.contains_key(&prepare.gid) {
            return Ok(Voted::Now(Vote::Unknown { detail: cut() }));
        }
        if shard.tables.prepared.len() >= self.setup.slots {
            let refusal = Refusal::new(RefusalCode::SlotsExhausted, "53200");
            let failure = MemberFailure::Refused(refusal);
            return Ok(Voted::Now(Vote::No(NoVote::NoCulprit(failure))));
        }
        let at_ms = self.now;
        let branch = Branch { executed, at_ms };
        self.observer
            .on_prepared(prepare.gid.batch, shard.tag, &branch);
        let change = Change::Prepare(prepare.gid.clone(), branch);
        Ok(match self.write(at, change) {
            true => Voted::AfterReplication(yes),
            false => Voted::Now(yes),
        })
    }

    // ---- the members' work ----

    /// Everybody at once; if somebody fails, in chunks behind savepoints, without those who do
    /// (R10).
    pub(crate) fn run_members(
        &self,
        at: usize,
        members: &[Txid],
        timed_out: bool,
    ) -> Vec<MemberReport> {
        if self.first_failure(at, members, &[], timed_out).is_none() {
            return vec![MemberReport::Executed; members.len()];
        }
        let mut reports = vec![MemberReport::NotRun; members.len()];
        let mut executed: Vec<Txid> = Vec::new();
        let mut tries_left = self.setup.savepoints_max;
        for first in (0..members.len()).step_by(CHUNK_MEMBERS) {
            let mut chunk: Vec<usize> = (first..members.len().min(first + CHUNK_MEMBERS)).collect();
            let mut failures = Vec::new();
            while !chunk.is_empty() && tries_left > 0 {
                tries_left -= 1;
                let run: Vec<Txid> = chunk.iter().map(|place| members[*place]).collect();
                match self.first_failure(at, &run, &executed, timed_out) {
                    Some((index, report)) => {
                        let culprit = chunk.remove(index);
                        reports[culprit] = report;
                        failures.push((culprit, chunk[..index].to_vec()));
                    }
                    None => {
                        executed.extend(run);
                        for place in chunk.drain(..) {
                            reports[place] = MemberReport::Executed;
                        }
                    }
                }
            }
            for (culprit, seen) in failures {
                let is_executed = |place: &usize| reports[*place] == MemberReport::Executed;
                if !seen.iter().all(is_executed) {
                    reports[culprit] = MemberReport::NotRun;
                }
            }
        }
        reports
    }

    /// The first of these members that fails, after the work of those `before` them.
    fn first_failure(
        &self,
        at: usize,
        members: &[Txid],
        before: &[Txid],
        timed_out: bool,
    ) -> Option<(usize, MemberReport)> {
        let mut seen = before.to_vec();
        for (index, txid) in members.iter().enumerate() {
            if let Err(failure) = self.run_member(at, *txid, &seen, timed_out) {
                let report = match failure {
                    MemberFailure::Failed(reason) => MemberReport::Failed(reason),
                    MemberFailure::Refused(why) => MemberReport::Refused(why),
                };
                return Some((index, report));
            }
            seen.push(*txid);
        }
        None
    }

    /// One member's work on a shard, after the work of those `before` it.
    pub(crate) fn run_member(
        &self,
        at: usize,
        txid: Txid,
        before: &[Txid],
        timed_out: bool,
    ) -> Result<(), MemberFailure> {
        let shard = &self.shards[at];
        let spec = self.setup.spec(ids::number(txid));
        if !spec.takes_part(shard.tag) || self.setup.has(Hole::BlindPipeline) {
            return Ok(());
        }
        if timed_out && self.row_is_locked(at, NOBODY, txid) {
            let refusal = Refusal::new(RefusalCode::LockTimeout, "lock");
            return Err(MemberFailure::Refused(refusal));
        }
        let spoils = |other: &Txid| {
            self.setup.spec(ids::number(*other)).nature == Nature::Spoils && *other != txid
        };
        let fails = match spec.nature {
            Nature::Fails(on) => on == shard.tag,
            Nature::FailsAfter(on, other) => {
                let is_other = |txid: &Txid| ids::number(*txid) == other;
                on == shard.tag
                    && (before.iter().any(is_other) || shard.tables.marks.keys().any(is_other))
            }
            Nature::Fine | Nature::Deferred(_) | Nature::Spoils | Nature::Hurries => false,
        };
        match fails || before.iter().any(spoils) {
            true => Err(MemberFailure::Failed(guard())),
            false => Ok(()),
        }
    }

    /// Whether a deferred constraint fails at PREPARE or COMMIT (facts 3).
    pub(crate) fn breaks_deferred(&self, at: usize, executed: &[Txid]) -> bool {
        let tag = self.shards[at].tag;
        executed.iter().any(|txid| {
            let spec = self.setup.spec(ids::number(*txid));
            spec.takes_part(tag) && spec.nature == Nature::Deferred(tag)
        })
    }
}

enum Voted {
    Now(Vote),
    AfterReplication(Vote),
}

fn executed(members: &[Txid], reports: &[MemberReport]) -> Vec<Txid> {
    let each = members.iter().zip(reports);
    each.filter(|(_, report)| **report == MemberReport::Executed)
        .map(|(txid, _)| *txid)
        .collect()
}

fn no(code: RefusalCode) -> Vote {
    let Reply::Vote(vote) = refused(Refusal::new(code, "no")) else {
        unreachable!("a refusal of a branch is a vote");
    };
    vote
}

/// A failure of a transaction's own making.
pub(crate) fn guard() -> AbortReason {
    AbortReason::new(AbortCode::GuardFailed, "guard")
}
