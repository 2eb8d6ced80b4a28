//! Idempotency keys: which txid a client's key stands for.
//!
//! A key belongs to the payer's account and is kept on its shard, so that one unique index
//! decides between requests that come at the same time. Written here and not through Gavel: it
//! must be durable before the transfer exists, and it is harmless without one.

use gavel_client::Txid;
use uuid::Uuid;

use super::Transfer;
use crate::bank::Shard;
use crate::error::{ApiError, ErrorCode};
use crate::outcome;

/// What a key stands for.
pub(super) struct Reserved {
    pub(super) txid: Txid,
    /// Whether nobody has used the key before.
    pub(super) is_new: bool,
}

/// Takes the key for `fresh`, or finds the txid that it was taken for before.
///
/// # Errors
/// `idempotency_key_reused` if that was another transfer; `unavailable`.
pub(super) async fn reserve(
    payer: &Shard,
    key: &str,
    transfer: Transfer,
    fresh: Txid,
) -> Result<Reserved, ApiError> {
    let inserted = sqlx::query(
        "INSERT INTO idempotency_keys (payer, key, payee, amount, txid) \
         VALUES ($1, $2, $3, $4, $5) ON CONFLICT (payer, key) DO NOTHING",
    )
    .bind(transfer.from)
    .bind(key)
    .bind(transfer.to)
    .bind(transfer.amount)
    .bind(fresh.uuid())
    .execute(&payer.pool)
    .await
    .map_err(|error| payer.failed(&error))?;
    if inserted.rows_affected() == 1 {
        return Ok(Reserved {
            txid: fresh,
            is_new: true,
        });
    }
    find(payer, key, transfer).await
}

async fn find(payer: &Shard, key: &str, transfer: Transfer) -> Result<Reserved, ApiError> {
    let (payee, amount, txid): (Uuid, i64, Uuid) = sqlx::query_as(
        "SELECT payee, amount, txid FROM idempotency_keys WHERE payer = $1 AND key = $2",
    )
    .bind(transfer.from)
    .bind(key)
    .fetch_one(&payer.pool)
    .await
    .map_err(|error| payer.failed(&error))?;
    let txid = Txid::try_from(txid).map_err(|error| outcome::defect(&error))?;
    if (payee, amount) == (transfer.to, transfer.amount) {
        return Ok(Reserved {
            txid,
            is_new: false,
        });
    }
    let message = "the payer used this Idempotency-Key before, for another payee or amount";
    Err(ApiError::new(ErrorCode::IdempotencyKeyReused, message).of_transfer(txid))
}
