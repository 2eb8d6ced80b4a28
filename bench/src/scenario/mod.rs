//! The scenarios: what clients do, on how many shards, under which settings, and what of it is
//! measured unless the command line says otherwise.

mod draw;

use serde::{Deserialize, Serialize};

use crate::variants::Kind;

pub use draw::{Draw, INITIAL_BALANCE, Place};

/// What clients do.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum, Serialize, Deserialize,
)]
#[serde(rename_all = "kebab-case")]
pub enum Scenario {
    /// Transfers between random accounts on two shards.
    Uniform,
    /// Every transfer touches one and the same account.
    Hot,
    /// Some transfers lack funds.
    GuardFailures,
    /// Some transfers raise an error on a shard.
    SqlFailures,
    /// A few accounts are in most transfers.
    Skewed,
    /// Random pairs of four shards.
    FourShards,
    /// Transfers over three of four shards.
    ThreeShards,
    /// Five statements per shard, with results.
    Wide,
    /// Servers whose flushes take a millisecond longer.
    SlowFlush,
    /// Statement by statement.
    Interactive,
    /// A quarter of the clients statement by statement.
    Mixed,
    /// Arrivals at half of the highest rate.
    Latency,
    /// Ten thousand transactions in flight.
    Memory,
}

/// Who sets the pace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pace {
    /// Clients that send their next transfer when the last one is applied.
    ClosedLoop,
    /// Arrivals that wait for nobody, at half of the variant's highest rate.
    OpenLoop,
}

/// Which clients work statement by statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Styles {
    /// None.
    Declared,
    /// All.
    Interactive,
    /// Every fourth.
    Mixed,
}

const COMPARED: &[Kind] = &[Kind::Best, Kind::Embedded, Kind::Fleet];
const GAVEL: &[Kind] = &[Kind::Embedded, Kind::Serve, Kind::Fleet];

impl Scenario {
    /// All of them, in the order in which they run. `latency` comes after `uniform`, whose rates
    /// it halves.
    pub const ALL: [Self; 13] = [
        Self::Uniform,
        Self::Latency,
        Self::Hot,
        Self::GuardFailures,
        Self::SqlFailures,
        Self::Skewed,
        Self::FourShards,
        Self::ThreeShards,
        Self::Wide,
        Self::SlowFlush,
        Self::Interactive,
        Self::Mixed,
        Self::Memory,
    ];

    /// Its name in tables and files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Uniform => "uniform",
            Self::Hot => "hot",
            Self::GuardFailures => "guard-failures",
            Self::SqlFailures => "sql-failures",
            Self::Skewed => "skewed",
            Self::FourShards => "four-shards",
            Self::ThreeShards => "three-shards",
            Self::Wide => "wide",
            Self::SlowFlush => "slow-flush",
            Self::Interactive => "interactive",
            Self::Mixed => "mixed",
            Self::Latency => "latency",
            Self::Memory => "memory",
        }
    }

    /// What happens in it, for the page.
    pub fn about(self) -> &'static str {
        match self {
            Self::Uniform => {
                "Transfers between random accounts on two shards: an UPDATE that must change exactly \
                 one row and an INSERT on each. The `local` variants have both accounts on the first \
                 server."
            }
            Self::Hot => {
                "Every transfer touches account 1 of the first shard; the other side is random."
            }
            Self::GuardFailures => {
                "As `uniform`, but 5 % of the transfers lack funds: the guard of one statement \
                 fails, on either shard, and nothing may happen. Rates count what was committed."
            }
            Self::SqlFailures => {
                "As `uniform`, but 1 % of the transfers raise an SQL error on one of the shards (a \
                 NULL that the table refuses). Rates count what was committed."
            }
            Self::Skewed => {
                "As `uniform`, but accounts follow a Zipf distribution with exponent 0.99."
            }
            Self::FourShards => "Four shards; every transfer is over a random pair of them.",
            Self::ThreeShards => "Four shards; every transfer is over three of them.",
            Self::Wide => {
                "Two shards, five statements on each: two UPDATEs that return the new balance, a \
                 SELECT of ten rows, two INSERTs that return a row. The client gets all results."
            }
            Self::SlowFlush => {
                "As `uniform`, on servers whose flushes take a millisecond longer, PREPARE's too: with \
                 `commit_delay = 1000` and `commit_siblings = 0`, the backend that leads a flush sleeps \
                 that long while it holds the lock for writing WAL (`XLogFlush` in PostgreSQL's \
                 `xlog.c`). Others join its flush meanwhile, as on a disk or behind a standby that is \
                 that slow."
            }
            Self::Interactive => {
                "As `uniform`, statement by statement: every statement is awaited before the next one \
                 is sent, and nothing is batched. `2pc-best` does the same on pooled connections, with \
                 the prepares and the commits of both shards at once."
            }
            Self::Mixed => "Every fourth client as in `interactive`, the others as in `uniform`.",
            Self::Latency => {
                "As `uniform`, but transfers arrive at random moments (Poisson), at half of the highest \
                 rate that the variant reached in this run, whether earlier ones are done or not. \
                 Latency is counted from the moment at which a transfer was meant to start, so a stall \
                 is counted for all that arrive in it."
            }
            Self::Memory => {
                "As `uniform`, with ten thousand clients in a closed loop: what is of interest is the \
                 peak of resident memory of each process."
            }
        }
    }

    /// How many shards it uses.
    pub fn shards(self) -> usize {
        match self {
            Self::FourShards | Self::ThreeShards => 4,
            _ => 2,
        }
    }

    /// Server settings that hold only while it runs.
    pub fn settings(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::SlowFlush => &[("commit_delay", "1000"), ("commit_siblings", "0")],
            _ => &[],
        }
    }

    /// Who sets the pace.
    pub fn pace(self) -> Pace {
        if self == Self::Latency {
            Pace::OpenLoop
        } else {
            Pace::ClosedLoop
        }
    }

    /// Which clients work statement by statement.
    pub fn styles(self) -> Styles {
        match self {
            Self::Interactive => Styles::Interactive,
            Self::Mixed => Styles::Mixed,
            _ => Styles::Declared,
        }
    }

    /// The numbers of clients that it is measured with. The open loop has none: 0.
    pub fn clients(self) -> &'static [usize] {
        match self {
            Self::Uniform => &[1, 8, 32, 128, 1024],
            Self::Hot => &[128],
            Self::Interactive => &[32],
            Self::Latency => &[0],
            Self::Memory => &[10_000],
            _ => &[32, 128],
        }
    }

    /// Whether the command line may choose other numbers of clients.
    pub fn takes_other_clients(self) -> bool {
        !matches!(self, Self::Latency | Self::Memory)
    }

    /// The variants that it is measured with.
    pub fn variants(self) -> &'static [Kind] {
        match self {
            Self::Uniform => &Kind::ALL,
            Self::Latency | Self::Memory => GAVEL,
            _ => COMPARED,
        }
    }

    /// Whether a variant can run it without doing wrong.
    pub fn suits(self, kind: Kind) -> bool {
        // Its COMMIT is on the way before the answer of the guarded statement is.
        !(self == Self::GuardFailures && kind == Kind::LocalPipelined)
    }
}

impl std::fmt::Display for Scenario {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.name())
    }
}
