//! What must hold, under the names of `docs/invariants.md`.
//!
//! What can be judged at one moment, [`crate::world::observer`] judges when it happens (I3 and I8
//! as a whole, I2, I4 and I5 in part). The rest is judged here when the world has come to rest:
//! each file reads the shards' tables, as direct SQL would, and never asks the core.

mod i10_independence;
mod i1_atomicity;
mod i2_stability;
pub(crate) mod i3_unanimity;
mod i4_durability;
mod i5_exactly_once;
mod i6_no_orphans;
mod i7_progress;
pub(crate) mod i8_write_order;
mod r16_detection;

use crate::world::World;

/// What can be found wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Invariant {
    /// Atomicity.
    I1,
    /// Stability.
    I2,
    /// Unanimity.
    I3,
    /// Durability.
    I4,
    /// Exactly once.
    I5,
    /// No orphans.
    I6,
    /// Progress.
    I7,
    /// Write order.
    I8,
    /// Batch independence.
    I10,
    /// What broke atomicity from outside is found (R16).
    Detection,
    /// The core raises no alarm without a cause.
    Calm,
}

impl Invariant {
    /// Every one that is checked here.
    pub const ALL: &[Self] = &[
        Self::I1,
        Self::I2,
        Self::I3,
        Self::I4,
        Self::I5,
        Self::I6,
        Self::I7,
        Self::I8,
        Self::I10,
        Self::Detection,
        Self::Calm,
    ];
}

/// What is wrong with a world at rest, if anything is.
type Check = fn(&World) -> Result<(), String>;

/// Checks a world that should be at rest; what is found wrong is added to what was found on the
/// way. A world that has not come to rest is judged for that alone.
pub(crate) fn check_at_rest(world: &mut World) {
    if let Err(what) = i7_progress::check(world) {
        let orphans = i6_no_orphans::check(world).err();
        world.observer.violate(Invariant::I7, || what);
        if let Some(what) = orphans {
            world.observer.violate(Invariant::I6, || what);
        }
        return;
    }
    // What a restore has left in doubt is an operator's: it is shown, and nothing is promised.
    let orphans = world.shards.iter().flat_map(|shard| &shard.tables.prepared);
    let orphans = orphans.map(|(gid, branch)| (gid.batch, branch.executed.clone()));
    for (batch, executed) in orphans.collect::<Vec<_>>() {
        world.observer.on_harm(Some(batch), &executed);
    }
    let checks: [(Invariant, Check); 7] = [
        (Invariant::I1, i1_atomicity::check),
        (Invariant::I2, i2_stability::check),
        (Invariant::I4, i4_durability::check),
        (Invariant::I5, i5_exactly_once::check),
        (Invariant::I6, i6_no_orphans::check),
        (Invariant::I10, i10_independence::check),
        (Invariant::Detection, r16_detection::check),
    ];
    for (invariant, check) in checks {
        if let Err(what) = check(world) {
            world.observer.violate(invariant, || what);
        }
    }
}
