//! The small worlds that are explored, and what may go wrong in each.

use gavel_protocol::ShardTag;

use super::budget::{Budget, Kind};
use crate::Hole;
use crate::world::ids::TxNumber;
use crate::world::setup::{Approach, Nature, Setup, TxSpec, tag};

/// A small world with its budget of faults.
#[derive(Debug, Clone)]
pub struct Configuration {
    /// What it is called.
    pub name: &'static str,
    pub(super) setup: Setup,
    pub(super) budget: Budget,
}

/// How much is explored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Size {
    /// What every test run can afford: one fault in most models.
    Small,
    /// Two faults in most models.
    Large,
    /// Three faults in most models: hours, and many gigabytes.
    Huge,
}

const MESSAGES: &[(Kind, u8)] = &[(Kind::Drop, 2), (Kind::Duplicate, 1), (Kind::GiveUp, 2)];
const PROCESSES: &[(Kind, u8)] = &[
    (Kind::CrashCoordinator, 1),
    (Kind::PauseCoordinator, 1),
    (Kind::CrashParticipant, 2),
    (Kind::CrashShard, 1),
    (Kind::Terminate, 1),
    (Kind::Suspect, 1),
];
const STANDBYS: &[(Kind, u8)] = &[(Kind::FailOver, 1), (Kind::CancelWait, 1)];
const CLIENTS: &[(Kind, u8)] = &[(Kind::SubmitTwice, 1), (Kind::AbortForGood, 1)];

impl Configuration {
    /// All of them, with a hole if one is given.
    pub fn all(size: Size, hole: Option<Hole>) -> Vec<Self> {
        let faults = match size {
            Size::Small => 1,
            Size::Large => 2,
            Size::Huge => 3,
        };
        let mut all = vec![
            own_home(faults),
            ahead(faults),
            ahead_of_a_failure(faults),
            home_first(faults),
            decisions_shard(faults),
            three_shards(faults),
            two_coordinators(faults),
            // Where two things are at work at the same time, there are many ways already.
            one_lane(faults - 1),
            batches_in_a_row(faults - 1),
            two_lanes(faults - 1),
            standbys(faults),
            failures(faults),
            deferred(faults),
            reader(faults),
            // What two shards have both lost, nobody can find.
            harm(
                "two shards, one of which loses data",
                Kind::LoseData,
                faults,
            ),
            harm(
                "two shards, one of which is restored",
                Kind::Restore,
                faults,
            ),
            harm(
                "two shards, one of which a person meddles with",
                Kind::ByHand,
                faults,
            ),
        ];
        for configuration in &mut all {
            configuration.setup.hole = hole;
        }
        all
    }
}

fn setup(shards: u8, transactions: Vec<TxSpec>) -> Setup {
    let numbers = 0..u16::try_from(transactions.len()).expect("few transactions");
    Setup {
        shards,
        coordinators: 1,
        clients: numbers.map(|number| vec![TxNumber(number)]).collect(),
        transactions,
        hole: None,
        standby: false,
        archive: 0,
        batch_members_max: 2,
        approach: Approach::BranchesFirst,
        savepoints_max: 4,
        runs_max: 4,
        slots: 8,
        slots_per_home: 8,
        fine: false,
        timers: None,
    }
}

fn transaction(home: u8, writes: &[u8]) -> TxSpec {
    TxSpec {
        home: tag(home),
        writes: writes.iter().map(|at| tag(*at)).collect(),
        reads: Vec::new(),
        nature: Nature::Fine,
        row: 0,
        principal: 0,
    }
}

fn budget(total: u8, kinds: &[&[(Kind, u8)]]) -> Budget {
    Budget::new(total, &kinds.concat())
}

/// Home is one of the transaction's two shards.
fn own_home(faults: u8) -> Configuration {
    Configuration {
        name: "two shards, one of them home",
        setup: setup(2, vec![transaction(1, &[0, 1])]),
        budget: budget(faults, &[MESSAGES, PROCESSES, CLIENTS]),
    }
}

/// Home only decides.
fn decisions_shard(faults: u8) -> Configuration {
    Configuration {
        name: "two shards and a home that only decides",
        setup: setup(3, vec![transaction(2, &[0, 1])]),
        budget: budget(faults, &[MESSAGES, PROCESSES]),
    }
}

fn three_shards(faults: u8) -> Configuration {
    Configuration {
        name: "three shards, one of them home",
        setup: setup(3, vec![transaction(2, &[0, 1, 2])]),
        budget: budget(faults, &[MESSAGES, PROCESSES, CLIENTS]),
    }
}

/// One transaction, submitted to both.
fn two_coordinators(faults: u8) -> Configuration {
    let setup = Setup {
        coordinators: 2,
        ..setup(2, vec![transaction(1, &[0, 1])])
    };
    let mut kinds = vec![MESSAGES, PROCESSES];
    let twice: &[(Kind, u8)] = &[(Kind::SubmitTwice, 1), (Kind::OtherContent, 1)];
    kinds.push(twice);
    Configuration {
        name: "two coordinators, one transaction",
        setup,
        budget: budget(faults, &kinds),
    }
}

