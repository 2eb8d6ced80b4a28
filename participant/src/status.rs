//! The idempotency index, seen from home: what is recorded of a txid, and recording aborts.
//!
//! Invariants:
//! - A row speaks to its own principal and to operators only (R8).
//! - An outcome is told only behind a barrier on the session that read it (R6).
//! - No row means `none yet: may still commit`, never `aborted`.
//! - Recording an abort never overwrites: what is told is what was read back afterwards.
//!
//! Failure model: an answer that did not come is `Unknown` or `Unreachable`. Recording twice is
//! harmless.

use gavel_protocol::message::{FailedMember, RecordAborts, RecordAnswer, Recorded, StatusAnswer};
use gavel_protocol::outcome::Status;
use gavel_protocol::{AbortCode, AbortReason, Principal, Refusal, RefusalCode, RequestHash, Txid};
use tokio_postgres::Row;
use uuid::Uuid;

use crate::resolve::{code, identity};
use crate::service_pool::{ServiceClient, ServiceError, ServicePool};

/// A row of `gavel.transaction`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransactionRow {
    /// The transaction.
    pub txid: Txid,
    /// `None`: committed.
    pub aborted: Option<AbortReason>,
    /// The content's hash.
    pub request_hash: Vec<u8>,
    /// Whose it is.
    pub principal: String,
}

impl TransactionRow {
    /// What `principal` hears about it when submitting content with `request_hash`.
    ///
    /// An abort by request has no content to compare with: it answers for any, or it would not
    /// give the certainty that it is for.
    pub fn recorded(&self, principal: &Principal, request_hash: &RequestHash) -> Recorded {
        let recorded_hash = self.request_hash.as_slice().try_into().map(RequestHash);
        if self.principal != principal.as_str() {
            Recorded::OtherPrincipal
        } else if !recorded_hash.is_ok_and(|hash| hash.answers(*request_hash)) {
            Recorded::OtherContent
        } else {
            self.outcome()
        }
    }

    fn outcome(&self) -> Recorded {
        match &self.aborted {
            None => Recorded::Committed,
            Some(reason) => Recorded::Aborted(reason.clone()),
        }
    }
}

/// What is recorded of `txid`. `asker` is `None` for an operator.
pub async fn status(pool: &ServicePool, txid: Txid, asker: Option<&Principal>) -> StatusAnswer {
    match try_status(pool, txid, asker).await {
        Ok(answer) => answer,
        Err(error) => StatusAnswer::Unreachable {
            detail: error.detail(),
        },
    }
}

async fn try_status(
    pool: &ServicePool,
    txid: Txid,
    asker: Option<&Principal>,
) -> Result<StatusAnswer, ServiceError> {
    let session = pool.session().await?;
    let Some(row) = transactions(&session, &[txid]).await?.pop() else {
        // After the row: a partition may be dropped in between. Below the floor nothing is
        // executed any more, so "may still commit" would be waited for in vain.
        let too_old = txid.uuid() < identity(&session).await?.floor;
        let status = if too_old {
            Status::TooOld
        } else {
            Status::NoneYet
        };
        return Ok(StatusAnswer::Status(status));
    };
    if asker.is_some_and(|asker| asker.as_str() != row.principal) {
        return Ok(StatusAnswer::OtherPrincipal);
    }
    session.barrier().await?;
    Ok(StatusAnswer::Status(match row.aborted {
        None => Status::Committed,
        Some(reason) => Status::Aborted(reason),
    }))
}

/// Records aborts, unless an outcome is recorded already.
pub async fn record_aborts(pool: &ServicePool, record: &RecordAborts) -> RecordAnswer {
    match try_record_aborts(pool, record).await {
        Ok(recorded) => RecordAnswer::Recorded(recorded),
        Err(error) => not_recorded(&error),
    }
}

async fn try_record_aborts(
    pool: &ServicePool,
    record: &RecordAborts,
) -> Result<Vec<Recorded>, ServiceError> {
    let txids: Vec<Txid> = record.aborts.iter().map(|abort| abort.txid).collect();
    // The insert waits for a try of the same txid that is in flight.
    let _permit = pool.may_wait().await?;
    let session = pool.session().await?;
    insert_aborts(&session, record).await?;
    // Dying here: the aborts may be recorded; nobody was told.
    let rows = transactions(&session, &txids).await?;
    session.barrier().await?;
    record
        .aborts
        .iter()
        .map(|abort| read_back(&rows, abort, &record.principal))
        .collect()
}

async fn insert_aborts(session: &ServiceClient, record: &RecordAborts) -> Result<(), ServiceError> {
    let aborts = &record.aborts;
    let txids: Vec<Uuid> = aborts.iter().map(|abort| abort.txid.uuid()).collect();
    let hashes: Vec<&[u8]> = aborts
        .iter()
        .map(|abort| abort.request_hash.0.as_slice())
        .collect();
    let reasons: Vec<String> = aborts
        .iter()
        .map(|abort| encode_reason(&abort.reason))
        .collect();
    session
        .query(
            "SELECT gavel.record_aborts($1, $2, $3, $4, $5, $6)",
            &[
                &record.batch.map(|batch| batch.uuid()),
                &i64::from(record.incarnation.0),
                &txids,
                &hashes,
                &reasons,
                &record.principal.as_str(),
            ],
        )
        .await
        .map(drop)
}

