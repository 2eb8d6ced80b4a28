//! What a seed draws: a world, and what will go wrong in it.

use gavel_protocol::ShardTag;
use rand::Rng;
use rand::rngs::SmallRng;
use rand::seq::{IndexedRandom, SliceRandom};

use super::faults::Kind;
use super::plan::{Lane, Plan, batch_members, draw_plan, setup};
use super::{Choice, burst};
use crate::Hole;
use crate::world::ids::TxNumber;
use crate::world::setup::{Setup, tag};

/// A world and its faults.
#[derive(Debug)]
pub(super) struct Profile {
    pub(super) name: &'static str,
    pub(super) setup: Setup,
    /// What may go wrong, each as often as it is listed.
    pub(super) faults: Vec<Kind>,
    /// One fault in this many steps.
    pub(super) fault_every: u32,
    /// One repair in this many steps.
    pub(super) repair_every: u32,
    /// Steps before everything is mended, if the clients are not done earlier.
    pub(super) steps_max: u64,
    /// How far wall clocks are apart.
    pub(super) clocks_apart_ms: u64,
    /// Steps in a millisecond, about: where a crowd makes them, each takes less time.
    pub(super) steps_per_ms: u32,
    pub(super) expects: Expects,
}

/// What must hold besides the invariants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Expects {
    Nothing,
    /// Nothing is in anybody's way: all commit, and nobody is refused (I7).
    EverybodyCommits,
    /// The home in place 0 is down all the time, and the clients of others are done by the end
    /// (I7, R12).
    OthersGoOn,
}

impl Profile {
    /// Draws one; of this kind, and with batches of this size, if they are asked for.
    pub(super) fn draw(rng: &mut SmallRng, choice: Choice) -> Self {
        let Choice { hole, kind, .. } = choice;
        let drawn = match rng.random_range(0..100) {
            0..5 => Kinds::Calm,
            5..10 => Kinds::OneLane,
            10..15 => Kinds::HomeDown,
            15..30 => Kinds::Harm,
            30..35 => Kinds::Retention,
            35..59 => Kinds::Standbys,
            59..69 => Kinds::Burst,
            _ => Kinds::Rough,
        };
        let draw = match kind.unwrap_or(drawn) {
            Kinds::Calm => calm,
            Kinds::OneLane => one_lane,
            Kinds::HomeDown => home_down,
            Kinds::Harm => harm,
            Kinds::Retention => retention,
            Kinds::Standbys => standbys,
            Kinds::Rough => rough,
            Kinds::Burst => {
                let members_max = choice.batch_members.unwrap_or_else(|| batch_members(rng));
                return burst::draw(rng, hole, members_max);
            }
        };
        let mut profile = draw(rng, hole);
        if let Some(members_max) = choice.batch_members {
            profile.setup.batch_members_max = members_max;
        }
        profile
    }
}

/// Kinds of worlds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Kinds {
    /// No faults, and nothing to fight over: everybody commits.
    Calm,
    /// No faults; everybody wants the same rows, in one lane: everybody commits.
    OneLane,
    /// One home is down: the transactions of others get through.
    HomeDown,
    /// Data is lost, a shard is restored, people interfere: what is broken is found.
    Harm,
    /// Old rows are dropped while processes are down for long.
    Retention,
    /// Synchronous standbys, failovers, cancelled waits.
    Standbys,
    /// Messages, processes, servers, clients.
    Rough,
    /// So many clients on one lane that batches fill up, whatever their size; in two of three
    /// such worlds with faults.
    Burst,
}

pub(super) const MESSAGES: &[Kind] = &[
    Kind::Drop,
    Kind::Drop,
    Kind::Duplicate,
    Kind::Duplicate,
    Kind::Delay,
];
pub(super) const PROCESSES: &[Kind] = &[
    Kind::CrashCoordinator,
    Kind::PauseCoordinator,
    Kind::CrashParticipant,
    Kind::PauseParticipant,
    Kind::CrashShard,
    Kind::Terminate,
    Kind::Cut,
];
pub(super) const CLIENTS: &[Kind] = &[Kind::SubmitTwice, Kind::SubmitTwice, Kind::OtherContent];

fn rough(rng: &mut SmallRng, hole: Option<Hole>) -> Profile {
    let plan = draw_plan(rng);
    let mut faults: Vec<Kind> = [MESSAGES, PROCESSES, CLIENTS].concat();
    faults.shuffle(rng);
    faults.truncate(rng.random_range(1..=faults.len()));
    let fault_every = *[20, 60, 200].choose(rng).expect("some");
    Profile {
        name: "rough",
        setup: setup(rng, hole, &plan),
        faults,
        fault_every,
        // Were it rarer by far, everything would be broken most of the time, and nothing tried.
        repair_every: fault_every * rng.random_range(1..=3),
        steps_max: 60_000,
        clocks_apart_ms: 3_600_000,
        steps_per_ms: 2,
        expects: Expects::Nothing,
    }
}

