//! Every nemesis: its name, what it does, and where it strikes.

use super::needs;
use crate::proxy::Step;

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
    pub(super) deed: Deed,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Deed {
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
    LoseTransaction,
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
    FewDescriptors,
    Clock,
    DiskFull,
    FailOver,
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
    /// Why it cannot be done on this machine, by this user.
    #[must_use]
    pub fn obstacle(self) -> Option<String> {
        match self.deed {
            Deed::FewDescriptors => needs::prlimit(),
            Deed::Clock => needs::faketime(),
            Deed::DiskFull => needs::mount(),
            _ => None,
        }
    }

    /// Whether it needs a server with a small disk.
    pub(crate) fn needs_small_disk(self) -> bool {
        self.deed == Deed::DiskFull
    }

    /// Whether it needs standbys.
    pub(crate) fn needs_standbys(self) -> bool {
        self.deed == Deed::FailOver
    }

    /// Whether there is anybody whom it cannot touch.
    #[must_use]
    pub fn spares_somebody(self) -> bool {
        self.deed.spares_somebody()
    }

    /// What it breaks.
    #[must_use]
    pub fn kind(self) -> Kind {
        match self.deed {
            Deed::KillParticipant
            | Deed::KillCoordinator
            | Deed::NoCoordinator
            | Deed::PauseParticipant
            | Deed::PauseCoordinator
            | Deed::CutRecovery
            | Deed::FewDescriptors
            | Deed::Clock => Kind::Process,
            Deed::KillPostgres
            | Deed::StopPostgres
            | Deed::PausePostgres
            | Deed::KillBackend
            | Deed::TerminateBackend
            | Deed::ByHand
            | Deed::NoSlots
            | Deed::DiskFull
            | Deed::FailOver => Kind::Server,
            Deed::Cut
            | Deed::LoseTransaction
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
        "lost-transaction",
        Deed::LoseTransaction,
        &[PrepareSent, DecideSent],
        "the transaction is rolled back, and its session goes on, as behind a pooler that has connected again",
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
    nemesis(
        "few-descriptors",
        Deed::FewDescriptors,
        &[Submit],
        "a coordinator has no file descriptor left for a new connection",
    ),
    nemesis(
        "clock",
        Deed::Clock,
        &[Prepared, Decided],
        "a participant or coordinator dies, and lives again with a clock that is an hour off",
    ),
    nemesis(
        "disk-full",
        Deed::DiskFull,
        &[Work],
        "a server's disk is full",
    ),
    nemesis(
        "failover",
        Deed::FailOver,
        AT_THE_SERVER,
        "kill -9 of a server that never comes back; its synchronous standby is promoted and takes its place",
    ),
];

/// Those that run if nobody chooses: all that touch nothing but the run's own processes and folder.
/// A small disk is mounted, which only somebody who asks for it should see. Standbys double the
/// servers, and every commit waits for them: a short run would have less to strike.
#[must_use]
pub fn usual() -> Vec<Nemesis> {
    let usual = ALL
        .iter()
        .filter(|nemesis| !nemesis.needs_small_disk() && !nemesis.needs_standbys());
    usual.copied().collect()
}

/// The nemesis of this name.
#[must_use]
pub fn by_name(name: &str) -> Option<Nemesis> {
    ALL.iter().copied().find(|each| each.name == name)
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