/// A batch of two, the second of which fails at one of two branches: they have not one set (R2).
fn one_lane(faults: u8) -> Configuration {
    let second = TxSpec {
        nature: Nature::FailsAfter(tag(0), TxNumber(0)),
        ..transaction(2, &[0, 1])
    };
    Configuration {
        name: "a batch of two with unequal branches",
        setup: setup(3, vec![transaction(2, &[0, 1]), second]),
        budget: budget(faults, &[MESSAGES, PROCESSES]),
    }
}

/// Home works while the branch is prepared.
fn ahead(faults: u8) -> Configuration {
    let setup = Setup {
        approach: Approach::Together,
        ..setup(2, vec![transaction(1, &[0, 1])])
    };
    Configuration {
        name: "two shards, and home works ahead",
        setup,
        budget: budget(faults, &[MESSAGES, PROCESSES]),
    }
}

/// Home works ahead for a batch of two, one of which the branch leaves out.
fn ahead_of_a_failure(faults: u8) -> Configuration {
    let fails = TxSpec {
        nature: Nature::Fails(tag(0)),
        ..transaction(1, &[0, 1])
    };
    let setup = Setup {
        approach: Approach::Together,
        ..setup(2, vec![transaction(1, &[0, 1]), fails])
    };
    Configuration {
        name: "home works ahead for one too many",
        setup,
        budget: budget(faults, &[MESSAGES, PROCESSES]),
    }
}

/// Home works first, for a batch of three: the second fails there because of the first, the
/// third at the branch.
fn home_first(faults: u8) -> Configuration {
    let at_home = TxSpec {
        nature: Nature::FailsAfter(tag(1), TxNumber(0)),
        ..transaction(1, &[0, 1])
    };
    let at_branch = TxSpec {
        nature: Nature::Fails(tag(0)),
        ..transaction(1, &[0, 1])
    };
    let setup = Setup {
        approach: Approach::HomeFirst,
        batch_members_max: 3,
        ..setup(2, vec![transaction(1, &[0, 1]), at_home, at_branch])
    };
    Configuration {
        name: "home first, with failures there and at the branch",
        setup,
        budget: budget(faults, &[MESSAGES, PROCESSES]),
    }
}

/// Two batches of a lane, the second at work behind the first, and one row that both want.
fn batches_in_a_row(faults: u8) -> Configuration {
    let one = || TxSpec {
        row: 1,
        ..transaction(1, &[0, 1])
    };
    let setup = Setup {
        batch_members_max: 1,
        approach: Approach::Together,
        ..setup(2, vec![one(), one()])
    };
    Configuration {
        name: "two batches of a lane, one row",
        setup,
        budget: budget(faults, &[MESSAGES, PROCESSES]),
    }
}

/// Two transactions with homes at each other's shard, and one row that both want.
fn two_lanes(faults: u8) -> Configuration {
    let on_row = |home| TxSpec {
        row: 1,
        ..transaction(home, &[0, 1])
    };
    let setup = Setup {
        coordinators: 2,
        ..setup(2, vec![on_row(0), on_row(1)])
    };
    Configuration {
        name: "two transactions in two lanes, one row",
        setup,
        budget: budget(faults, &[MESSAGES, PROCESSES]),
    }
}

/// Synchronous standbys: rows are read before they are safe.
fn standbys(faults: u8) -> Configuration {
    let setup = Setup {
        standby: true,
        ..setup(2, vec![transaction(1, &[0, 1])])
    };
    Configuration {
        name: "two shards with standbys",
        setup,
        budget: budget(faults, &[MESSAGES, PROCESSES, STANDBYS]),
    }
}

/// A batch of two: the first fails at home, the second at a branch, if it sees the first.
fn failures(faults: u8) -> Configuration {
    let odd = |nature| TxSpec {
        nature,
        ..transaction(1, &[0, 1])
    };
    let first = odd(Nature::Fails(tag(1)));
    let second = odd(Nature::FailsAfter(tag(0), TxNumber(0)));
    Configuration {
        name: "a batch of two that fail",
        setup: setup(2, vec![first, second]),
        budget: budget(faults, &[MESSAGES, PROCESSES]),
    }
}

/// A transaction that breaks a deferred constraint at its branch: PREPARE fails.
fn deferred(faults: u8) -> Configuration {
    let odd = TxSpec {
        nature: Nature::Deferred(tag(0)),
        ..transaction(1, &[0, 1])
    };
    Configuration {
        name: "a deferred constraint that breaks",
        setup: setup(2, vec![odd]),
        budget: budget(faults, &[MESSAGES, PROCESSES]),
    }
}

/// A branch that only reads (R18).
fn reader(faults: u8) -> Configuration {
    let reads: Vec<ShardTag> = vec![tag(2)];
    let reader = TxSpec {
        reads,
        ..transaction(1, &[0, 1])
    };
    Configuration {
        name: "two shards and one that is read",
        setup: setup(3, vec![reader]),
        budget: budget(faults, &[MESSAGES, PROCESSES]),
    }
}

/// One thing that Gavel cannot prevent, besides one that it can: it is found (R13, R16). Two of
/// the first kind could undo the same transaction on both shards, and leave no trace of it.
fn harm(name: &'static str, what: Kind, faults: u8) -> Configuration {
    let setup = Setup {
        archive: 2,
        ..setup(2, vec![transaction(1, &[0, 1])])
    };
    Configuration {
        name,
        setup,
        budget: budget(faults.max(2), &[&[(what, 1), (Kind::Drop, 1)], PROCESSES]),
    }
}
