//! What a seed draws: a world, and what will go wrong in it.

use gavel_protocol::ShardTag;
use rand::Rng;
use rand::rngs::SmallRng;
use rand::seq::{IndexedRandom, SliceRandom};

use super::faults::Kind;
use crate::Hole;
use crate::world::ids::TxNumber;
use crate::world::setup::{Nature, Setup, Timers, TxSpec, tag};

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
    /// Draws one; of this kind, if one is asked for.
    pub(super) fn draw(rng: &mut SmallRng, hole: Option<Hole>, kind: Option<Kinds>) -> Self {
        let drawn = match rng.random_range(0..20) {
            0 => Kinds::Calm,
            1 => Kinds::OneLane,
            2 => Kinds::HomeDown,
            3..=5 => Kinds::Harm,
            6 => Kinds::Retention,
            7..=11 => Kinds::Standbys,
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
        };
        draw(rng, hole)
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
}

fn timers() -> Timers {
    Timers {
        answer_ms: 400,
        finish_ms: 250,
        lock_ms: 120,
        scan_ms: 60,
        in_doubt_after_ms: 200,
        retry_ms: 40,
        client_ms: 1_200,
        retention_ms: 36_000_000,
        batch_age_ms: 12_000_000,
    }
}

fn setup(rng: &mut SmallRng, hole: Option<Hole>, plan: &Plan) -> Setup {
    let shards = plan.shards;
    let transactions: Vec<TxSpec> = (0..plan.transactions)
        .map(|number| draw_transaction(rng, plan, number))
        .collect();
    // Neighbours in number are about at the same time.
    let every = |first: usize| {
        let numbers = (0..plan.transactions).skip(first).step_by(plan.clients);
        numbers.map(TxNumber).collect()
    };
    Setup {
        shards,
        coordinators: plan.coordinators,
        transactions,
        clients: (0..plan.clients).map(every).collect(),
        hole,
        standby: false,
        archive: 0,
        batch_members_max: rng.random_range(1..=6),
        savepoints_max: rng.random_range(2..=4),
        runs_max: 12,
        slots: 64,
        slots_per_home: 32,
        fine: true,
        timers: Some(timers()),
    }
}

/// What the transactions of a world are drawn from.
struct Plan {
    shards: u8,
    coordinators: u8,
    clients: usize,
    transactions: u16,
    /// Out of 100, how many are anything but fine.
    odd: u32,
    /// How many rows are fought over; 0 for none.
    rows: u8,
    principals: u8,
    /// Which sets of shards the transactions have.
    lanes: Vec<Lane>,
}

struct Lane {
    home: ShardTag,
    writes: Vec<ShardTag>,
    reads: Vec<ShardTag>,
}

fn draw_lane(rng: &mut SmallRng, shards: u8) -> Lane {
    let mut tags: Vec<ShardTag> = (0..shards).map(tag).collect();
    tags.shuffle(rng);
    let home = tags[0];
    let reads_one = shards > 2 && rng.random_ratio(1, 4);
    let reads = if reads_one {
        vec![tags.remove(1)]
    } else {
        Vec::new()
    };
    // Home is one of the transaction's own shards, or only decides.
    let count = rng.random_range(1..=tags.len());
    let mut writes = match rng.random_ratio(1, 3) && tags.len() > 1 {
        true => tags[1..=count.min(tags.len() - 1)].to_vec(),
        false => tags[..count].to_vec(),
    };
    writes.sort_unstable();
    Lane {
        home,
        writes,
        reads,
    }
}

fn draw_plan(rng: &mut SmallRng) -> Plan {
    let shards = rng.random_range(2..=4);
    let lanes = rng.random_range(1..=4);
    Plan {
        shards,
        coordinators: rng.random_range(1..=3),
        clients: rng.random_range(2..=10),
        transactions: rng.random_range(200..=300),
        odd: *[0, 5, 20, 40].choose(rng).expect("some"),
        rows: *[0, 0, 3, 20].choose(rng).expect("some"),
        principals: rng.random_range(1..=2),
        lanes: (0..lanes).map(|_| draw_lane(rng, shards)).collect(),
    }
}

fn draw_transaction(rng: &mut SmallRng, plan: &Plan, number: u16) -> TxSpec {
    let lane = plan.lanes.choose(rng).expect("there are lanes");
    let is_odd = rng.random_range(0..100) < plan.odd;
    TxSpec {
        home: lane.home,
        writes: lane.writes.clone(),
        reads: lane.reads.clone(),
        nature: match is_odd {
            true => draw_nature(rng, plan.shards, number),
            false => Nature::Fine,
        },
        row: match plan.rows {
            0 => 0,
            rows => rng.random_range(1..=rows),
        },
        principal: rng.random_range(0..plan.principals),
    }
}

fn draw_nature(rng: &mut SmallRng, shards: u8, number: u16) -> Nature {
    let shard = tag(rng.random_range(0..shards));
    // One that is likely to be about at the same time.
    let other = number.saturating_sub(rng.random_range(1..=6));
    match rng.random_range(0..8) {
        0 | 1 => Nature::Fails(shard),
        2 => Nature::Deferred(shard),
        3 => Nature::Spoils,
        4 => Nature::Hurries,
        _ if other != number => Nature::FailsAfter(shard, TxNumber(other)),
        _ => Nature::Fine,
    }
}

const MESSAGES: &[Kind] = &[
    Kind::Drop,
    Kind::Drop,
    Kind::Duplicate,
    Kind::Duplicate,
    Kind::Delay,
];
const PROCESSES: &[Kind] = &[
    Kind::CrashCoordinator,
    Kind::PauseCoordinator,
    Kind::CrashParticipant,
    Kind::PauseParticipant,
    Kind::CrashShard,
    Kind::Terminate,
    Kind::Cut,
];
const CLIENTS: &[Kind] = &[Kind::SubmitTwice, Kind::SubmitTwice, Kind::OtherContent];

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
        expects: Expects::OthersGoOn,
    }
}
