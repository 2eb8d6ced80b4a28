//! What a PostgreSQL error means for a transaction.

use gavel_protocol::message::MemberFailure;
use gavel_protocol::{AbortCode, AbortReason, Refusal, RefusalCode, ShardTag};

use crate::pg::ServerError;

/// Where an error was raised.
#[derive(Debug, Clone, Copy)]
pub struct Place {
    /// The shard.
    pub shard: ShardTag,
    /// The statement within its branch, if one can be blamed.
    pub statement: Option<usize>,
}

/// Sorts an error into "of the transaction's own making" (final) and "by circumstance" (it may be
/// submitted again).
pub fn classify(error: &ServerError, place: Place) -> MemberFailure {
    // Ended by the server, for being idle or for a shutdown: never the transaction's own doing.
    let code = match (error.ends_session(), error.is_stale_statement()) {
        (true, _) => Some(RefusalCode::ShardUnavailable),
        (false, true) => Some(RefusalCode::Contended),
        (false, false) => circumstance(&error.sqlstate),
    };
    match code {
        Some(code) => {
            let message = format!("shard {}: {}", place.shard, error.message);
            MemberFailure::Refused(Refusal::new(code, message))
        }
        None => MemberFailure::Failed(AbortReason {
            code: AbortCode::SqlError,
            message: error.message.clone(),
            shard: Some(place.shard),
            statement: place
                .statement
                .and_then(|statement| statement.try_into().ok()),
            sqlstate: Some(error.sqlstate.clone()),
        }),
    }
}

/// SQLSTATEs that say more about the moment than about the transaction.
fn circumstance(sqlstate: &str) -> Option<RefusalCode> {
    match sqlstate {
        "55P03" => Some(RefusalCode::LockTimeout),
        "40P01" => Some(RefusalCode::Deadlock),
        "40001" => Some(RefusalCode::SerializationFailure),
        // Cancelled by statement_timeout: slow now, perhaps not later.
        "57014" => Some(RefusalCode::DeadlineExceeded),
        // At PREPARE: "maximum number of prepared transactions reached" (facts 9).
        "53200" => Some(RefusalCode::SlotsExhausted),
        "GV001" | "GV004" | "GV005" => Some(RefusalCode::ShardUnavailable),
        "GV002" | "GV003" => Some(RefusalCode::TxidTooOld),
        _ => match &sqlstate[..sqlstate.len().min(2)] {
            // Out of disk, memory or connections; shutting down; IO error.
            "53" | "57" | "58" => Some(RefusalCode::ShardUnavailable),
            _ => None,
        },
    }
}

/// A guard that did not hold.
pub fn guard_failed(place: Place, guard: gavel_protocol::Guard, rows: u64) -> AbortReason {
    let expected = match guard {
        gavel_protocol::Guard::RowsExactly(expected) => format!("exactly {expected}"),
        gavel_protocol::Guard::RowsAtLeast(expected) => format!("at least {expected}"),
    };
    AbortReason {
        code: AbortCode::GuardFailed,
        message: format!("expected {expected} rows, found {rows}"),
        shard: Some(place.shard),
        statement: place
            .statement
            .and_then(|statement| statement.try_into().ok()),
        sqlstate: None,
    }
}

/// A statement returned more than the limits allow.
pub fn result_too_large(place: Place) -> AbortReason {
    AbortReason {
        code: AbortCode::ResultTooLarge,
        message: "the statement returned more rows or bytes than the limits allow".to_owned(),
        shard: Some(place.shard),
        statement: place
            .statement
            .and_then(|statement| statement.try_into().ok()),
        sqlstate: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn circumstance_is_told_from_fault() {
        let place = Place {
            shard: ShardTag(1),
            statement: Some(2),
        };
        let error = |sqlstate: &str| ServerError {
            sqlstate: sqlstate.to_owned(),
            ..ServerError::default()
        };
        for (sqlstate, code) in [
            ("55P03", RefusalCode::LockTimeout),
            ("40P01", RefusalCode::Deadlock),
            ("40001", RefusalCode::SerializationFailure),
            ("53200", RefusalCode::SlotsExhausted),
            ("53100", RefusalCode::ShardUnavailable),
            ("57P01", RefusalCode::ShardUnavailable),
        ] {
            let MemberFailure::Refused(refusal) = classify(&error(sqlstate), place) else {
                panic!("{sqlstate} is no fault of the transaction");
            };
            assert_eq!(refusal.code, code, "{sqlstate}");
        }
        for sqlstate in ["23505", "23514", "22P02", "42P01", "08P01", "P0001", ""] {
            let failure = classify(&error(sqlstate), place);
            assert!(matches!(failure, MemberFailure::Failed(_)), "{sqlstate}");
        }
    }
}
