//! One two-phase commit of one batch, seen from its coordinator.
//!
//! [`Batch::start`] and [`Batch::on`] are the whole of it: an event goes in, effects come out.
//! The driver's obligations:
//!
//! 1. Execute every effect, in any order and at the same time, unless it says otherwise.
//! 2. Feed back exactly one event for each effect that asks for one. An answer that did not
//!    come is fed back as its `Unknown` value.
//! 3. Repeat [`Effect::Commit`], [`Effect::Rollback`] and [`Effect::AskRegister`] with backoff
//!    for as long as this machine emits them again.
//! 4. Tell a client only what [`Effect::Answer`] carries: it is emitted when what it says is
//!    durable, and there is no other way to express an answer (I2, I4).
//! 5. At [`Effect::Rest`] let go of everything that still waits, also for
//!    [`Effect::Applied`]: it will not come.
//!
//! The rule that shapes it: before a decide was sent, the coordinator may abort by itself, since
//! nobody else can commit the batch (I3, I8). After that, only home's answer or its register
//! ends the doubt (R5).
//!
//! Invariants, each checked by the property test in `tests/world.rs`:
//! - Every member gets exactly one of: an [`Effect::Answer`], a place in one [`Effect::RunAgain`].
//! - [`Effect::Commit`] follows a durable commit decision that names all of the batch's shards
//!   (I8); [`Effect::Rollback`] follows its impossibility.
//! - Members that run again do so in smaller company than before, so running again ends (R10).
//! - Every state but the last waits for the answer to an effect that was emitted.
//!
//! Failure model: events may be late, doubled or from a shard that has no say; they change
//! nothing. A vote or decision that contradicts itself is never acted on: it raises an alarm.
//!
//! `home_first` is for batches whose home works before the others, `votes` counts, `decision`
//! follows home, `aftermath` finishes branches and tells members.

mod aftermath;
mod decision;
mod home_first;
#[cfg(test)]
mod tests;
mod votes;

use std::collections::{BTreeMap, BTreeSet};

use crate::digest::RequestHash;
use crate::id::Txid;
use crate::message::{
    Decided, FailedMember, Finished, MemberReport, RecordAnswer, Recorded, RegisterAnswer, Vote,
};
use crate::names::ShardTag;
use crate::outcome::{AbortReason, Refusal};

/// A member's place in its batch.
pub type MemberIndex = usize;

/// What a batch is made of.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct BatchSpec {
    /// The members, in the order in which every branch runs them. No txid is there twice: home
    /// could record only one of them.
    pub members: Vec<(Txid, RequestHash)>,
    /// The shards whose branches are prepared: every writing shard but home.
    pub prepared: Vec<ShardTag>,
    /// The shards whose branches only read (R18).
    pub read_only: Vec<ShardTag>,
    /// Home works before the branches are asked, and leaves out who fails there (R2). Only a
    /// matter of speed.
    pub home_first: bool,
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Event {
    /// Home has worked first, or has done nothing of it.
    WorkedFirst {
        /// Whom it has left out; nobody, if it has done nothing.
        left_out: BTreeMap<MemberIndex, MemberReport>,
    },
    /// A branch has voted.
    Voted {
        /// Which.
        shard: ShardTag,
        /// How.
        vote: Vote,
    },
    /// Home has answered the decide.
    Decided(Decided),
    /// Home's register has been read.
    Register(RegisterAnswer),
    /// A branch has been finished, or not.
    Finished {
        /// Which.
        shard: ShardTag,
        /// How it went.
        finished: Finished,
    },
    /// Aborts have been recorded, or not.
    Recorded(RecordAnswer),
}

/// Something to do.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Effect {
    /// Do home's work, without the members that fail there; answered by [`Event::WorkedFirst`].
    WorkFirst,
    /// Prepare the branch on this shard; answered by [`Event::Voted`].
    Prepare(ShardTag),
    /// Decide at home; answered by [`Event::Decided`]. Sent at most once per batch.
    Decide {
        /// The members that every branch executed; home runs exactly these (R2).
        members: Vec<MemberIndex>,
        /// The members that were left out, whose aborts ride along.
        failed: Vec<FailedMember>,
    },
    /// Force and read home's register (R5, R7); answered by [`Event::Register`].
    AskRegister,
    /// `COMMIT PREPARED` on this shard; answered by [`Event::Finished`].
    Commit(ShardTag),
    /// `ROLLBACK PREPARED` on this shard; answered by [`Event::Finished`].
    Rollback(ShardTag),
    /// Record these aborts at home; answered by [`Event::Recorded`].
    RecordAborts(Vec<FailedMember>),
    /// Tell this member.
    Answer(MemberIndex, Verdict),
    /// Every shard shows what was told (for `ack = applied`). Missing before [`Effect::Rest`] if
    /// a shard is damaged: its commits are decided, but not applied everywhere.
    Applied,
    /// Run these members again, each group as a batch of its own, under new batch ids.
    RunAgain(Vec<Rerun>),
    /// A person must look: the shards contradict a decision, or the register cannot tell.
    Alarm(String),
    /// This batch is over.
    Rest,
}

/// Members to be run again together.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Rerun {
    /// Who.
    pub members: Vec<MemberIndex>,
    /// They must not share a batch with anybody else (R10).
    pub alone: bool,
    /// What kept them from being decided, should this have been the last try.
    pub because: Refusal,
}

/// What a member's client may be told.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// Committed.
    Committed,
    /// Aborted, and recorded.
    Aborted(AbortReason),
    /// This submission did nothing.
    Refused(Refusal),
    /// Its txid has a recorded outcome already (R8).
    Recorded(Recorded),
    /// Nobody can know now: a person must act.
    InDoubt(String),
}

