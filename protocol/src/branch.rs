//! One prepared branch, seen from the participant of its shard.
//!
//! Purpose: decide *when* an in-doubt branch is resolved, and follow the resolution to its end.
//! *What* happens to it is [`crate::recovery`]'s to say, from home's register alone.
//!
//! How to use it: keep one [`Branch`] per gid found in `pg_prepared_xacts`. Feed [`Event`]s to
//! [`Branch::on_event`] and carry out the [`Effect`]s in order. Report the answer of an
//! `AskHome` as [`Event::Register`], of an `Apply` as [`Event::Finished`], and the end of the
//! pause that `RetryAfter` asked for as [`Event::RetryDue`]. Drop the branch at `Forget`.
//!
//! Invariants:
//! - A branch is finished only with what the register said (never because of an age).
//! - Ages are the caller's own measurements (R15): how long this process has seen the gid, by
//!   its monotonic clock, and how old the database says it is. Never ids, never other machines.
//! - A driver that attends is left alone, until the branch is ten times `in_doubt_after` old: by
//!   then something is wrong with it, and asking home can only abort what it has not sent to
//!   be decided. A driver that is not known is no proof that there is none: its branch gets the
//!   time `in_doubt_after`.
//! - With a commit decision in hand, a gid that vanished is not success: the branch is finished
//!   again, and finishing looks for the branch row (R1).
//!
//! Failure model: every answer may be missing; that is a value of the answer, and leads to a
//! retry. Events may come late or twice; those that no longer matter change nothing.

use crate::message::{FinishKind, Finished, RegisterAnswer};
use crate::names::ShardTag;
use crate::recovery::{Action, DamageKind, HomeSays, ShardShows, action};

/// What this process knows about the driver of a branch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DriverSeen {
    /// It attends: its stream is open.
    Attending,
    /// This process saw its stream close.
    Closed,
    /// This process has never heard of it, which proves nothing (R15).
    Unknown,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Event {
    /// A scan found the gid; also sent by later scans.
    Seen(DriverSeen),
    /// The stream of its driver closed.
    DriverClosed,
    /// This process has seen the gid for `in_doubt_after` on its monotonic clock.
    PassedInDoubtAfter,
    /// The database says that it was prepared ten times `in_doubt_after` ago.
    OldByDatabaseClock,
    /// An operator asks for it to be resolved now.
    OperatorAsks,
    /// Home's answer to [`Effect::AskHome`].
    Register(RegisterAnswer),
    /// The shard's answer to [`Effect::Apply`].
    Finished(Finished),
    /// The pause of [`Effect::RetryAfter`] is over.
    RetryDue,
    /// A scan did not find the gid any more.
    Gone,
}

/// What to do, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Ask home's register, forcing an abort if there is no row (R7).
    AskHome,
    /// Finish the branch.
    Apply(FinishKind),
    /// Tell people.
    Alarm(Alarm),
    /// Record damage.
    Damage(DamageKind),
    /// Pause before the next try; `attempt` counts the tries so far, from 1.
    RetryAfter {
        /// For the backoff.
        attempt: u32,
    },
    /// The branch is over.
    Forget,
}

/// Why a person should look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Alarm {
    /// Home committed the batch without this shard; the branch is rolled back.
    CommitOmitsShard,
    /// The decision is not kept any more; only an operator can end this branch.
    BelowFloor,
}

/// Where a branch stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum State {
    /// Nothing is known yet.
    New,
    /// Left to its driver.
    Watched(DriverSeen),
    /// Home has been asked.
    Asking {
        /// Tries so far.
        attempt: u32,
    },
    /// The decision is known, and is being applied.
    Applying {
        /// Which way.
        kind: FinishKind,
        /// Tries so far.
        attempt: u32,
    },
    /// Before the next try.
    Pausing {
        /// What comes next.
        next: Step,
        /// Tries so far.
        attempt: u32,
    },
    /// Left to an operator.
    Stuck,
    /// Over.
    Over,
}

/// What is tried again after a pause.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Step {
    /// Ask home.
    Ask,
    /// Finish the branch, in the way that home decided.
    Apply(FinishKind),
}

/// One prepared branch.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Branch {
    shard: ShardTag,
    state: State,
}

impl Branch {
    /// A branch of the shard `shard`, about which nothing is known.
    pub fn new(shard: ShardTag) -> Self {
        Self {
            shard,
            state: State::New,
        }
    }

    /// Where it stands.
    pub fn state(&self) -> State {
        self.state
    }

    /// Takes an event in; returns what to do.
    pub fn on_event(&mut self, event: Event) -> Vec<Effect> {
        let (state, effects) = step(self.shard, self.state, event);
        self.state = state;
        effects
    }
}

