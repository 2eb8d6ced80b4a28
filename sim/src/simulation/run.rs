//! One run: faults, then repair, then rest.

use std::collections::BTreeMap;
use std::fmt::Write;

use rand::rngs::SmallRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};

use super::profile::{Expects, Profile};
use super::{Choice, Report};
use crate::invariants::{self, Invariant};
use crate::world::World;
use crate::world::action::{Action, Fault};
use crate::world::observer::Final;

/// After everything is mended, rest must come within this time on the world's clock: many times
/// what the slowest recovery takes.
const REST_WITHIN_MS: u64 = 60_000;

/// And within this many steps, if the clock hardly moves.
const REST_WITHIN_STEPS: u64 = 400_000;

/// A run under way.
pub(super) struct Run {
    seed: u64,
    profile: Profile,
    world: World,
    rng: SmallRng,
    steps: u64,
    largest_batch: usize,
    faults: BTreeMap<String, u64>,
    trace: Option<String>,
    moves: Vec<Action>,
}

impl Run {
    /// The run of a seed, at its beginning.
    pub(super) fn new(choice: Choice, with_trace: bool) -> Self {
        let seed = choice.seed;
        let mut rng = SmallRng::seed_from_u64(seed);
        let profile = Profile::draw(&mut rng, choice);
        let mut world = World::new(profile.setup.clone());
        for coordinator in &mut world.coordinators {
            coordinator.clock_ahead_ms = match profile.clocks_apart_ms {
                0 => 0,
                apart => rng.random_range(0..apart),
            };
        }
        Self {
            seed,
            trace: with_trace.then(|| format!("seed {seed}, {}\n{:#?}\n", profile.name, profile)),
            profile,
            world,
            rng,
            steps: 0,
            largest_batch: 0,
            faults: BTreeMap::new(),
            moves: Vec::new(),
        }
    }

    /// Runs to the end; the trace is empty unless it was asked for.
    pub(super) fn finish(mut self) -> (Report, String) {
        let is_home_down = self.profile.expects == Expects::OthersGoOn;
        if is_home_down {
            self.play(Action::Fault(Fault::CrashShard(0)));
        }
        while !self.is_broken() && self.steps < self.profile.steps_max && !self.is_over() {
            self.disturb();
            self.move_on();
        }
        if is_home_down && !self.others_are_done() {
            self.violate("the transactions of other homes do not get through");
        }
        self.heal();
        if !self.is_broken() {
            invariants::check_at_rest(&mut self.world);
            self.check_expectations();
        }
        self.report()
    }

    fn is_broken(&self) -> bool {
        !self.world.observer.violations.is_empty()
    }

    /// Whether the clients that the profile waits for are done.
    fn is_over(&self) -> bool {
        match self.profile.expects {
            Expects::OthersGoOn => self.others_are_done(),
            Expects::Nothing | Expects::EverybodyCommits => {
                self.world.clients.iter().all(|client| client.is_done())
            }
        }
    }

    fn others_are_done(&self) -> bool {
        let plans = self.world.setup.clients.iter().zip(&self.world.clients);
        let mut others = plans.filter(|(plan, _)| {
            let first = self.world.setup.spec(plan[0]);
            first.home != crate::world::setup::tag(0)
        });
        others.all(|(_, client)| client.is_done())
    }

    // ---- steps ----

    fn disturb(&mut self) {
        if self.rng.random_ratio(1, self.profile.fault_every)
            && let Some(kind) = self.profile.faults.choose(&mut self.rng).copied()
            && let Some((action, name)) = kind.choose(&self.world, &mut self.rng)
        {
            *self.faults.entry(name).or_default() += 1;
            self.play(action);
        }
        if self.rng.random_ratio(1, self.profile.repair_every) {
            let mut repairs = std::mem::take(&mut self.moves);
            repairs.clear();
            self.world.repairs(&mut repairs);
            if let Some(repair) = repairs.choose(&mut self.rng).cloned() {
                self.play(repair);
            }
            self.moves = repairs;
        }
    }

