//! Simulation: long random runs, each determined by its seed.
//!
//! A run draws its world and its mix of faults from the seed, lets clients and
//! faults go at each other, then mends everything and waits for rest. What is wrong is found on
//! the way or at rest by `crate::invariants`. A run that fails is repeated with a trace by its
//! seed alone, since nothing but the seed goes into it.

mod burst;
mod faults;
mod plan;
mod profile;
mod run;

use std::collections::BTreeMap;

pub use profile::Kinds;
use run::Run;

use crate::{Hole, Invariant};

/// What became of a seed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The seed.
    pub seed: u64,
    /// Which kind of world it drew.
    pub profile: &'static str,
    /// What was found wrong.
    pub violations: BTreeMap<Invariant, String>,
    /// Actions that were played.
    pub steps: u64,
    /// Milliseconds on the world's clock.
    pub simulated_ms: u64,
    /// Transactions that clients were told to have committed, or aborted.
    pub transactions: u64,
    /// How large batches may be in its world.
    pub batch_members_max: usize,
    /// How many members the largest batch had.
    pub largest_batch: usize,
    /// Faults that hit, by kind and by what they hit.
    pub faults: BTreeMap<String, u64>,
}

/// What a run is determined by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Choice {
    /// Everything that is drawn.
    pub seed: u64,
    /// A rule switched off, or a bug planted.
    pub hole: Option<Hole>,
    /// The kind of world, if the seed is not to choose it.
    pub kind: Option<Kinds>,
    /// How large batches may be, if the seed is not to choose it.
    pub batch_members: Option<usize>,
}

impl From<u64> for Choice {
    fn from(seed: u64) -> Self {
        Self {
            seed,
            hole: None,
            kind: None,
            batch_members: None,
        }
    }
}

/// Runs a seed.
pub fn run(choice: Choice) -> Report {
    Run::new(choice, false).finish().0
}

/// Runs a seed and writes down everything that happens.
pub fn trace(choice: Choice) -> (Report, String) {
    Run::new(choice, true).finish()
}
