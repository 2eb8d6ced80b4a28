//! What breaks things, and when.
//!
//! # Purpose
//! A nemesis strikes one transaction at one step, with one fault, and then heals what it broke. The
//! step is not left to luck: a message of the transaction is caught on the wire, the fault is made
//! while it is held, and only then counts as a hit.
//!
//! # Invariants
//! * A blow that did not find its transaction is a miss and says so. A run whose nemesis never hit
//!   has not been run.
//! * After a blow the deployment is as it was, apart from what the fault itself has left behind.

mod aim;
mod people;
mod processes;
mod resources;
mod servers;
mod wires;

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use tokio::task::JoinSet;

use crate::arena::Arena;
use crate::error::ChaosError;
use crate::proxy::Step;
use crate::verify::Seen;

use Step::{
    Answer, DecideSent, Decided, FinishSent, Finished, PrepareSent, Prepared, Submit, Work,
};

/// A kind of fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Nemesis {
    /// Its name on the command line.
    pub name: &'static str,
    /// What it does, for people.
    pub about: &'static str,
    /// Where it strikes.
    pub steps: &'static [Step],
    deed: Deed,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Deed {
    KillParticipant,
    KillCoordinator,
    NoCoordinator,
    PauseParticipant,
    PauseCoordinator,
    KillPostgres,
    StopPostgres,
    PausePostgres,
    KillBackend,
    TerminateBackend,
    Cut,
    Delay,
    Zombie,
    Duplicate,
    CutLink,
    OneWay,
    HalfOpen,
    CutDatabase,
    CutClients,
    CutRecovery,
    ByHand,
    NoSlots,
}

/// What a fault breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A process of Gavel's.
    Process,
    /// A PostgreSQL server.
    Server,
    /// What connects them.
    Wire,
}

impl Kind {
    /// Its name in reports.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Process => "process",
            Self::Server => "server",
            Self::Wire => "wire",
        }
    }
}

impl Nemesis {
    /// What it breaks.
    #[must_use]
    pub fn kind(self) -> Kind {
        match self.deed {
            Deed::KillParticipant
            | Deed::KillCoordinator
            | Deed::NoCoordinator
            | Deed::PauseParticipant
            | Deed::PauseCoordinator
            | Deed::CutRecovery => Kind::Process,
            Deed::KillPostgres
            | Deed::StopPostgres
            | Deed::PausePostgres
            | Deed::KillBackend
            | Deed::TerminateBackend
            | Deed::ByHand
            | Deed::NoSlots => Kind::Server,
            Deed::Cut
            | Deed::Delay
            | Deed::Zombie
            | Deed::Duplicate
            | Deed::CutLink
            | Deed::OneWay
            | Deed::HalfOpen
            | Deed::CutDatabase
            | Deed::CutClients => Kind::Wire,
        }
    }
}

/// On the wire between participant and server.
const AT_THE_SERVER: &[Step] = &[
    Work,
    PrepareSent,
    Prepared,
    DecideSent,
    Decided,
    FinishSent,
    Finished,
];
/// While a coordinator has the transaction in its hands.
const AT_THE_COORDINATOR: &[Step] = &[Prepared, Decided, DecideSent, PrepareSent, Work];
const SENT: &[Step] = &[PrepareSent, DecideSent, FinishSent];

const fn nemesis(
    name: &'static str,
    deed: Deed,
    steps: &'static [Step],
    about: &'static str,
) -> Nemesis {
    Nemesis {
        name,
        about,
        steps,
        deed,
    }
}

/// Every nemesis.
pub const ALL: &[Nemesis] = &[
    nemesis(
        "kill-participant",
        Deed::KillParticipant,
        AT_THE_SERVER,
        "kill -9 of a participant",
    ),
    nemesis(
        "kill-coordinator",
        Deed::KillCoordinator,
        AT_THE_COORDINATOR,
        "kill -9 of the coordinator that drives the transaction",
    ),
    nemesis(
        "no-coordinator",
        Deed::NoCoordinator,
        AT_THE_COORDINATOR,
        "kill -9 of all coordinators; they stay away for seconds",
    ),
    nemesis(
        "pause-participant",
        Deed::PauseParticipant,
        AT_THE_SERVER,
        "SIGSTOP of a participant, resumed after seconds",
    ),
    nemesis(
        "pause-coordinator",
        Deed::PauseCoordinator,
        AT_THE_COORDINATOR,
        "SIGSTOP of the coordinator that drives the transaction, until others have resolved it",
    ),
    nemesis(
        "kill-postgres",
        Deed::KillPostgres,
        AT_THE_SERVER,
        "kill -9 of a postmaster and its backends",
    ),
    nemesis(
        "stop-postgres",
        Deed::StopPostgres,
        AT_THE_SERVER,
        "immediate shutdown of a server",
    ),
    nemesis(
        "pause-postgres",
        Deed::PausePostgres,
        AT_THE_SERVER,
        "SIGSTOP of a server and its backends, resumed after seconds",
    ),
    nemesis(
        "kill-backend",
        Deed::KillBackend,
        AT_THE_SERVER,
        "kill -9 of the transaction's backend, which restarts its server",
    ),
    nemesis(
        "terminate-backend",
        Deed::TerminateBackend,
        AT_THE_SERVER,
        "pg_terminate_backend of the transaction's backend",
    ),
    nemesis(
        "cut",
        Deed::Cut,
        AT_THE_SERVER,
        "the connection to the server breaks: before the message is delivered, or before its answer is",
    ),
    nemesis(
        "delay",
        Deed::Delay,
        AT_THE_SERVER,
        "a message between participant and server is late",
    ),
    nemesis(
        "zombie",
        Deed::Zombie,
        SENT,
        "the connection to the participant breaks, and the message is delivered to the server seconds later all the same",
    ),
    nemesis(
        "duplicate",
        Deed::Duplicate,
        SENT,
        "the transaction's statements run once more on another connection",
    ),
    nemesis(
        "cut-link",
        Deed::CutLink,
        AT_THE_COORDINATOR,
        "coordinator and participant cannot reach each other",
    ),
    nemesis(
        "one-way",
        Deed::OneWay,
        AT_THE_COORDINATOR,
        "messages between coordinator and participant get through in one direction only",
    ),
    nemesis(
        "half-open",
        Deed::HalfOpen,
        AT_THE_COORDINATOR,
        "a participant is gone for its coordinator, whose connections stay open",
    ),
    nemesis(
        "cut-database",
        Deed::CutDatabase,
        AT_THE_SERVER,
        "a participant cannot reach its server",
    ),
    nemesis(
        "cut-clients",
        Deed::CutClients,
        &[Submit, Answer],
        "the connections of clients break: requests or answers are lost",
    ),
    nemesis(
        "cut-recovery",
        Deed::CutRecovery,
        &[Prepared, Decided],
        "the coordinator is killed, and participants cannot reach each other for seconds",
    ),
    nemesis(
        "by-hand",
        Deed::ByHand,
        &[DecideSent, FinishSent],
        "somebody commits a branch before its decision, or rolls one back after it: damage must be reported, never success",
    ),
    nemesis(
        "no-slots",
        Deed::NoSlots,
        &[Work],
        "somebody else's prepared transactions fill all slots of a server",
    ),
];

