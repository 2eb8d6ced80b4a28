//! Verification of Gavel's pure core.
//!
//! | module | what it does |
//! |---|---|
//! | `world` | fake shards, processes, clients and a network around the real core |
//! | `invariants` | what must hold, one file per invariant |
//! | `model` | every way through small worlds, with `stateright` |
//! | `simulation` | random long runs with faults, by seed |

pub mod model;
pub mod simulation;

mod invariants;
mod world;

pub use invariants::Invariant;
pub use world::hole::Hole;
