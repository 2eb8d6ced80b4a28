//! Whether a world still comes to rest once faults stop.
//!
//! What is down is started, and then one possible move after the other is made until none is left.
//! A world that came to rest, and all worlds on its way there, are remembered, so that the price of
//! asking this of every state is about one step each.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Mutex;

use crate::invariants;
use crate::world::World;
use crate::world::action::Action;

/// More than any way to rest takes.
const STEPS_MAX: usize = 2_000;

/// Worlds that are known to come to rest.
#[derive(Debug, Default)]
pub(super) struct KnownToRest(Mutex<HashSet<u64>>);

impl KnownToRest {
    /// Whether this world comes to rest with nothing violated; if not, how it ends.
    pub(super) fn comes_to_rest(&self, world: &World) -> Result<(), Box<World>> {
        let mut world = world.clone();
        let mut passed = Vec::new();
        let mut moves = Vec::new();
        for step in 0..STEPS_MAX {
            let print = fingerprint(&world);
            if self.lock().contains(&print) {
                self.lock().extend(passed);
                return Ok(());
            }
            passed.push(print);
            moves.clear();
            world.repairs(&mut moves);
            if moves.is_empty() {
                world.moves(&mut moves);
                prefer_progress(&mut moves);
            }
            if moves.is_empty() {
                invariants::check_at_rest(&mut world);
                if !world.observer.violations.is_empty() {
                    return Err(Box::new(world));
                }
                self.lock().extend(passed);
                return Ok(());
            }
            // Every move gets its turn: always the first would be unfair to the others.
            let chosen = moves.swap_remove(step % moves.len());
            world.play(chosen);
            super::tidy(&mut world);
        }
        invariants::check_at_rest(&mut world);
        Err(Box::new(world))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashSet<u64>> {
        self.0.lock().expect("no thread panics")
    }
}

/// Patience ends only if nothing else can happen.
fn prefer_progress(moves: &mut Vec<Action>) {
    let is_impatient =
        |action: &Action| matches!(action, Action::LockTimeout(..) | Action::Suspect(..));
    if !moves.iter().all(is_impatient) {
        moves.retain(|action| !is_impatient(action));
    }
}

fn fingerprint(world: &World) -> u64 {
    let mut hasher = DefaultHasher::new();
    world.hash(&mut hasher);
    hasher.finish()
}
