//! How a coordinator stands, and what it did lately: for people who watch.

use crate::circuit::State;
use crate::names::ShardTag;

/// How a coordinator stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// The version of its program.
    pub version: String,
    /// When it started, in Unix seconds.
    pub started_unix_s: u64,
    /// Transactions that it holds.
    pub in_flight: u64,
    /// How many it takes before it refuses more.
    pub in_flight_max: u64,
    /// Lanes that have something to do.
    pub lanes: u64,
    /// Transactions that wait in lanes.
    pub waiting: u64,
    /// How many of them wait in the deepest lane.
    pub deepest: u64,
    /// Interactive transactions that are open.
    pub sessions: u64,
    /// Whether an operator has told it to take nothing new.
    pub is_draining: bool,
    /// Every shard.
    pub shards: Vec<ShardStanding>,
    /// The last minutes without the second that is going on, oldest first and without gaps.
    pub seconds: Vec<Second>,
}

/// How a coordinator sees a shard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShardStanding {
    /// Which.
    pub tag: ShardTag,
    /// Its circuit.
    pub circuit: State,
    /// What is wrong with it, if anything is.
    pub wrong: Option<String>,
    /// Whether it is being taken out, and takes nothing new.
    pub is_draining: bool,
}

/// What clients were told in one second.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Second {
    /// When it began.
    pub unix_s: u64,
    /// Told that it is committed.
    pub committed: u64,
    /// Told that it is aborted.
    pub aborted: u64,
    /// Refused.
    pub refused: u64,
    /// Told that the outcome is not known yet.
    pub in_doubt: u64,
    /// How long those waited who were told of a commit: the median, in microseconds; 0 if nobody.
    pub p50_us: u64,
    /// The 99th percentile.
    pub p99_us: u64,
    /// The longest.
    pub max_us: u64,
}