fn read_back(
    rows: &[TransactionRow],
    abort: &FailedMember,
    principal: &Principal,
) -> Result<Recorded, ServiceError> {
    let row = rows.iter().find(|row| row.txid == abort.txid);
    let row = row.ok_or_else(|| {
        let text = format!(
            "transaction {} has no row although one was inserted",
            abort.txid
        );
        ServiceError::Content(text)
    })?;
    // A request to abort knows no content; it hears what the owner would.
    if abort.reason.code == AbortCode::AbortedByRequest && row.principal == principal.as_str() {
        return Ok(row.outcome());
    }
    Ok(row.recorded(principal, &abort.request_hash))
}

/// Refused only where PostgreSQL itself says that the insert failed, or nothing was sent.
fn not_recorded(error: &ServiceError) -> RecordAnswer {
    let refuse = |code, message: String| RecordAnswer::Refused(Refusal::new(code, message));
    let detail = error.detail();
    match (error, error.sqlstate()) {
        (ServiceError::Busy | ServiceError::Connect(_), _) => {
            refuse(RefusalCode::ShardUnavailable, detail)
        }
        (_, Some(code::INCARNATION)) => {
            tracing::error!(
                detail,
                "home is in another incarnation than the coordinator knows"
            );
            refuse(RefusalCode::ShardUnavailable, detail)
        }
        (_, Some(code::BELOW_FLOOR)) => refuse(RefusalCode::TxidTooOld, detail),
        (_, Some(code::NO_PARTITION)) => refuse(RefusalCode::TxidFromFuture, detail),
        (_, Some(code::LOCK_NOT_AVAILABLE)) => refuse(RefusalCode::LockTimeout, detail),
        _ => RecordAnswer::Unknown { detail },
    }
}

/// Rows of these txids, in no order. Not behind a barrier.
///
/// # Errors
/// See [`ServiceError`].
pub async fn transactions(
    session: &ServiceClient,
    txids: &[Txid],
) -> Result<Vec<TransactionRow>, ServiceError> {
    let txids: Vec<Uuid> = txids.iter().map(|txid| txid.uuid()).collect();
    let rows = session
        .query(
            "SELECT txid, outcome, request_hash, principal, reason \
             FROM gavel.read_transactions($1)",
            &[&txids],
        )
        .await?;
    rows.iter().map(transaction).collect()
}

fn transaction(row: &Row) -> Result<TransactionRow, ServiceError> {
    let txid: Uuid = row.get(0);
    let bad = |what: &str| ServiceError::Content(format!("transaction {txid}: {what}"));
    let outcome: &str = row.get(1);
    let aborted = match outcome {
        "committed" => None,
        "aborted" => Some(decode_reason(row.get(4))),
        _ => return Err(bad("unknown outcome")),
    };
    Ok(TransactionRow {
        txid: Txid::try_from(txid).map_err(|_| bad("not a txid"))?,
        aborted,
        request_hash: row.get(2),
        principal: row.get(3),
    })
}

/// The text of `gavel.transaction.reason`.
pub fn encode_reason(reason: &AbortReason) -> String {
    serde_json::to_string(reason).expect("strings and numbers have a JSON form")
}

/// The outcome is certain; if only the reason cannot be read, that is all that is lost.
pub fn decode_reason(text: Option<&str>) -> AbortReason {
    let text = text.unwrap_or("no reason was recorded");
    serde_json::from_str(text).unwrap_or_else(|_| AbortReason::new(AbortCode::SqlError, text))
}

#[cfg(test)]
mod tests {
    use gavel_protocol::ShardTag;

    use super::*;

    fn row(aborted: Option<AbortReason>) -> TransactionRow {
        TransactionRow {
            txid: Txid::mint(1, ShardTag(1), [1; 16]),
            aborted,
            request_hash: vec![7; 32],
            principal: "alice".to_owned(),
        }
    }

    #[test]
    fn r8_the_recorded_answer_is_for_its_owner_and_its_content() {
        let alice: Principal = "alice".parse().expect("a principal");
        let bob: Principal = "bob".parse().expect("a principal");
        let (same, other) = (RequestHash([7; 32]), RequestHash([8; 32]));
        assert_eq!(row(None).recorded(&alice, &same), Recorded::Committed);
        assert_eq!(row(None).recorded(&alice, &other), Recorded::OtherContent);
        assert_eq!(row(None).recorded(&bob, &same), Recorded::OtherPrincipal);
        let asked = AbortReason::new(AbortCode::AbortedByRequest, "lost patience");
        // An abort by request is recorded for any content.
        let aborted = TransactionRow {
            request_hash: RequestHash::ANY.0.to_vec(),
            ..row(Some(asked.clone()))
        };
        assert_eq!(aborted.recorded(&alice, &other), Recorded::Aborted(asked));
    }

    #[test]
    fn a_reason_survives_the_round_trip() {
        let mut reason = AbortReason::new(AbortCode::GuardFailed, "expected 1 row, found 0");
        reason.shard = Some(ShardTag(3));
        reason.statement = Some(2);
        assert_eq!(decode_reason(Some(&encode_reason(&reason))), reason);
        assert_eq!(decode_reason(Some("by hand")).message, "by hand");
    }
}
