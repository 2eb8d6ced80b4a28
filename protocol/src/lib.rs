//! The pure core of Gavel: what is said, and what follows from it.
//!
//! Everything here is a function of its arguments. There is no IO, no clock and no randomness:
//! time, fresh identifiers and answers from the outside come in as arguments, and what should
//! happen comes out as values. The services execute those values; the simulator runs the same
//! code over fake shards.
//!
//! | module | what it knows |
//! |---|---|
//! | [`names`], [`id`], [`gid`], [`digest`] | validated names and identifiers |
//! | [`transaction`], [`sql`] | what a client asks for |
//! | [`message`] | what coordinator and participants say to each other |
//! | [`outcome`] | what a client hears |
//! | [`batch`] | one two-phase commit, seen from its coordinator |
//! | [`lane`] | how transactions form batches |
//! | [`branch`] | one in-doubt branch, seen from its participant |
//! | [`circuit`] | whether a shard is worth asking |
//! | [`recovery`] | the recovery table |
//! | [`limits`] | every limit, with its reason |

pub mod batch;
pub mod branch;
pub mod circuit;
pub mod digest;
pub mod gid;
pub mod id;
pub mod lane;
pub mod limits;
pub mod message;
pub mod names;
pub mod outcome;
pub mod recovery;
pub mod shard_map;
pub mod sql;
pub mod standing;
pub mod transaction;

pub use batch::Batch;
pub use digest::{MembersDigest, RequestHash};
pub use gid::Gid;
pub use id::{BatchId, DriverId, Txid};
pub use lane::{Lane, Turn};
pub use limits::Limits;
pub use names::{DeploymentName, Incarnation, Principal, ShardName, ShardTag};
pub use outcome::{AbortCode, AbortReason, Outcome, Refusal, RefusalCode};
pub use shard_map::ShardMap;
pub use transaction::{Access, Ack, BranchWork, Guard, Isolation, Statement, Transaction};