fn standbys(rng: &mut SmallRng, hole: Option<Hole>) -> Profile {
    let mut profile = rough(rng, hole);
    let more = [
        Kind::FailOver,
        Kind::FailOver,
        Kind::CancelWait,
        Kind::CrashShard,
    ];
    profile.faults.extend(more);
    profile.setup.standby = true;
    Profile {
        name: "standbys",
        ..profile
    }
}

/// Acknowledged data is lost, and people interfere.
fn harm(rng: &mut SmallRng, hole: Option<Hole>) -> Profile {
    let plan = Plan {
        rows: 0,
        ..draw_plan(rng)
    };
    let harm = *[Kind::LoseData, Kind::ByHand, Kind::Restore]
        .choose(rng)
        .expect("some");
    let mut faults = [MESSAGES, PROCESSES].concat();
    faults.extend([harm; 3]);
    let mut setup = setup(rng, hole, &plan);
    setup.archive = 6;
    setup.standby = rng.random_ratio(1, 2);
    // What a restore leaves in doubt keeps its slot until an operator ends it.
    setup.slots = 4_096;
    setup.slots_per_home = 4_096;
    Profile {
        name: "harm",
        setup,
        faults,
        fault_every: 100,
        repair_every: 100,
        steps_max: 20_000,
        clocks_apart_ms: 0,
        steps_per_ms: 2,
        expects: Expects::Nothing,
    }
}

/// Days pass in seconds, and old rows are dropped, while processes are down for long.
fn retention(rng: &mut SmallRng, hole: Option<Hole>) -> Profile {
    let mut profile = rough(rng, hole);
    if let Some(timers) = &mut profile.setup.timers {
        timers.retention_ms = 1_500;
        timers.batch_age_ms = 700;
    }
    Profile {
        name: "retention",
        faults: [MESSAGES, PROCESSES, CLIENTS].concat(),
        fault_every: 200,
        repair_every: 1_500,
        clocks_apart_ms: 0,
        ..profile
    }
}

/// No faults and nothing to fight over.
fn calm(rng: &mut SmallRng, hole: Option<Hole>) -> Profile {
    let plan = Plan {
        odd: 0,
        rows: 0,
        ..draw_plan(rng)
    };
    Profile {
        name: "calm",
        setup: setup(rng, hole, &plan),
        faults: Vec::new(),
        fault_every: u32::MAX,
        repair_every: u32::MAX,
        steps_max: 100_000,
        clocks_apart_ms: 0,
        steps_per_ms: 2,
        expects: Expects::EverybodyCommits,
    }
}

/// Everybody wants the same rows, but they share a lane.
fn one_lane(rng: &mut SmallRng, hole: Option<Hole>) -> Profile {
    let shards = rng.random_range(3..=4);
    let tags: Vec<ShardTag> = (0..shards).map(tag).collect();
    let plan = Plan {
        shards,
        coordinators: 1,
        odd: 0,
        rows: 2,
        principals: 1,
        lanes: vec![Lane {
            home: tags[0],
            writes: tags,
            reads: Vec::new(),
        }],
        ..draw_plan(rng)
    };
    Profile {
        name: "one lane",
        setup: setup(rng, hole, &plan),
        ..calm(rng, hole)
    }
}

/// A home is down, and its transactions fill what slots they may.
fn home_down(rng: &mut SmallRng, hole: Option<Hole>) -> Profile {
    let (dead, live) = (tag(0), tag(1));
    let lane = |home| Lane {
        home,
        writes: vec![tag(2), tag(3)],
        reads: Vec::new(),
    };
    let plan = Plan {
        shards: 4,
        coordinators: 2,
        clients: 12,
        transactions: 60,
        odd: 0,
        rows: 0,
        principals: 6,
        lanes: vec![lane(dead), lane(live)],
    };
    let mut setup = setup(rng, hole, &plan);
    setup.slots = 6;
    setup.slots_per_home = 3;
    setup.batch_members_max = 1;
    // A client has transactions of one home only.
    let (dead_ones, live_ones): (Vec<TxNumber>, Vec<TxNumber>) = (0..plan.transactions)
        .map(TxNumber)
        .partition(|number| setup.transactions[usize::from(number.0)].home == dead);
    let split = |numbers: &[TxNumber]| -> Vec<Vec<TxNumber>> {
        let each = numbers.len().div_ceil(6).max(1);
        numbers.chunks(each).map(<[TxNumber]>::to_vec).collect()
    };
    setup.clients = [split(&dead_ones), split(&live_ones)].concat();
    Profile {
        name: "home down",
        setup,
        faults: Vec::new(),
        fault_every: u32::MAX,
        repair_every: u32::MAX,
        steps_max: 20_000,
        clocks_apart_ms: 0,
        steps_per_ms: 2,
        expects: Expects::OthersGoOn,
    }
}
