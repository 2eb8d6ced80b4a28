//! Worlds with a crowd: so many clients want the same lane that batches fill up, be it of 500.
//!
//! Elsewhere a handful of clients keep a batch at a handful of members, however many it may have.
//! Here every client submits at about the same time, so the first batch has one member, and the
//! next has as many as a batch may.

use rand::Rng;
use rand::rngs::SmallRng;
use rand::seq::{IndexedRandom, SliceRandom};

use super::faults::Kind;
use super::plan::{Plan, draw_lane, setup};
use super::profile::{CLIENTS, Expects, MESSAGES, PROCESSES, Profile};
use crate::Hole;

/// What every client submits, one after the other.
const TRANSACTIONS_EACH: usize = 2;
/// Out of 100, how many are anything but fine, where there are faults.
const ODD: [u32; 3] = [0, 1, 5];

pub(super) fn draw(rng: &mut SmallRng, hole: Option<Hole>, members_max: usize) -> Profile {
    let is_calm = rng.random_ratio(1, 3);
    let plan = draw_plan(rng, members_max, is_calm);
    let mut setup = setup(rng, hole, &plan);
    setup.batch_members_max = members_max;
    setup.savepoints_max = *[4, 60].choose(rng).expect("some");
    setup.standby = !is_calm && rng.random_ratio(1, 4);
    if let Some(timers) = &mut setup.timers {
        // While nobody answers, a crowd that asks again and again is all that would happen.
        timers.client_ms = 6_000;
    }
    let mut faults: Vec<Kind> = [MESSAGES, PROCESSES, CLIENTS].concat();
    faults.shuffle(rng);
    faults.truncate(match is_calm {
        true => 0,
        false => rng.random_range(1..=faults.len()),
    });
    // A message waits for as many steps as the crowd has to make meanwhile.
    let crowd = u32::try_from(plan.clients / 10 + 1).expect("not that many clients");
    let fault_every = crowd * *[5, 20, 80].choose(rng).expect("some");
    Profile {
        name: "burst",
        setup,
        faults,
        fault_every,
        repair_every: fault_every,
        steps_max: 40_000,
        clocks_apart_ms: 0,
        steps_per_ms: 2 * crowd,
        expects: match is_calm {
            true => Expects::EverybodyCommits,
            false => Expects::Nothing,
        },
    }
}

/// A crowd that fills one batch and begins another.
fn draw_plan(rng: &mut SmallRng, members_max: usize, is_calm: bool) -> Plan {
    let shards = rng.random_range(2..=4);
    let clients = members_max + members_max / 2 + 20;
    let two_coordinators = !is_calm && rng.random_ratio(1, 8);
    Plan {
        shards,
        coordinators: 1 + u8::from(two_coordinators),
        clients,
        transactions: u16::try_from(clients * TRANSACTIONS_EACH).expect("a batch fits"),
        odd: match is_calm {
            true => 0,
            false => *ODD.choose(rng).expect("some"),
        },
        rows: *[0, 20].choose(rng).expect("some"),
        principals: 1,
        lanes: vec![draw_lane(rng, shards)],
    }
}
