//! What the API answers when it cannot do what it was asked: one shape, one stable code each.
//!
//! ```json
//! {"error": {"code": "insufficient_funds", "message": "…", "transfer": "0192…"}}
//! ```

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use gavel_client::Txid;
use serde_json::json;

/// Seconds after which a client should repeat a request that was refused for now.
const RETRY_AFTER_S: &str = "1";

/// Defines the codes with their spelling and their status.
macro_rules! error_codes {
    ($($(#[$doc:meta])* $variant:ident = $text:literal, $status:ident;)+) => {
        /// What went wrong. The spelling is part of the API and never changes.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum ErrorCode {
            $($(#[$doc])* $variant,)+
        }

        impl ErrorCode {
            /// Every code, for documentation and tests.
            pub const ALL: &[Self] = &[$(Self::$variant,)+];

            /// The stable spelling.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)+ }
            }

            /// The HTTP status that goes with it.
            pub fn status(self) -> StatusCode {
                match self { $(Self::$variant => StatusCode::$status,)+ }
            }
        }
    };
}

error_codes! {
    /// The body is not JSON.
    MalformedJson = "malformed_json", BAD_REQUEST;
    /// The body is JSON, but a field is missing, unknown or of the wrong type.
    InvalidRequest = "invalid_request", BAD_REQUEST;
    /// The body is larger than any request of this API.
    BodyTooLarge = "body_too_large", PAYLOAD_TOO_LARGE;
    /// An account id is not a UUID.
    InvalidAccountId = "invalid_account_id", BAD_REQUEST;
    /// A transfer id is not one that this API gave out.
    InvalidTransferId = "invalid_transfer_id", BAD_REQUEST;
    /// The owner's name is too long.
    OwnerTooLong = "owner_too_long", BAD_REQUEST;
    /// An amount is not a whole number of minor units.
    AmountNotInteger = "amount_not_integer", BAD_REQUEST;
    /// An amount does not fit into 64 bits.
    AmountOutOfRange = "amount_out_of_range", BAD_REQUEST;
    /// A transfer of nothing.
    AmountZero = "amount_zero", BAD_REQUEST;
    /// A negative amount.
    AmountNegative = "amount_negative", BAD_REQUEST;
    /// Payer and payee are one account.
    SelfTransfer = "self_transfer", BAD_REQUEST;
    /// The header `Idempotency-Key` is missing.
    IdempotencyKeyMissing = "idempotency_key_missing", BAD_REQUEST;
    /// The header is empty, too long, not UTF-8, or there twice.
    IdempotencyKeyInvalid = "idempotency_key_invalid", BAD_REQUEST;
    /// The payer used this key before, for another transfer.
    IdempotencyKeyReused = "idempotency_key_reused", UNPROCESSABLE_ENTITY;
    /// The key is so old that the outcome of its transfer is no longer recorded.
    IdempotencyKeyExpired = "idempotency_key_expired", GONE;
    /// No such account.
    UnknownAccount = "unknown_account", NOT_FOUND;
    /// No such transfer.
    UnknownTransfer = "unknown_transfer", NOT_FOUND;
    /// The payer has less than that.
    InsufficientFunds = "insufficient_funds", CONFLICT;
    /// The payee's balance would not fit into 64 bits.
    BalanceOverflow = "balance_overflow", CONFLICT;
    /// The transfer was aborted on request.
    TransferCancelled = "transfer_cancelled", CONFLICT;
    /// No such path.
    NotFound = "not_found", NOT_FOUND;
    /// The path does not take this method.
    MethodNotAllowed = "method_not_allowed", METHOD_NOT_ALLOWED;
    /// Too many requests at once.
    Overloaded = "overloaded", SERVICE_UNAVAILABLE;
    /// This request did nothing because something is down or busy; repeat it.
    Unavailable = "unavailable", SERVICE_UNAVAILABLE;
    /// A defect, here or in the set-up.
    Internal = "internal", INTERNAL_SERVER_ERROR;
}

/// An answer that is no success.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}: {message}", code.as_str())]
pub struct ApiError {
    /// For programs.
    pub code: ErrorCode,
    /// For people.
    pub message: String,
    /// The transfer, where there is one to ask for.
    pub transfer: Option<Txid>,
}

impl ApiError {
    pub(crate) fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            transfer: None,
        }
    }

    pub(crate) fn of_transfer(self, txid: Txid) -> Self {
        Self {
            transfer: Some(txid),
            ..self
        }
    }

    /// A failed read. Its details are for the log: they may name hosts and tables.
    pub(crate) fn from_sql(shard: &str, error: &sqlx::Error) -> Self {
        if is_defect(error) {
            tracing::error!(shard, %error, "a query failed");
            return Self::new(ErrorCode::Internal, "a query failed; see the server's log");
        }
        tracing::info!(shard, %error, "a shard cannot be read");
        Self::new(
            ErrorCode::Unavailable,
            format!("shard `{shard}` cannot be reached; try again"),
        )
    }

    pub(crate) fn body(&self) -> serde_json::Value {
        let mut body = json!({"code": self.code.as_str(), "message": self.message});
        if let Some(txid) = self.transfer {
            body["transfer"] = json!(txid.to_string());
        }
        body
    }
}

/// Whether repeating the query is useless. A server that starts, stops or crashes answers with
/// errors of class 57 or 53, or not at all.
fn is_defect(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Database(error) => {
            let code = error.code();
            let class = code.as_deref().and_then(|code| code.get(..2));
            !matches!(class, Some("53" | "57" | "58" | "08" | "40"))
        }
        sqlx::Error::Io(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::Protocol(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::PoolClosed
        | sqlx::Error::WorkerCrashed => false,
        _ => true,
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let status = self.code.status();
        let body = Json(json!({"error": self.body()}));
        let mut response = (status, body).into_response();
        if status == StatusCode::SERVICE_UNAVAILABLE {
            let after = HeaderValue::from_static(RETRY_AFTER_S);
            response.headers_mut().insert(header::RETRY_AFTER, after);
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_documented_with_its_status() {
        let page = include_str!("../../docs/demo.md");
        for code in ErrorCode::ALL {
            let row = format!("| `{}` | {} |", code.as_str(), code.status().as_u16());
            assert!(page.contains(&row), "docs/demo.md lacks {row}");
        }
    }
}
