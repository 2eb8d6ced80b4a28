//! What a world is drawn from: shards, clients, and what its transactions are like.

use gavel_protocol::ShardTag;
use rand::Rng;
use rand::rngs::SmallRng;
use rand::seq::{IndexedRandom, SliceRandom};

use crate::Hole;
use crate::world::ids::TxNumber;
use crate::world::setup::{Approach, Nature, Setup, Timers, TxSpec, tag};

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

pub(super) fn setup(rng: &mut SmallRng, hole: Option<Hole>, plan: &Plan) -> Setup {
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
        batch_members_max: batch_members(rng),
        approach: Approach::Mixed,
        savepoints_max: rng.random_range(2..=4),
        runs_max: 12,
        slots: 64,
        slots_per_home: 32,
        fine: true,
        timers: Some(timers()),
    }
}

/// How large batches may be: the sizes that everything is tested with, and a few between.
pub(super) fn batch_members(rng: &mut SmallRng) -> usize {
    let odd = rng.random_range(3..=6);
    *[1, 2, odd, 60, 500].choose(rng).expect("some")
}

/// What the transactions of a world are drawn from.
pub(super) struct Plan {
    pub(super) shards: u8,
    pub(super) coordinators: u8,
    pub(super) clients: usize,
    pub(super) transactions: u16,
    /// Out of 100, how many are anything but fine.
    pub(super) odd: u32,
    /// How many rows are fought over; 0 for none.
    pub(super) rows: u8,
    pub(super) principals: u8,
    /// Which sets of shards the transactions have.
    pub(super) lanes: Vec<Lane>,
}

pub(super) struct Lane {
    pub(super) home: ShardTag,
    pub(super) writes: Vec<ShardTag>,
    pub(super) reads: Vec<ShardTag>,
}

pub(super) fn draw_lane(rng: &mut SmallRng, shards: u8) -> Lane {
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

pub(super) fn draw_plan(rng: &mut SmallRng) -> Plan {
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
