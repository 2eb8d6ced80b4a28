//! What is compared. Every variant runs the same statements on the same servers, and tells its
//! client the end of a transfer when both shards show it (ack mode `applied`).

mod best;
mod embedded;
mod fleet;
mod naive;
mod through_client;

use std::path::Path;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::load::Transfer;
use crate::world::World;

pub use best::Layout;

/// A way to make transfers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, Serialize, Deserialize)]
pub enum Kind {
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
    /// Gavel's coordinator and participants as processes of their own.
    #[value(name = "gavel-fleet")]
    #[serde(rename = "gavel-fleet")]
    Fleet,
}

impl Kind {
    /// All of them, in the order in which they run.
    pub const ALL: [Self; 4] = [Self::Naive, Self::Best, Self::Embedded, Self::Fleet];

    /// Its name in tables and files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Naive => "2pc-naive",
            Self::Best => "2pc-best",
            Self::Embedded => "gavel-embedded",
            Self::Fleet => "gavel-fleet",
        }
    }

    /// Starts it on these servers. `layout` is for [`Kind::Best`], `executable` for
    /// [`Kind::Fleet`].
    pub async fn start(
        self,
        world: &World,
        layout: Layout,
        executable: &Path,
    ) -> anyhow::Result<Box<dyn Variant>> {
        Ok(match self {
            Self::Naive => Box::new(naive::Naive::new(world)),
            Self::Best => Box::new(best::Best::start(world, layout).await?),
            Self::Embedded => Box::new(embedded::Embedded::start(world).await?),
            Self::Fleet => Box::new(fleet::Fleet::start(world, executable).await?),
        })
    }
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.name())
    }
}

/// How a transfer ended. What cannot be known is an error, and fails the run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// Both shards show it.
    Committed,
    /// Neither ever will.
    Aborted,
}

/// A variant that is running.
#[async_trait]
pub trait Variant: Send + Sync {
    /// What one client uses.
    async fn session(&self) -> anyhow::Result<Box<dyn Session>>;

    /// Processes of Gavel's own.
    fn pids(&self) -> Vec<u32> {
        Vec::new()
    }

    /// Ends it; when this returns, nothing is under way on the servers.
    async fn stop(self: Box<Self>) -> anyhow::Result<()>;
}

/// One client's way to make transfers, one after the other.
#[async_trait]
pub trait Session: Send {
    /// Makes one transfer, and waits until it is applied.
    async fn transfer(&mut self, transfer: &Transfer) -> anyhow::Result<Ended>;
}
