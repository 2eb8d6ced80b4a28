//! What is compared. Every variant runs the same statements on the same servers, and tells its
//! client the end of a transaction when all shards show it (ack mode `applied`).

mod best;
mod by_hand;
mod embedded;
mod lines;
mod naive;
mod processes;
mod settings;
mod through_client;

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::scenario::Place;
use crate::work::Work;
use crate::world::Shard;

pub use lines::{Layout, Search};
pub use naive::CONNECTIONS_MAX as NAIVE_CONNECTIONS_MAX;
pub use processes::Processes as Fleet;
pub use settings::LIMITS;
pub use through_client::run as run_through;

/// A way to make transfers.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum, Serialize, Deserialize,
)]
pub enum Kind {
    /// One database, statement by statement.
    #[value(name = "local-naive")]
    #[serde(rename = "local-naive")]
    LocalNaive,
    /// One database, one pipeline per transaction over few connections.
    #[value(name = "local-pipelined")]
    #[serde(rename = "local-pipelined")]
    LocalPipelined,
    /// Hand-written, one statement after the other, no log.
    #[value(name = "2pc-naive")]
    #[serde(rename = "2pc-naive")]
    Naive,
    /// Hand-written, pipelined over few connections, no log.
    #[value(name = "2pc-best")]
    #[serde(rename = "2pc-best")]
    Best,
    /// Gavel in the client's own process.
    #[value(name = "gavel-embedded")]
    #[serde(rename = "gavel-embedded")]
    Embedded,
    /// Gavel's coordinator and participants in one process of their own.
    #[value(name = "gavel-serve")]
    #[serde(rename = "gavel-serve")]
    Serve,
    /// Gavel's coordinator and participants as processes of their own.
    #[value(name = "gavel-fleet")]
    #[serde(rename = "gavel-fleet")]
    Fleet,
    /// The same with a certificate for everybody. Only when it is asked for.
    #[value(name = "gavel-fleet-tls")]
    #[serde(rename = "gavel-fleet-tls")]
    FleetTls,
}

/// Where and how a variant runs.
#[derive(Debug, Clone, Copy)]
pub struct Setting<'a> {
    /// The shards that are used.
    pub shards: &'a [Shard],
    /// So many transactions come at a time.
    pub clients: usize,
    /// For the hand-written pipelined ones.
    pub layout: Layout,
    /// Gavel's executable.
    pub executable: &'a Path,
    /// Gavel's limits, as in `gavel.toml`.
    pub limits: &'a str,
}

impl Kind {
    /// Those of a whole run, in the order in which they run.
    pub const ALL: [Self; 7] = [
        Self::LocalNaive,
        Self::LocalPipelined,
        Self::Naive,
        Self::Best,
        Self::Embedded,
        Self::Serve,
        Self::Fleet,
    ];

    /// Its name in tables and files.
    pub fn name(self) -> &'static str {
        match self {
            Self::LocalNaive => "local-naive",
            Self::LocalPipelined => "local-pipelined",
            Self::Naive => "2pc-naive",
            Self::Best => "2pc-best",
            Self::Embedded => "gavel-embedded",
            Self::Serve => "gavel-serve",
            Self::Fleet => "gavel-fleet",
            Self::FleetTls => "gavel-fleet-tls",
        }
    }

    /// Where the accounts of its transfers are.
    pub fn place(self) -> Place {
        match self {
            Self::LocalNaive | Self::LocalPipelined => Place::FirstShard,
            Self::Naive
            | Self::Best
            | Self::Embedded
            | Self::Serve
            | Self::Fleet
            | Self::FleetTls => Place::Spread,
        }
    }

    /// Whether the best layout of its connections has to be looked for.
    pub fn has_layouts(self) -> bool {
        match self {
            Self::LocalPipelined | Self::Best => true,
            Self::LocalNaive
            | Self::Naive
            | Self::Embedded
            | Self::Serve
            | Self::Fleet
            | Self::FleetTls => false,
        }
    }

    /// Starts it.
    pub async fn start(self, setting: Setting<'_>) -> anyhow::Result<Arc<dyn Variant>> {
        Ok(match self {
            Self::LocalNaive | Self::Naive => Arc::new(naive::Naive::start(setting).await?),
            Self::LocalPipelined | Self::Best => Arc::new(best::Best::start(setting).await?),
            Self::Embedded => Arc::new(embedded::Embedded::start(setting.shards).await?),
            Self::Serve => Arc::new(processes::Processes::serve(setting).await?),
            Self::Fleet => Arc::new(processes::Processes::fleet(setting, false).await?),
            Self::FleetTls => Arc::new(processes::Processes::fleet(setting, true).await?),
        })
    }
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.name())
    }
}

/// How a transaction ended. What cannot be known is an error, and fails the run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// All shards show it, and its client got so many rows.
    Committed {
        /// Rows in the results.
        rows: u64,
    },
    /// It is committed, but its client was answered before all shards showed it.
    Late,
    /// It failed by its own fault, a guard or an SQL error: no shard shows it, and none ever will.
    Failed,
    /// It was in the way of others, or they in its way: no shard shows it.
    Refused,
}

/// A variant that is running.
#[async_trait]
pub trait Variant: Send + Sync {
    /// Runs one transaction, and waits until it is applied.
    async fn run(&self, work: &Work) -> anyhow::Result<Ended>;

    /// Gavel's own processes, by name.
    fn processes(&self) -> Vec<(String, u32)> {
        Vec::new()
    }

    /// Makes Gavel do now what it does a few times a day.
    async fn upkeep(&self) -> anyhow::Result<()> {
        Ok(())
    }

    /// Ends it; when this returns, nothing is under way on the servers.
    async fn stop(&self) -> anyhow::Result<()> {
        Ok(())
    }
}