/// Where a batch stands.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum State {
    /// Waits for home, which works first. Nothing was asked of any branch.
    AtHome,
    /// Waits for votes.
    Preparing { votes: BTreeMap<ShardTag, Vote> },
    /// Waits for home's answer.
    Deciding { survivors: Survivors },
    /// Home did not answer; waits for its register (R5).
    Resolving { survivors: Survivors },
    /// Decided to commit; `left` are the branches that are not finished.
    Committing {
        left: BTreeSet<ShardTag>,
        damaged: bool,
        again: Vec<Rerun>,
    },
    /// Nothing will be committed; `left` are the branches that are not finished, `recording` the
    /// members whose aborts are being recorded.
    Aborting {
        left: BTreeSet<ShardTag>,
        recording: Vec<MemberIndex>,
        again: Vec<Rerun>,
    },
    /// Over, and left to people and to the participants' own resolution.
    Stuck,
    /// Over.
    Rest,
}

/// What the branches agreed on.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Survivors {
    /// The members that every branch executed.
    executed: Vec<MemberIndex>,
    /// The others, and why.
    left_out: BTreeMap<MemberIndex, MemberReport>,
}

/// One batch on its way.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Batch {
    spec: BatchSpec,
    /// Those whom home has left out before the branches were asked.
    left_out: BTreeMap<MemberIndex, MemberReport>,
    state: State,
}

impl Batch {
    /// Begins: prepares every branch but home's, or decides at once if there is none. With
    /// `home_first`, home works before that.
    ///
    /// # Panics
    ///
    /// If `spec` has no members, or a shard twice.
    pub fn start(spec: BatchSpec) -> (Self, Vec<Effect>) {
        spec.check();
        let mut batch = Self {
            spec,
            left_out: BTreeMap::new(),
            state: State::AtHome,
        };
        let effects = match batch.spec.home_first {
            true => vec![Effect::WorkFirst],
            false => batch.ask_branches(),
        };
        (batch, effects)
    }

    fn ask_branches(&mut self) -> Vec<Effect> {
        self.state = State::Preparing {
            votes: BTreeMap::new(),
        };
        let prepares: Vec<Effect> = self.spec.branches().map(Effect::Prepare).collect();
        if !prepares.is_empty() {
            return prepares;
        }
        self.decide(Survivors {
            executed: self.asked().collect(),
            left_out: self.left_out.clone(),
        })
    }

    /// Takes an event. An event that the state does not wait for (a late duplicate) changes
    /// nothing.
    pub fn on(&mut self, event: Event) -> Vec<Effect> {
        match (&self.state, event) {
            (State::AtHome, Event::WorkedFirst { left_out }) => self.on_worked_first(left_out),
            (State::Preparing { .. }, Event::Voted { shard, vote }) => self.on_voted(shard, vote),
            (State::Deciding { .. }, Event::Decided(decided)) => self.on_decided(decided),
            (State::Resolving { .. }, Event::Register(answer)) => self.on_register(answer),
            (State::Committing { .. }, Event::Finished { shard, finished }) => {
                self.on_committed(shard, finished)
            }
            (State::Aborting { .. }, Event::Finished { shard, finished }) => {
                self.on_rolled_back(shard, finished)
            }
            (State::Aborting { .. }, Event::Recorded(answer)) => self.on_recorded(answer),
            (
                State::AtHome
                | State::Preparing { .. }
                | State::Deciding { .. }
                | State::Resolving { .. }
                | State::Committing { .. }
                | State::Aborting { .. }
                | State::Stuck
                | State::Rest,
                Event::WorkedFirst { .. }
                | Event::Voted { .. }
                | Event::Decided(_)
                | Event::Register(_)
                | Event::Finished { .. }
                | Event::Recorded(_),
            ) => Vec::new(),
        }
    }

    /// Whether a decide may have been sent and its outcome is not known: the client's answer at
    /// this moment would be "in doubt".
    pub fn is_in_doubt(&self) -> bool {
        matches!(
            self.state,
            State::Deciding { .. } | State::Resolving { .. } | State::Stuck
        )
    }

    /// Whether it is known what becomes of the batch, or given up to find out: the next batch of
    /// its lane may decide.
    pub fn is_decided(&self) -> bool {
        match self.state {
            State::AtHome
            | State::Preparing { .. }
            | State::Deciding { .. }
            | State::Resolving { .. } => false,
            State::Committing { .. } | State::Aborting { .. } | State::Stuck | State::Rest => true,
        }
    }

    /// The members that the branches are asked to run, in their order.
    pub fn asked(&self) -> impl Iterator<Item = MemberIndex> {
        let everybody = 0..self.spec.members.len();
        everybody.filter(|member| !self.left_out.contains_key(member))
    }

    fn failed(&self, index: MemberIndex, reason: AbortReason) -> FailedMember {
        let (txid, request_hash) = self.spec.members[index];
        FailedMember {
            txid,
            request_hash,
            reason,
        }
    }
}

impl BatchSpec {
    /// The shards that are asked for a vote.
    fn branches(&self) -> impl Iterator<Item = ShardTag> {
        self.prepared.iter().chain(&self.read_only).copied()
    }

    fn check(&self) {
        assert!(!self.members.is_empty(), "a batch has members");
        let shards: BTreeSet<ShardTag> = self.branches().collect();
        assert_eq!(
            shards.len(),
            self.branches().count(),
            "a batch has one branch on a shard"
        );
        // Not in release: home's primary key refuses such a batch as a whole (R8), which is a
        // nuisance for the neighbours, but a panic would be one for every lane.
        debug_assert_eq!(
            self.members
                .iter()
                .map(|(txid, _)| txid)
                .collect::<BTreeSet<_>>()
                .len(),
            self.members.len(),
            "a batch has a txid once"
        );
    }
}
