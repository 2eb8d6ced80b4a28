//! What PostgreSQL answered.

use std::fmt;

use fallible_iterator::FallibleIterator;
use gavel_protocol::outcome::{Column, StatementResult};
use postgres_protocol::message::backend::ErrorFields;

/// The tag of a successful vote; any other tag means that nothing was prepared (facts 1).
const TAG_PREPARED: &str = "PREPARE TRANSACTION";
/// SQLSTATE of "there is no transaction in progress".
const WARNING_NO_TRANSACTION: &str = "25P01";
/// SQLSTATE of "committed locally, but might not have been replicated" (facts 2).
const WARNING_NOT_REPLICATED: &str = "01000";

/// An error or a warning as PostgreSQL sent it.
#[derive(Debug, Clone, PartialEq, Eq, Default, thiserror::Error)]
#[error("{message} (SQLSTATE {sqlstate})")]
pub struct ServerError {
    /// `ERROR`, `FATAL`, `WARNING`, …, not localized.
    pub severity: String,
    /// Five characters.
    pub sqlstate: String,
    /// For people.
    pub message: String,
    /// The schema that the error concerns, if PostgreSQL named one.
    pub schema: Option<Box<str>>,
    /// The table that the error concerns, if PostgreSQL named one.
    pub table: Option<Box<str>>,
    /// The function of PostgreSQL's source that raised it: unlike the message, never localized.
    pub routine: Option<Box<str>>,
}

impl ServerError {
    /// Reads the fields of an `ErrorResponse` or `NoticeResponse`.
    pub(super) fn parse(mut fields: ErrorFields<'_>) -> std::io::Result<Self> {
        let mut error = Self::default();
        while let Some(field) = fields.next()? {
            let value = || String::from_utf8_lossy(field.value_bytes()).into_owned();
            match field.type_() {
                b'V' => error.severity = value(),
                b'S' if error.severity.is_empty() => error.severity = value(),
                b'C' => error.sqlstate = value(),
                b'M' => error.message = value(),
                b's' => error.schema = Some(value().into()),
                b't' => error.table = Some(value().into()),
                b'R' => error.routine = Some(value().into()),
                _ => {}
            }
        }
        Ok(error)
    }

    /// Whether the server ends the session after this: whatever was under way is unknown.
    pub fn ends_session(&self) -> bool {
        self.severity == "FATAL" || self.severity == "PANIC"
    }

    /// Whether a prepared statement of this connection went stale, as by DDL that changed its
    /// result ("cached plan must not change result type", `plancache.c`).
    pub fn is_stale_statement(&self) -> bool {
        let changed = self.routine.as_deref() == Some("RevalidateCachedQuery");
        self.sqlstate == "26000" || (self.sqlstate == "0A000" && changed)
    }

    /// Whether a row of Gavel's own table `name`, or of one of its partitions, is concerned.
    pub fn concerns(&self, name: &str) -> bool {
        self.schema.as_deref() == Some("gavel")
            && self
                .table
                .as_deref()
                .is_some_and(|table| table.starts_with(name))
    }
}

/// The transaction status after a Sync.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TransactionStatus {
    /// No transaction is open.
    Idle,
    /// A transaction is open and healthy.
    Open,
    /// A transaction is open and can only be rolled back.
    Failed,
}

/// The answer to one statement.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Reply {
    /// The command tag, such as `UPDATE 1`.
    pub tag: String,
    /// Columns, if the statement returns rows.
    pub columns: Vec<Column>,
    /// Rows, in text format.
    pub rows: Vec<Vec<Option<String>>>,
    /// More was returned than the pipeline allowed; `rows` is not complete.
    pub too_large: bool,
}

impl Reply {
    /// Rows affected or returned: the last word of the tag.
    pub fn row_count(&self) -> u64 {
        self.tag
            .rsplit(' ')
            .next()
            .and_then(|word| word.parse().ok())
            .unwrap_or(0)
    }

    /// The value in the first column of the first row.
    pub fn scalar(&self) -> Option<&str> {
        self.rows.first()?.first()?.as_deref()
    }

    /// What the client gets to see.
    pub fn into_result(self) -> StatementResult {
        StatementResult {
            row_count: self.row_count(),
            columns: self.columns,
            rows: self.rows,
        }
    }
}

/// Everything that was answered up to one Sync.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    /// One reply per statement that was completed.
    pub replies: Vec<Reply>,
    /// The error that ended the segment; the statement at `replies.len()` raised it, and those
    /// behind it were skipped by the server.
    pub error: Option<ServerError>,
    /// Warnings and notices.
    pub notices: Vec<ServerError>,
    /// The transaction status at the Sync.
    pub status: TransactionStatus,
}

impl Segment {
    /// The last reply's tag is `PREPARE TRANSACTION`: the branch is prepared (facts 1).
    pub fn is_prepared(&self) -> bool {
        self.error.is_none() && self.last_tag() == TAG_PREPARED
    }

    /// The last reply's tag is `COMMIT`: what was open has been committed (facts 1). Where
    /// nothing was open, PostgreSQL answers with the same tag and a warning.
    pub fn is_committed(&self) -> bool {
        let nothing_was_open = |notice: &ServerError| notice.sqlstate == WARNING_NO_TRANSACTION;
        self.error.is_none()
            && self.last_tag() == "COMMIT"
            && !self.notices.iter().any(nothing_was_open)
    }

    /// A commit was acknowledged locally only (facts 2): nothing may be concluded from it.
    pub fn may_not_be_replicated(&self) -> bool {
        self.notices
            .iter()
            .any(|notice| notice.sqlstate == WARNING_NOT_REPLICATED)
    }

    /// The tag of the last statement, or nothing.
    pub fn last_tag(&self) -> &str {
        self.replies.last().map_or("", |reply| &reply.tag)
    }

    /// The replies, or the error.
    pub fn into_result(self) -> Result<Vec<Reply>, ServerError> {
        match self.error {
            None => Ok(self.replies),
            Some(error) => Err(error),
        }
    }
}

impl fmt::Display for TransactionStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Idle => "idle",
            Self::Open => "open",
            Self::Failed => "failed",
        })
    }
}