    /// Plays one of the moves that are possible now; if there is none, time passes.
    fn move_on(&mut self) {
        self.world.now += u64::from(self.rng.random_ratio(1, self.profile.steps_per_ms));
        let mut moves = std::mem::take(&mut self.moves);
        moves.clear();
        self.world.moves(&mut moves);
        match moves.choose(&mut self.rng).cloned() {
            Some(chosen) => self.play(chosen),
            None => self.world.now += 10,
        }
        self.moves = moves;
    }

    fn play(&mut self, action: Action) {
        self.steps += 1;
        if let Some(trace) = &mut self.trace {
            let (step, now) = (self.steps, self.world.now);
            let text = self.world.describe(&action);
            writeln!(trace, "{step:>6} {now:>6} ms  {text}").expect("a string takes all");
        }
        self.world.play(action);
        self.largest_batch = self.largest_batch.max(self.world.largest_batch());
    }

    // ---- the end ----

    /// Everything is mended, clients take up nothing new, and the world comes to rest.
    fn heal(&mut self) {
        if let Some(trace) = &mut self.trace {
            trace.push_str("------ healed\n");
        }
        for client in &mut self.world.clients {
            client.stop();
        }
        let mut repairs = Vec::new();
        self.world.repairs(&mut repairs);
        for repair in repairs {
            self.play(repair);
        }
        let (steps, now) = (self.steps, self.world.now);
        while !self.is_broken() && !self.world.is_at_rest() {
            if self.world.now > now + REST_WITHIN_MS || self.steps > steps + REST_WITHIN_STEPS {
                return;
            }
            self.move_on();
        }
    }

    fn check_expectations(&mut self) {
        if self.profile.expects != Expects::EverybodyCommits {
            return;
        }
        let observer = &self.world.observer;
        let committed = observer.told.values();
        let committed = committed.filter(|told| **told == Final::Committed).count();
        let all = self.world.setup.transactions.len();
        if committed < all || !observer.refused.is_empty() {
            let refused = observer.refused.len();
            self.violate(&format!(
                "without faults, {committed} of {all} committed, {refused} refusals"
            ));
        }
    }

    fn violate(&mut self, what: &str) {
        let observer = &mut self.world.observer;
        observer.violate(Invariant::I7, || what.to_owned());
    }

    fn report(self) -> (Report, String) {
        let observer = self.world.observer;
        let mut trace = self.trace.unwrap_or_default();
        if !trace.is_empty() {
            for (invariant, what) in &observer.violations {
                writeln!(trace, "VIOLATED {invariant:?}: {what}").expect("a string takes all");
            }
        }
        let report = Report {
            seed: self.seed,
            profile: self.profile.name,
            transactions: observer.told.len() as u64,
            violations: observer.violations,
            steps: self.steps,
            simulated_ms: self.world.now,
            batch_members_max: self.world.setup.batch_members_max,
            largest_batch: self.largest_batch,
            faults: self.faults,
        };
        (report, trace)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulation::Kinds;
    use crate::world::LINK_HOLDS;
    use crate::world::ids::{EPOCH_MS, TxNumber, txid};
    use crate::world::network::{Body, Message, Node};
    use crate::world::setup::tag;

    /// Without this a world whose links were cut for minutes does not come to rest (I7).
    #[test]
    fn a_link_takes_only_so_many_messages_where_time_passes() {
        let mut rng = SmallRng::seed_from_u64(0);
        let choice = Choice {
            kind: Some(Kinds::Rough),
            ..Choice::from(0)
        };
        let with_time = Profile::draw(&mut rng, choice).setup;
        let mut without = with_time.clone();
        without.timers = None;
        for (setup, held) in [(with_time, LINK_HOLDS), (without, 2 * LINK_HOLDS)] {
            let mut world = World::new(setup);
            let mut send = |client| {
                world.send(Message {
                    from: Node::Client(client),
                    to: Node::Coordinator(0),
                    body: Body::AskStatus {
                        txid: txid(TxNumber(0), 0, tag(0), EPOCH_MS),
                    },
                    not_before: 0,
                });
                world.network.len()
            };
            let under_way = (0..2 * LINK_HOLDS).map(|_| send(0)).last();
            assert_eq!(under_way, Some(held));
            assert_eq!(send(1), held + 1, "another link has room of its own");
        }
    }
}