/// The transition function.
fn step(shard: ShardTag, state: State, event: Event) -> (State, Vec<Effect>) {
    match event {
        Event::Seen(driver) => on_seen(state, driver),
        Event::DriverClosed => on_seen(state, DriverSeen::Closed),
        Event::PassedInDoubtAfter => match state {
            State::New | State::Watched(DriverSeen::Unknown | DriverSeen::Closed) => ask(0),
            State::Watched(DriverSeen::Attending)
            | State::Asking { .. }
            | State::Applying { .. }
            | State::Pausing { .. }
            | State::Stuck
            | State::Over => (state, vec![]),
        },
        Event::OldByDatabaseClock => match state {
            State::New | State::Watched(_) => ask(0),
            State::Asking { .. }
            | State::Applying { .. }
            | State::Pausing { .. }
            | State::Stuck
            | State::Over => (state, vec![]),
        },
        Event::OperatorAsks => match state {
            State::New | State::Watched(_) | State::Stuck => ask(0),
            State::Pausing { next, attempt } => do_step(next, attempt),
            State::Asking { .. } | State::Applying { .. } | State::Over => (state, vec![]),
        },
        Event::Register(answer) => match state {
            State::Asking { attempt } => on_register(HomeSays::about(&answer, shard), attempt),
            State::New
            | State::Watched(_)
            | State::Applying { .. }
            | State::Pausing { .. }
            | State::Stuck
            | State::Over => (state, vec![]),
        },
        Event::Finished(answer) => match state {
            State::Applying { kind, attempt } => on_finished(kind, attempt, answer),
            State::New
            | State::Watched(_)
            | State::Asking { .. }
            | State::Pausing { .. }
            | State::Stuck
            | State::Over => (state, vec![]),
        },
        Event::RetryDue => match state {
            State::Pausing { next, attempt } => do_step(next, attempt),
            State::New
            | State::Watched(_)
            | State::Asking { .. }
            | State::Applying { .. }
            | State::Stuck
            | State::Over => (state, vec![]),
        },
        Event::Gone => on_gone(state),
    }
}

fn on_seen(state: State, driver: DriverSeen) -> (State, Vec<Effect>) {
    match state {
        State::New | State::Watched(_) => match driver {
            DriverSeen::Closed => ask(0),
            DriverSeen::Attending | DriverSeen::Unknown => (State::Watched(driver), vec![]),
        },
        State::Asking { .. }
        | State::Applying { .. }
        | State::Pausing { .. }
        | State::Stuck
        | State::Over => (state, vec![]),
    }
}

/// Home was asked about a branch that is prepared as far as we know; whether it still is, the
/// attempt to finish it will tell.
fn on_register(home: HomeSays, attempt: u32) -> (State, Vec<Effect>) {
    match action(home, ShardShows::Prepared) {
        Action::Commit => apply(FinishKind::Commit, 0),
        Action::Rollback => apply(FinishKind::Rollback, 0),
        Action::RollbackWithAlarm => {
            let (state, mut effects) = apply(FinishKind::Rollback, 0);
            effects.insert(0, Effect::Alarm(Alarm::CommitOmitsShard));
            (state, effects)
        }
        Action::AskOperator => (State::Stuck, vec![Effect::Alarm(Alarm::BelowFloor)]),
        // No row although one was forced: read again (R7).
        Action::ForceAbort | Action::Wait | Action::LookAgain | Action::ConfirmLost => {
            pause(Step::Ask, attempt)
        }
        Action::Damage(kind) => (State::Over, vec![Effect::Damage(kind), Effect::Forget]),
        Action::Rest => (State::Over, vec![Effect::Forget]),
    }
}

fn on_finished(kind: FinishKind, attempt: u32, answer: Finished) -> (State, Vec<Effect>) {
    match answer {
        Finished::Done => (State::Over, vec![Effect::Forget]),
        Finished::Busy | Finished::Unknown { .. } => pause(Step::Apply(kind), attempt),
        Finished::Damaged { .. } => {
            let damage = match kind {
                FinishKind::Commit => DamageKind::LostBranch,
                FinishKind::Rollback => DamageKind::AppliedButAborted,
            };
            (State::Over, vec![Effect::Damage(damage), Effect::Forget])
        }
    }
}

fn on_gone(state: State) -> (State, Vec<Effect>) {
    match state {
        // Its driver, or somebody else, finished it. Whether rightly, the auditor checks (R16).
        State::New | State::Watched(_) | State::Asking { .. } | State::Stuck => {
            (State::Over, vec![Effect::Forget])
        }
        State::Pausing {
            next: Step::Ask | Step::Apply(FinishKind::Rollback),
            ..
        } => (State::Over, vec![Effect::Forget]),
        // "Gone" is not "committed": finishing it again looks for the branch row.
        State::Pausing {
            next: Step::Apply(FinishKind::Commit),
            ..
        } => (state, vec![]),
        State::Applying { .. } | State::Over => (state, vec![]),
    }
}

fn ask(attempt: u32) -> (State, Vec<Effect>) {
    (
        State::Asking {
            attempt: attempt.saturating_add(1),
        },
        vec![Effect::AskHome],
    )
}

fn apply(kind: FinishKind, attempt: u32) -> (State, Vec<Effect>) {
    let attempt = attempt.saturating_add(1);
    (State::Applying { kind, attempt }, vec![Effect::Apply(kind)])
}

fn pause(next: Step, attempt: u32) -> (State, Vec<Effect>) {
    (
        State::Pausing { next, attempt },
        vec![Effect::RetryAfter { attempt }],
    )
}

fn do_step(next: Step, attempt: u32) -> (State, Vec<Effect>) {
    match next {
        Step::Ask => ask(attempt),
        Step::Apply(kind) => apply(kind, attempt),
    }
}

#[cfg(test)]
mod tests;
