//! The steps at which a transaction can be struck.

use std::fmt;

use gavel_protocol::Txid;
use serde::Serialize;

use super::session::Call;

/// A step of the protocol, with the side of it on which a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub enum Step {
    /// The request has been sent, and has not reached its coordinator.
    #[serde(rename = "S1")]
    Submit,
    /// A branch or home has done its work; neither PREPARE nor COMMIT was sent.
    #[serde(rename = "S2")]
    Work,
    /// PREPARE was sent, and is not executed.
    #[serde(rename = "S3a")]
    PrepareSent,
    /// PREPARE was executed, and its answer is under way.
    #[serde(rename = "S3b")]
    Prepared,
    /// Home's COMMIT was sent, and is not executed.
    #[serde(rename = "S4a")]
    DecideSent,
    /// Home's COMMIT was executed, and its answer is under way.
    #[serde(rename = "S4b")]
    Decided,
    /// The outcome is known, and the client's answer is under way.
    #[serde(rename = "S5")]
    Answer,
    /// COMMIT PREPARED or ROLLBACK PREPARED was sent, and is not executed.
    #[serde(rename = "S6a")]
    FinishSent,
    /// COMMIT PREPARED or ROLLBACK PREPARED was executed, and its answer is under way.
    #[serde(rename = "S6b")]
    Finished,
}

impl Step {
    /// All of them, in order.
    pub const ALL: [Self; 9] = [
        Self::Submit,
        Self::Work,
        Self::PrepareSent,
        Self::Prepared,
        Self::DecideSent,
        Self::Decided,
        Self::Answer,
        Self::FinishSent,
        Self::Finished,
    ];

    /// What it means, for reports.
    #[must_use]
    pub fn meaning(self) -> &'static str {
        match self {
            Self::Submit => "request under way",
            Self::Work => "work done, nothing prepared",
            Self::PrepareSent => "PREPARE sent, not executed",
            Self::Prepared => "PREPARE executed, not answered",
            Self::DecideSent => "home's COMMIT sent, not executed",
            Self::Decided => "home's COMMIT executed, not answered",
            Self::Answer => "decided, client not answered",
            Self::FinishSent => "phase two sent, not executed",
            Self::Finished => "phase two executed, not answered",
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Submit => "S1",
            Self::Work => "S2",
            Self::PrepareSent => "S3a",
            Self::Prepared => "S3b",
            Self::DecideSent => "S4a",
            Self::Decided => "S4b",
            Self::Answer => "S5",
            Self::FinishSent => "S6a",
            Self::Finished => "S6b",
        })
    }
}

/// What a segment of messages does for a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Point {
    Work,
    Prepare,
    Decide,
    Commit,
    Rollback,
}

impl Point {
    /// The step while its messages are on the way to the server; work is not told apart.
    pub(crate) fn before(self) -> Option<Step> {
        match self {
            Self::Work => None,
            Self::Prepare => Some(Step::PrepareSent),
            Self::Decide => Some(Step::DecideSent),
            Self::Commit | Self::Rollback => Some(Step::FinishSent),
        }
    }

    /// The step while its answer is on the way back.
    pub(crate) fn after(self) -> Step {
        match self {
            Self::Work => Step::Work,
            Self::Prepare => Step::Prepared,
            Self::Decide => Step::Decided,
            Self::Commit | Self::Rollback => Step::Finished,
        }
    }

    /// The tag of success.
    pub(crate) fn tag(self) -> Option<&'static str> {
        match self {
            Self::Work => None,
            Self::Prepare => Some("PREPARE TRANSACTION"),
            Self::Decide => Some("COMMIT"),
            Self::Commit => Some("COMMIT PREPARED"),
            Self::Rollback => Some("ROLLBACK PREPARED"),
        }
    }
}

/// A step of one batch on one shard, as seen on the wire.
#[derive(Debug, Clone)]
pub struct Passage {
    /// Index of the shard.
    pub shard: usize,
    /// The batch.
    pub batch: String,
    /// The branch's gid, except at home.
    pub gid: Option<String>,
    /// The transactions in it, as far as its parameters name them.
    pub txids: Vec<Txid>,
    /// At home: tags of the shards whose branches are prepared.
    pub prepared: Vec<u16>,
    /// The proxy's own port on the connection to the server, by which the server knows it.
    pub backend_port: u16,
    pub(crate) point: Point,
    /// Every statement of the transaction so far.
    pub calls: Vec<Call>,
}

impl Passage {
    /// Whether home has it all to itself: no other shard is prepared.
    #[must_use]
    pub fn is_local(&self) -> bool {
        self.gid.is_none() && self.prepared.is_empty()
    }

    /// Whether it ends a branch by rolling it back.
    #[must_use]
    pub fn is_rollback(&self) -> bool {
        self.point == Point::Rollback
    }
}
