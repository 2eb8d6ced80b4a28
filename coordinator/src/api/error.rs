//! What both faces say when a request as such is wrong: a status, a stable code, a message.

use axum::Json;
use axum::response::{IntoResponse, Response};
use gavel_protocol::transaction::InvalidTransaction;
use gavel_protocol::{Refusal, RefusalCode, ShardMap, ShardTag, sql};
use http::{HeaderValue, StatusCode, header};
use serde_json::{Value, json};

/// Seconds after which a caller who was turned away may try again.
const RETRY_AFTER: HeaderValue = HeaderValue::from_static("1");

/// Why a request gets no answer of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ApiError {
    pub(super) status: StatusCode,
    pub(super) code: &'static str,
    pub(super) message: String,
    pub(super) retryable: bool,
}

impl ApiError {
    pub(super) fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self {
            status,
            code,
            message: message.into(),
            retryable: false,
        }
    }

    pub(super) fn bad(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, message)
    }

    pub(super) fn unauthenticated() -> Self {
        let message = "send `Authorization: Bearer <token>` with a token that is known here";
        Refusal::new(RefusalCode::Unauthenticated, message).into()
    }

    pub(super) fn forbidden() -> Self {
        Self::new(
            StatusCode::FORBIDDEN,
            "forbidden",
            "this needs the role operator",
        )
    }

    /// Nobody has to say who he is, and he uses a name that a stranger may have made.
    pub(super) fn other_name() -> Self {
        let message = "without principals this coordinator answers to localhost and to addresses \
                       only: a web page could otherwise use it under a name of its own. \
                       Configure a [[principal]]";
        Self::new(StatusCode::FORBIDDEN, "forbidden", message)
    }

    /// The principal's transactions may not do this.
    pub(super) fn not_permitted(message: String) -> Self {
        Self::new(StatusCode::FORBIDDEN, "forbidden", message)
    }

    /// A body or message above the limit.
    pub(super) fn too_large(bytes_max: usize) -> Self {
        Self::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "body_too_large",
            format!("a body has {bytes_max} bytes at most"),
        )
    }

    /// Something broke here; the caller's transaction may be in any state.
    pub(super) fn internal() -> Self {
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "internal",
            "the coordinator failed to answer; ask for the status of the txid",
        )
    }

    /// The error object of every JSON answer.
    pub(super) fn to_json(&self) -> Value {
        json!({ "code": self.code, "message": self.message, "retryable": self.retryable })
    }

    /// For a transaction that does not hold together. Shards are named as the caller knows them.
    pub(super) fn invalid(invalid: &InvalidTransaction, shards: &ShardMap) -> Self {
        let message = match place(invalid).and_then(|tag| Some((tag, shards.name(tag)?))) {
            // The core's messages know shards by number.
            Some((tag, name)) => {
                invalid
                    .to_string()
                    .replacen(&format!("shard {tag}"), &format!("shard `{name}`"), 1)
            }
            None => invalid.to_string(),
        };
        Self::bad(code_of(invalid), message)
    }
}

fn place(invalid: &InvalidTransaction) -> Option<ShardTag> {
    match invalid {
        InvalidTransaction::DuplicateShard(shard)
        | InvalidTransaction::EmptyBranch(shard)
        | InvalidTransaction::StatementTooLong { shard, .. }
        | InvalidTransaction::TooManyParameters { shard, .. }
        | InvalidTransaction::NulByte { shard, .. }
        | InvalidTransaction::Sql { shard, .. } => Some(*shard),
        InvalidTransaction::Empty
        | InvalidTransaction::TooManyShards { .. }
        | InvalidTransaction::TooManyStatements { .. } => None,
    }
}

fn code_of(invalid: &InvalidTransaction) -> &'static str {
    match invalid {
        InvalidTransaction::Empty => "empty_transaction",
        InvalidTransaction::DuplicateShard(_) => "duplicate_shard",
        InvalidTransaction::EmptyBranch(_) => "empty_branch",
        InvalidTransaction::TooManyShards { .. } => "too_many_shards",
        InvalidTransaction::TooManyStatements { .. } => "too_many_statements",
        InvalidTransaction::StatementTooLong { .. } => "statement_too_long",
        InvalidTransaction::TooManyParameters { .. } => "too_many_parameters",
        InvalidTransaction::NulByte { .. } => "nul_byte",
        InvalidTransaction::Sql { cause, .. } => match cause {
            sql::RefusedSql::Empty => "empty_statement",
            sql::RefusedSql::TransactionControl(_) => "transaction_control",
            sql::RefusedSql::Unsupported(_) => "unsupported_statement",
        },
    }
}

/// The HTTP status of a refusal. 4xx wants another request, 429 and 503 the same one later.
fn status_of(code: RefusalCode) -> StatusCode {
    match code {
        RefusalCode::InvalidRequest
        | RefusalCode::UnknownShard
        | RefusalCode::ShardDraining
        | RefusalCode::UnknownHome
        | RefusalCode::InvalidTxid
        | RefusalCode::TxidFromFuture => StatusCode::BAD_REQUEST,
        RefusalCode::Unauthenticated => StatusCode::UNAUTHORIZED,
        RefusalCode::NotYours => StatusCode::FORBIDDEN,
        RefusalCode::SessionLost => StatusCode::NOT_FOUND,
        RefusalCode::OutOfSequence => StatusCode::CONFLICT,
        RefusalCode::TxidTooOld => StatusCode::GONE,
        RefusalCode::TxidReused => StatusCode::UNPROCESSABLE_ENTITY,
        RefusalCode::Overloaded => StatusCode::TOO_MANY_REQUESTS,
        RefusalCode::LockTimeout
        | RefusalCode::Deadlock
        | RefusalCode::SerializationFailure
        | RefusalCode::ShardUnavailable
        | RefusalCode::CoordinatorUnavailable
        | RefusalCode::SlotsExhausted
        | RefusalCode::Contended
        | RefusalCode::DeadlineExceeded
        | RefusalCode::ShuttingDown => StatusCode::SERVICE_UNAVAILABLE,
    }
}

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> Self {
        Self {
            status: status_of(refusal.code),
            code: refusal.code.as_str(),
            retryable: refusal.is_retryable(),
            message: refusal.message,
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        respond(self.status, json!({ "error": self.to_json() }))
    }
}

/// A JSON answer, with the headers that its status asks for.
pub(super) fn respond(status: StatusCode, body: Value) -> Response {
    let mut response = (status, Json(body)).into_response();
    let headers = response.headers_mut();
    if status == StatusCode::TOO_MANY_REQUESTS || status == StatusCode::SERVICE_UNAVAILABLE {
        headers.insert(header::RETRY_AFTER, RETRY_AFTER);
    }
    if status == StatusCode::UNAUTHORIZED {
        headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_pass_asks_to_come_back_and_nothing_else_does() {
        for code in RefusalCode::ALL {
            let status = status_of(*code);
            let comes_back = status == StatusCode::TOO_MANY_REQUESTS
                || status == StatusCode::SERVICE_UNAVAILABLE;
            assert_eq!(comes_back, code.is_retryable(), "{code}");
        }
    }

    #[test]
    fn every_code_has_its_line_in_the_docs() {
        let docs = include_str!("../../../docs/api.md");
        let refusals = RefusalCode::ALL.iter().map(|code| code.as_str());
        let aborts = gavel_protocol::AbortCode::ALL
            .iter()
            .map(|code| code.as_str());
        for code in refusals.chain(aborts) {
            assert!(docs.contains(&format!("| `{code}` |")), "{code}");
        }
    }
}
