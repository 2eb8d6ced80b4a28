//! What a client hears, with shards by name and rows with typed access.

use std::fmt;

use gavel_protocol::outcome::{AbortReason, StatementResult, Status as RecordedStatus};
use gavel_protocol::{AbortCode, Outcome as ProtocolOutcome, Refusal};
use gavel_protocol::{ShardMap, ShardName, ShardTag, Txid};

use crate::row::Rows;

/// What became of a transaction. `Committed` and `Aborted` are final; `Refused` did nothing and
/// leaves the txid open; `InDoubt` is not known yet, and must never be read as aborted.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "a transaction may have been aborted or refused"]
pub enum Outcome {
    /// Durable on all shards. Final.
    Committed(Committed),
    /// Durable nowhere, and never will be. Final.
    Aborted {
        /// The transaction.
        txid: Txid,
        /// Why.
        reason: Reason,
    },
    /// Nothing was done. The same txid may be submitted again.
    Refused {
        /// The transaction.
        txid: Txid,
        /// Why.
        why: Refusal,
    },
    /// The answer is not known: ask with [`crate::Gavel::status`], submit the same txid again,
    /// or make sure with [`crate::Gavel::abort`].
    InDoubt {
        /// The transaction.
        txid: Txid,
        /// For people.
        detail: String,
    },
}

impl Outcome {
    /// The transaction.
    pub fn txid(&self) -> Txid {
        match self {
            Self::Committed(committed) => committed.txid,
            Self::Aborted { txid, .. }
            | Self::Refused { txid, .. }
            | Self::InDoubt { txid, .. } => *txid,
        }
    }

    /// Whether the transaction committed.
    pub fn is_committed(&self) -> bool {
        matches!(self, Self::Committed(_))
    }

    /// The commit, or everything else as an error.
    ///
    /// # Errors
    /// [`NotCommitted`] with the outcome.
    pub fn into_committed(self) -> Result<Committed, NotCommitted> {
        match self {
            Self::Committed(committed) => Ok(committed),
            other => Err(NotCommitted(Box::new(other))),
        }
    }

    pub(crate) fn from_protocol(
        txid: Txid,
        outcome: ProtocolOutcome,
        results: Vec<(ShardTag, Vec<StatementResult>)>,
        shards: &ShardMap,
    ) -> Self {
        match outcome {
            ProtocolOutcome::Committed { applied } => Self::Committed(Committed {
                txid,
                applied,
                results: named_results(results, shards),
            }),
            ProtocolOutcome::Aborted(reason) => Self::Aborted {
                txid,
                reason: Reason::from_protocol(reason, shards),
            },
            ProtocolOutcome::Refused(why) => Self::Refused { txid, why },
            ProtocolOutcome::InDoubt { detail } => Self::InDoubt { txid, detail },
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Committed(committed) => write!(f, "transaction {} committed", committed.txid),
            Self::Aborted { txid, reason } => write!(f, "transaction {txid} aborted: {reason}"),
            Self::Refused { txid, why } => write!(f, "transaction {txid} refused: {why}"),
            Self::InDoubt { txid, detail } => write!(f, "transaction {txid} in doubt: {detail}"),
        }
    }
}

/// A transaction that is not known to have committed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NotCommitted(pub Box<Outcome>);

/// A commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Committed {
    /// The transaction.
    pub txid: Txid,
    /// Whether every shard shows the writes already.
    pub applied: bool,
    results: Vec<(ShardName, Vec<Rows>)>,
}

impl Committed {
    /// What a statement returned, counted from 0 within its shard. Results are not recorded: an
    /// answer that was lost and asked for again has none.
    pub fn rows(&self, shard: &str, statement: usize) -> Option<&Rows> {
        let (_, results) = self
            .results
            .iter()
            .find(|(name, _)| name.as_str() == shard)?;
        results.get(statement)
    }

    /// All results, per shard, in the order of the statements.
    pub fn results(&self) -> &[(ShardName, Vec<Rows>)] {
        &self.results
    }
}

fn named_results(
    results: Vec<(ShardTag, Vec<StatementResult>)>,
    shards: &ShardMap,
) -> Vec<(ShardName, Vec<Rows>)> {
    let named = results.into_iter().filter_map(|(tag, results)| {
        let rows = results.into_iter().map(Rows::from).collect();
        Some((shards.name(tag)?.clone(), rows))
    });
    named.collect()
}

/// Why a transaction was aborted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reason {
    /// What kind of failure.
    pub code: AbortCode,
    /// For people. May carry PostgreSQL's own words.
    pub message: String,
    /// The shard on which it failed.
    pub shard: Option<ShardName>,
    /// The statement that failed, counted from 0 within its shard.
    pub statement: Option<usize>,
    /// PostgreSQL's SQLSTATE, if it raised the error.
    pub sqlstate: Option<String>,
}

impl Reason {
    /// Whether this very statement failed, counted from 0 within its shard.
    pub fn is_at(&self, shard: &str, statement: usize) -> bool {
        self.shard.as_ref().map(ShardName::as_str) == Some(shard)
            && self.statement == Some(statement)
    }

    pub(crate) fn from_protocol(reason: AbortReason, shards: &ShardMap) -> Self {
        Self {
            code: reason.code,
            message: reason.message,
            shard: reason.shard.and_then(|tag| shards.name(tag).cloned()),
            statement: reason.statement.map(|index| index as usize),
            sqlstate: reason.sqlstate,
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.message)?;
        if let Some(shard) = &self.shard {
            write!(f, " (on {shard}")?;
            if let Some(statement) = self.statement {
                write!(f, ", statement {statement}")?;
            }
            f.write_str(")")?;
        }
        Ok(())
    }
}

/// What is recorded of a txid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Status {
    /// Committed. Final.
    Committed,
    /// Aborted. Final.
    Aborted(Reason),
    /// Nothing is recorded *yet*: it may still commit. [`crate::Gavel::abort`] makes sure.
    NoneYet,
    /// Older than what is kept: the outcome is unknown.
    TooOld,
}

impl Status {
    pub(crate) fn from_protocol(status: RecordedStatus, shards: &ShardMap) -> Self {
        match status {
            RecordedStatus::Committed => Self::Committed,
            RecordedStatus::Aborted(reason) => Self::Aborted(Reason::from_protocol(reason, shards)),
            RecordedStatus::NoneYet => Self::NoneYet,
            RecordedStatus::TooOld => Self::TooOld,
        }
    }
}
