//! What Gavel says, in the API's words.

use std::fmt::Display;

use gavel_client::{Refusal, RefusalCode};

use crate::error::{ApiError, ErrorCode};

/// A submission that did nothing. Its txid is still open, so the same request can be repeated.
/// It says nothing about an earlier request under the same key.
pub(crate) fn refused(why: &Refusal) -> ApiError {
    if why.is_retryable() {
        return ApiError::new(
            ErrorCode::Unavailable,
            format!("this request did nothing: {why}"),
        );
    }
    match why.code {
        RefusalCode::TxidTooOld => ApiError::new(
            ErrorCode::IdempotencyKeyExpired,
            "the key is too old to be repeated, and its outcome is no longer known from it alone; \
             ask for the transfer",
        ),
        RefusalCode::TxidReused => ApiError::new(
            ErrorCode::IdempotencyKeyReused,
            "the transfer's id was used before with other content",
        ),
        _ => defect(why),
    }
}

/// What a correct API with a correct set-up never hears.
pub(crate) fn defect(what: &dyn Display) -> ApiError {
    tracing::error!(%what, "a transaction was not possible as it stands");
    ApiError::new(
        ErrorCode::Internal,
        format!("the transaction was not possible: {what}"),
    )
}
