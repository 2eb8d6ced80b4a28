//! What a client hears. `Committed` and `Aborted` are final for the txid and recorded at its
//! home. `Refused` speaks of one submission: it did nothing, and the txid is still open.
//! `InDoubt` means that the answer is not known yet. Unknown is never folded into aborted.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::names::ShardTag;

/// The answer to a submission, a status question or an abort.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// Durable on all shards. Final.
    Committed {
        /// Whether every shard shows the writes already (phase two is done).
        applied: bool,
    },
    /// Durable nowhere, and never will be. Final.
    Aborted(AbortReason),
    /// This submission did nothing; the txid is still open.
    Refused(Refusal),
    /// Not known yet: ask for the status with the same txid.
    InDoubt {
        /// What is being waited for, for people.
        detail: String,
    },
}

/// Why a transaction was aborted, as recorded at its home.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct AbortReason {
    /// What kind of failure.
    pub code: AbortCode,
    /// For people. May carry PostgreSQL's own words.
    pub message: String,
    /// The shard on which it failed.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub shard: Option<ShardTag>,
    /// The statement that failed, counted from 0 within its branch.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub statement: Option<u32>,
    /// PostgreSQL's SQLSTATE, if it raised the error.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub sqlstate: Option<String>,
}

impl AbortReason {
    /// A reason without a place.
    pub fn new(code: AbortCode, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            shard: None,
            statement: None,
            sqlstate: None,
        }
    }
}

impl fmt::Display for AbortReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code.as_str(), self.message)
    }
}

/// Defines an enum of stable codes with their wire spelling.
macro_rules! codes {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $text:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
        pub enum $name {
            $($(#[$variant_doc])* #[serde(rename = $text)] $variant,)+
        }

        impl $name {
            /// Every code, for documentation and tests.
            pub const ALL: &[Self] = &[$(Self::$variant,)+];

            /// The stable spelling, used in APIs, logs and the `gavel.transaction` table.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)+ }
            }

            /// The code with this spelling.
            pub fn from_str_exact(text: &str) -> Option<Self> {
                match text { $($text => Some(Self::$variant),)+ _ => None }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

codes! {
    /// Kinds of final failure.
    AbortCode {
        /// A guard did not hold.
        GuardFailed = "guard_failed",
        /// PostgreSQL refused a statement, or a constraint at PREPARE or COMMIT.
        SqlError = "sql_error",
        /// A statement returned more than the limits allow.
        ResultTooLarge = "result_too_large",
        /// Somebody asked for the abort for good.
        AbortedByRequest = "aborted_by_request",
        /// An interactive transaction was rolled back.
        RolledBack = "rolled_back",
    }
}

codes! {
    /// Kinds of refusal.
    RefusalCode {
        /// The request cannot be understood or breaks a limit. Do not retry unchanged.
        InvalidRequest = "invalid_request",
        /// No shard of that name or tag. Do not retry unchanged.
        UnknownShard = "unknown_shard",
        /// The shard is being taken out of the deployment and takes nothing new.
        ShardDraining = "shard_draining",
        /// The txid's home tag is not a shard of this deployment. Do not retry unchanged.
        UnknownHome = "unknown_home",
        /// The txid is not a UUIDv7. Do not retry unchanged.
        InvalidTxid = "invalid_txid",
        /// The txid is too old to be admitted: the outcome of whatever carried it is unknown.
        TxidTooOld = "txid_too_old",
        /// The txid claims to be from the future: check the clock that minted it.
        TxidFromFuture = "txid_from_future",
        /// The txid was used before with other content.
        TxidReused = "txid_reused",
        /// The transaction belongs to another principal.
        NotYours = "not_yours",
        /// Who is asking could not be established.
        Unauthenticated = "unauthenticated",
        /// Too much is going on already.
        Overloaded = "overloaded",
        /// A row lock was not to be had in time.
        LockTimeout = "lock_timeout",
        /// PostgreSQL chose this transaction to end a deadlock.
        Deadlock = "deadlock",
        /// PostgreSQL could not serialize it.
        SerializationFailure = "serialization_failure",
        /// A shard or its participant could not be reached, or is not ready.
        ShardUnavailable = "shard_unavailable",
        /// No coordinator could be reached. Said by the client library, never by a coordinator.
        CoordinatorUnavailable = "coordinator_unavailable",
        /// A shard has no free prepared-transaction slot for this home.
        SlotsExhausted = "slots_exhausted",
        /// It was run again too often because of its neighbours.
        Contended = "contended",
        /// The time for this submission ended before anything was prepared.
        DeadlineExceeded = "deadline_exceeded",
        /// The interactive session is unknown, ended or was lost.
        SessionLost = "session_lost",
        /// A statement of an interactive session came out of sequence.
        OutOfSequence = "out_of_sequence",
        /// The service is shutting down; another one may take it.
        ShuttingDown = "shutting_down",
    }
}

impl RefusalCode {
    /// Whether submitting the same request with the same txid again can help.
    pub fn is_retryable(self) -> bool {
        match self {
            Self::Overloaded
            | Self::LockTimeout
            | Self::Deadlock
            | Self::SerializationFailure
            | Self::ShardUnavailable
            | Self::CoordinatorUnavailable
            | Self::SlotsExhausted
            | Self::Contended
            | Self::DeadlineExceeded
            | Self::ShuttingDown => true,
            Self::InvalidRequest
            | Self::UnknownShard
            | Self::ShardDraining
            | Self::UnknownHome
            | Self::InvalidTxid
            | Self::TxidTooOld
            | Self::TxidFromFuture
            | Self::TxidReused
            | Self::NotYours
            | Self::Unauthenticated
            | Self::SessionLost
            | Self::OutOfSequence => false,
        }
    }
}

/// Why a submission was refused.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, thiserror::Error)]
#[error("{code}: {message}")]
pub struct Refusal {
    /// What kind of refusal.
    pub code: RefusalCode,
    /// For people: what is wrong and what to do.
    pub message: String,
}

impl Refusal {
    /// A refusal with its explanation.
    pub fn new(code: RefusalCode, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
        }
    }

    /// Whether submitting the same request with the same txid again can help.
    pub fn is_retryable(&self) -> bool {
        self.code.is_retryable()
    }
}

/// What a status question hears.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Status {
    /// Recorded, final.
    Committed,
    /// Recorded, final.
    Aborted(AbortReason),
    /// Nothing is recorded *yet*: it may still commit. Never to be read as aborted (R8).
    NoneYet,
    /// Older than what is kept: the outcome is unknown.
    TooOld,
}

/// What one statement returned.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StatementResult {
    /// Rows affected or returned, from the command tag.
    pub row_count: u64,
    /// Columns of the result, if the statement returns rows.
    pub columns: Vec<Column>,
    /// Rows in PostgreSQL's text format; `None` is NULL.
    pub rows: Vec<Vec<Option<String>>>,
}

/// A column of a result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// PostgreSQL's type oid.
    pub type_oid: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_have_one_spelling_each() {
        for code in AbortCode::ALL {
            assert_eq!(AbortCode::from_str_exact(code.as_str()), Some(*code));
        }
        for code in RefusalCode::ALL {
            assert_eq!(RefusalCode::from_str_exact(code.as_str()), Some(*code));
        }
    }
}
