//! What became of a transfer.
//!
//! A row of `transfers` on any shard proves that it was committed: rows appear only with the
//! transaction. Their absence proves nothing while a branch may still be prepared, so without
//! rows Gavel is asked.

use futures::future::join_all;
use gavel_client::{Status, Txid};
use uuid::Uuid;

use super::{Transfer, TransferState, TransferView, explain};
use crate::bank::{Bank, Shard};
use crate::error::{ApiError, ErrorCode};

/// What one shard has of a transfer.
#[derive(Default)]
struct Traces {
    done: Option<Transfer>,
    asked_for: Option<Transfer>,
}

/// The transfer, from the books and from Gavel.
pub(super) async fn find(bank: &Bank, txid: Txid) -> Result<TransferView, ApiError> {
    let traces = search(bank, txid).await;
    if let Some(done) = traces.iter().flatten().find_map(|found| found.done) {
        return Ok(TransferView::new(txid, done, TransferState::Committed));
    }
    let asked_for = traces.iter().flatten().find_map(|found| found.asked_for);
    let Some(transfer) = asked_for else {
        // A shard that could not be asked may have it.
        traces.into_iter().collect::<Result<Vec<_>, _>>()?;
        let message = format!("there is no transfer {txid}");
        return Err(ApiError::new(ErrorCode::UnknownTransfer, message));
    };
    ask_gavel(bank, txid, transfer).await
}

/// The transfer, if the books say that it was done.
pub(super) async fn in_the_books(bank: &Bank, txid: Txid) -> Result<Option<Transfer>, ApiError> {
    let traces = search(bank, txid).await;
    let done = traces.iter().flatten().find_map(|found| found.done);
    if done.is_none() {
        traces.into_iter().collect::<Result<Vec<_>, _>>()?;
    }
    Ok(done)
}

async fn ask_gavel(bank: &Bank, txid: Txid, transfer: Transfer) -> Result<TransferView, ApiError> {
    let status = bank.gavel.status(txid).await.map_err(|error| {
        tracing::info!(%txid, %error, "the status is not to be had");
        let message = "the transfer's outcome cannot be asked for now; try again";
        ApiError::new(ErrorCode::Unavailable, message).of_transfer(txid)
    })?;
    let view = |state| TransferView::new(txid, transfer, state);
    match status {
        Status::Committed => Ok(view(TransferState::Committed)),
        Status::NoneYet => Ok(view(TransferState::Pending)),
        Status::Aborted(reason) => Ok(TransferView {
            error: Some(explain(bank, txid, transfer, &reason).await?.body()),
            ..view(TransferState::Aborted)
        }),
        Status::TooOld => {
            let message = "the transfer is not in the books, and too old to say more";
            Err(ApiError::new(ErrorCode::IdempotencyKeyExpired, message).of_transfer(txid))
        }
    }
}

/// Asks every shard: the id does not say where its accounts live.
async fn search(bank: &Bank, txid: Txid) -> Vec<Result<Traces, ApiError>> {
    let asking = bank.shards().iter().map(async |shard| {
        let traces = search_one(shard, txid).await;
        traces.map_err(|error| shard.failed(&error))
    });
    join_all(asking).await
}

async fn search_one(shard: &Shard, txid: Txid) -> Result<Traces, sqlx::Error> {
    let found: Vec<(bool, Uuid, Uuid, i64)> = sqlx::query_as(
        "SELECT true, account, counterparty, amount FROM transfers WHERE txid = $1 \
         UNION ALL \
         SELECT false, payer, payee, -amount FROM idempotency_keys WHERE txid = $1",
    )
    .bind(txid.uuid())
    .fetch_all(&shard.pool)
    .await?;
    let mut traces = Traces::default();
    for (is_done, account, counterparty, amount) in found {
        let transfer = from_row(account, counterparty, amount);
        let place = if is_done {
            &mut traces.done
        } else {
            &mut traces.asked_for
        };
        *place = Some(transfer);
    }
    Ok(traces)
}

/// The payer's row has a negative amount, the payee's a positive one.
fn from_row(account: Uuid, counterparty: Uuid, amount: i64) -> Transfer {
    let (from, to) = match amount < 0 {
        true => (account, counterparty),
        false => (counterparty, account),
    };
    Transfer {
        from,
        to,
        amount: amount.abs(),
    }
}
