//! What can go wrong, per operation. What becomes of a transaction is no error but an
//! [`Outcome`].

use gavel_protocol::{Refusal, RefusalCode, ShardTag, Txid};

use crate::outcome::Outcome;

/// A client could not be made.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// No endpoint was named.
    #[error("name at least one coordinator")]
    NoEndpoint,
    /// An endpoint is not an address.
    #[error("`{endpoint}` is not a coordinator's address: write http://host:port")]
    BadEndpoint {
        /// What was given.
        endpoint: String,
    },
    /// The token contains what no header can carry.
    #[error("the token has characters that a header cannot carry")]
    BadToken,
    /// No coordinator told the shards in time.
    #[error("no coordinator could be asked for the shards")]
    Unreachable(#[source] CallError),
}

/// A question could not be answered. Says nothing about any transaction.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// No coordinator gave an answer in time.
    #[error("no coordinator answered: {detail}")]
    Unreachable {
        /// The last failure, for people.
        detail: String,
    },
    /// A coordinator refused it.
    #[error("refused: {0}")]
    Refused(Refusal),
}

impl CallError {
    /// The refusal, if it was one.
    pub fn code(&self) -> Option<RefusalCode> {
        match self {
            Self::Refused(refusal) => Some(refusal.code),
            Self::Unreachable { .. } => None,
        }
    }
}

/// A shard that the deployment does not have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no shard `{name}`; the shards are {known}")]
pub struct UnknownShard {
    /// What was asked for.
    pub name: String,
    /// The shards that there are, for people.
    pub known: String,
}

/// A transaction that cannot be sent. Nothing was done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BuildError {
    /// No shard of that name.
    #[error(transparent)]
    UnknownShard(#[from] UnknownShard),
    /// A statement was added before any shard was named.
    #[error("name a shard with `on` or `read_only` before its statements")]
    NoShard,
    /// A guard was added before any statement.
    #[error("a guard belongs behind the statement that it guards")]
    NoStatement,
    /// One shard was declared both read-only and writing.
    #[error("shard `{0}` is used both with `on` and with `read_only`")]
    MixedAccess(String),
    /// The transaction is empty.
    #[error("a transaction needs at least one statement")]
    Empty,
    /// The txid names another home than `home` did.
    #[error(
        "txid {txid} has its home on the shard with tag {found}, not on the one with tag {wanted}"
    )]
    OtherHome {
        /// The txid that was given.
        txid: Txid,
        /// Its home.
        found: ShardTag,
        /// The home that was given.
        wanted: ShardTag,
    },
}

/// An interactive transaction could not begin.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BeginError {
    /// No shard of that name.
    #[error(transparent)]
    UnknownShard(#[from] UnknownShard),
    /// No coordinator began it.
    #[error(transparent)]
    Call(#[from] CallError),
}

/// A statement of an interactive transaction gave no result.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StatementError {
    /// No shard of that name. The transaction goes on.
    #[error(transparent)]
    UnknownShard(#[from] UnknownShard),
    /// The statement was refused before it ran. The transaction goes on.
    #[error("refused: {0}")]
    Refused(Refusal),
    /// The transaction failed and is over; nothing of it remains.
    #[error("the transaction is over: {0}")]
    Ended(Box<Outcome>),
    /// The session is lost: its coordinator is gone, or has forgotten it. It never continues in
    /// a new one; begin again. Nothing of it remains, as it was not committed.
    #[error("the session of transaction {txid} is lost: {detail}")]
    SessionLost {
        /// The transaction.
        txid: Txid,
        /// For people.
        detail: String,
    },
}

impl StatementError {
    /// Whether running the whole transaction again, from the start, can help.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::UnknownShard(_) => false,
            Self::Refused(refusal) => refusal.is_retryable(),
            Self::Ended(outcome) => {
                matches!(&**outcome, Outcome::Refused { why, .. } if why.is_retryable())
            }
            Self::SessionLost { .. } => true,
        }
    }
}
