//! The rows that home writes and reads: their SQL, their parameters, and what they mean.

use gavel_protocol::message::{Decide, FailedMember, Recorded};
use gavel_protocol::{AbortReason, Principal, RequestHash};

use crate::pg::{Pipeline, text};

/// Decision row and transaction rows (R4).
pub(crate) const OPEN_DECISION: &str = "SELECT gavel.open_decision($1, $2, $3, $4, $5, $6, $7, $8)";
pub(super) const FORCE_ABORT: &str = "SELECT gavel.force_abort($1, $2)";
const RECORD_ABORTS: &str = "SELECT gavel.record_aborts($1, $2, $3, $4, $5, $6)";
pub(super) const READ_DECISIONS: &str = "SELECT outcome FROM gavel.read_decisions($1)";
pub(super) const READ_TRANSACTIONS: &str = "SELECT txid, outcome, '\\x' || encode(request_hash, 'hex'), \
     principal, reason FROM gavel.read_transactions($1)";
/// R6: a WAL-writing commit of its own; when it returns without warning, everything that could
/// be read before it is replicated.
pub(super) const BARRIER: &str = "SELECT pg_logical_emit_message(true, 'gavel', 'barrier')";

/// One row of [`READ_TRANSACTIONS`] as an answer to a repeated submit (R8).
pub(super) fn read_record(
    row: &[Option<String>],
    request_hash: RequestHash,
    principal: &Principal,
) -> Option<Recorded> {
    let [_, outcome, hash, owner, reason] = row else {
        return None;
    };
    if owner.as_deref() != Some(principal.as_str()) {
        return Some(Recorded::OtherPrincipal);
    }
    let recorded_hash = text::parse_bytea(hash.as_deref()?)?
        .try_into()
        .ok()
        .map(RequestHash)?;
    if !recorded_hash.answers(request_hash) {
        return Some(Recorded::OtherContent);
    }
    Some(match outcome.as_deref() {
        Some("committed") => Recorded::Committed,
        _ => Recorded::Aborted(read_reason(reason.as_deref())),
    })
}

/// The recorded reason of an abort.
fn read_reason(reason: Option<&str>) -> AbortReason {
    let text = reason.unwrap_or_default();
    serde_json::from_str(text)
        .unwrap_or_else(|_| AbortReason::new(gavel_protocol::AbortCode::SqlError, text))
}

/// A reason as it is recorded.
fn write_reason(reason: &AbortReason) -> String {
    serde_json::to_string(reason).unwrap_or_else(|_| reason.message.clone())
}

/// The parameters of [`OPEN_DECISION`].
pub(crate) fn decision_params(decide: &Decide) -> [Option<String>; 8] {
    let committed = decide
        .members
        .iter()
        .map(|member| (member.txid, member.request_hash, None));
    let aborted = decide.failed.iter().map(|failed| {
        (
            failed.txid,
            failed.request_hash,
            Some(write_reason(&failed.reason)),
        )
    });
    let rows: Vec<_> = committed.chain(aborted).collect();
    let outcome = |reason: &Option<String>| match reason {
        None => "committed",
        Some(_) => "aborted",
    };
    [
        text::scalar(decide.batch),
        text::scalar(decide.incarnation),
        text::array(&decide.prepared),
        text::array(rows.iter().map(|(txid, ..)| txid)),
        text::array(rows.iter().map(|(.., reason)| outcome(reason))),
        text::array(rows.iter().map(|(_, hash, _)| text::bytea(&hash.0))),
        text::optional_array(rows.iter().map(|(.., reason)| reason.as_ref())),
        text::scalar(&decide.principal),
    ]
}

/// Adds the statement that records aborts (R8).
pub(super) fn add_record_aborts(
    pipeline: &mut Pipeline<'_>,
    decide: &Decide,
    aborts: &[FailedMember],
) {
    let params = [
        text::scalar(decide.batch),
        text::scalar(decide.incarnation),
        text::array(aborts.iter().map(|abort| abort.txid)),
        text::array(
            aborts
                .iter()
                .map(|abort| text::bytea(&abort.request_hash.0)),
        ),
        text::array(aborts.iter().map(|abort| write_reason(&abort.reason))),
        text::scalar(&decide.principal),
    ];
    pipeline.run(RECORD_ABORTS, &params);
}