/// The nemesis of this name.
#[must_use]
pub fn by_name(name: &str) -> Option<Nemesis> {
    ALL.iter().copied().find(|each| each.name == name)
}

/// One blow.
#[derive(Debug, Clone, Serialize)]
pub struct Blow {
    /// Whose.
    pub nemesis: &'static str,
    /// Where it was meant to strike.
    pub step: Step,
    /// Whether it did.
    pub hit: bool,
    /// What it struck, or why it did not.
    pub target: String,
    /// Begin, in milliseconds since the history began.
    pub from_ms: u64,
    /// When it was healed.
    pub until_ms: u64,
}

/// Where blows are struck.
pub struct Strikes {
    arena: Arc<Arena>,
    /// Faults that last longer than their blow.
    background: JoinSet<()>,
    /// How long a fault may last.
    patience: Duration,
    /// What nemeses have judged themselves.
    seen: Seen,
}

/// What came of a blow: what it struck, or why it struck nothing.
type Struck = Result<String, String>;

impl Strikes {
    /// `patience` is how long a fault may last.
    #[must_use]
    pub fn new(arena: &Arc<Arena>, patience: Duration) -> Self {
        Self {
            arena: Arc::clone(arena),
            background: JoinSet::new(),
            patience,
            seen: Seen::default(),
        }
    }

    /// Strikes once.
    ///
    /// # Errors
    /// The deployment does what no fault explains, such as not coming back.
    pub async fn strike(&mut self, nemesis: Nemesis, step: Step) -> Result<Blow, ChaosError> {
        let began = self.arena.recorder.began();
        let from = began.elapsed();
        let struck = self.perform(nemesis.deed, step).await?;
        let hit = struck.is_ok();
        let (Ok(target) | Err(target)) = struck;
        Ok(Blow {
            nemesis: nemesis.name,
            step,
            hit,
            target,
            from_ms: millis(from),
            until_ms: millis(began.elapsed()),
        })
    }

    /// Waits until no fault of an earlier blow lasts; gives what nemeses have judged themselves.
    pub async fn settle(mut self) -> Seen {
        while self.background.join_next().await.is_some() {}
        self.seen
    }

    async fn perform(&mut self, deed: Deed, step: Step) -> Result<Struck, ChaosError> {
        match deed {
            Deed::KillParticipant => self.kill_participant(step).await,
            Deed::KillCoordinator => self.kill_coordinator(step).await,
            Deed::NoCoordinator => self.no_coordinator(step).await,
            Deed::PauseParticipant => self.pause_participant(step).await,
            Deed::PauseCoordinator => self.pause_coordinator(step).await,
            Deed::KillPostgres => self.kill_postgres(step).await,
            Deed::StopPostgres => self.stop_postgres(step).await,
            Deed::PausePostgres => self.pause_postgres(step).await,
            Deed::KillBackend => self.kill_backend(step).await,
            Deed::TerminateBackend => self.terminate_backend(step).await,
            Deed::Cut => self.cut(step).await,
            Deed::Delay => self.delay(step).await,
            Deed::Zombie => self.zombie(step).await,
            Deed::Duplicate => self.duplicate(step).await,
            Deed::CutLink => self.cut_link(step).await,
            Deed::OneWay => self.one_way(step).await,
            Deed::HalfOpen => self.half_open(step).await,
            Deed::CutDatabase => self.cut_database(step).await,
            Deed::CutClients => self.cut_clients(step).await,
            Deed::CutRecovery => self.cut_recovery(step).await,
            Deed::ByHand => self.by_hand(step).await,
            Deed::NoSlots => self.no_slots(step).await,
        }
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_every_step_is_struck_by_somebody() {
        for nemesis in ALL {
            assert_eq!(by_name(nemesis.name), Some(*nemesis));
            assert!(!nemesis.steps.is_empty());
        }
        for step in Step::ALL {
            assert!(
                ALL.iter().any(|nemesis| nemesis.steps.contains(&step)),
                "{step}"
            );
        }
    }
}
