//! `POST /transfers` and `GET /transfers/{id}`.
//!
//! Invariants:
//! * A key stands for one txid, durably, before that txid is submitted. A request that is
//!   repeated, at once or after a crash of this process, submits the same txid, and a txid
//!   commits at most once. So this process may die at any await here.
//! * An answer other than 201 or 4xx is no outcome: 202 and 503 mean "ask or repeat".
//! * The explanation of an abort rests on what was recorded (which guard failed) and on whether
//!   the account exists, never on a balance, so that it is the same whenever it is asked for.

mod key;
mod lookup;
mod request;
mod work;

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use gavel_client::{AbortCode, Outcome, Reason, RefusalCode, Txid};
use serde::Serialize;
use uuid::Uuid;

use crate::accounts;
use crate::bank::Bank;
use crate::body::{self, Body, IdPath};
use crate::error::{ApiError, ErrorCode};
use crate::outcome;
use work::Check;

/// Who pays whom, and how much.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Transfer {
    pub(crate) from: Uuid,
    pub(crate) to: Uuid,
    /// Minor units, above zero.
    pub(crate) amount: i64,
}

/// What became of a transfer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum TransferState {
    /// Done, for good.
    Committed,
    /// Not done, for good.
    Aborted,
    /// Asked for, and not known to have an outcome yet: it may still be done.
    Pending,
    /// The answer was lost on the way: it may be done already.
    InDoubt,
}

/// A transfer, as the API shows it.
#[derive(Debug, Serialize)]
struct TransferView {
    id: Uuid,
    from: Uuid,
    to: Uuid,
    amount: i64,
    state: TransferState,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<serde_json::Value>,
}

impl TransferView {
    fn new(txid: Txid, transfer: Transfer, state: TransferState) -> Self {
        Self {
            id: txid.uuid(),
            from: transfer.from,
            to: transfer.to,
            amount: transfer.amount,
            state,
            error: None,
        }
    }
}

/// Moves money.
pub(crate) async fn submit(
    State(bank): State<Arc<Bank>>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    let key = request::idempotency_key(&headers)?;
    let transfer = request::transfer(body)?;
    let (payer, payee) = (bank.shard_of(transfer.from), bank.shard_of(transfer.to));
    let fresh = bank.mint(&[payer, payee]);
    let reserved = key::reserve(payer, &key, transfer, fresh).await?;
    let txid = reserved.txid;
    // Dying here leaves a key without a transaction; repeating the key submits it.
    let mut transaction = bank
        .gavel
        .transaction()
        .txid(txid)
        .deadline(bank.write_deadline);
    if !reserved.is_new {
        transaction = transaction.sent_before();
    }
    let submitted = work::add(transaction, &bank, txid, transfer).submit().await;
    match submitted.map_err(|error| outcome::defect(&error))? {
        Outcome::Committed(_) => Ok(answer(
            StatusCode::CREATED,
            txid,
            transfer,
            TransferState::Committed,
        )),
        Outcome::Aborted { reason, .. } => Err(explain(&bank, txid, transfer, &reason).await?),
        Outcome::InDoubt { .. } => Ok(answer(
            StatusCode::ACCEPTED,
            txid,
            transfer,
            TransferState::InDoubt,
        )),
        Outcome::Refused { why, .. } if why.code == RefusalCode::TxidTooOld => {
            from_the_books(&bank, txid, &outcome::refused(&why)).await
        }
        Outcome::Refused { why, .. } => Err(outcome::refused(&why).of_transfer(txid)),
    }
}

/// Shows a transfer.
pub(crate) async fn show(
    State(bank): State<Arc<Bank>>,
    path: IdPath,
) -> Result<Response, ApiError> {
    let txid: Txid = body::id_text(path).parse().map_err(|_| {
        let message = "a transfer's id is the `id` that `POST /transfers` returned";
        ApiError::new(ErrorCode::InvalidTransferId, message)
    })?;
    Ok(Json(lookup::find(&bank, txid).await?).into_response())
}

/// Gavel forgets outcomes after its retention; the bank's own books do not forget what was done.
async fn from_the_books(bank: &Bank, txid: Txid, expired: &ApiError) -> Result<Response, ApiError> {
    match lookup::in_the_books(bank, txid).await? {
        Some(done) => Ok(answer(
            StatusCode::CREATED,
            txid,
            done,
            TransferState::Committed,
        )),
        None => Err(expired.clone().of_transfer(txid)),
    }
}

fn answer(status: StatusCode, txid: Txid, transfer: Transfer, state: TransferState) -> Response {
    let location = [(header::LOCATION, format!("/transfers/{txid}"))];
    let view = TransferView::new(txid, transfer, state);
    (status, location, Json(view)).into_response()
}

/// Why an abort happened, in the bank's words.
///
/// # Errors
/// A shard could not be asked; the same request can be repeated.
async fn explain(
    bank: &Bank,
    txid: Txid,
    transfer: Transfer,
    reason: &Reason,
) -> Result<ApiError, ApiError> {
    let error = match (reason.code, work::failed_check(bank, transfer, reason)) {
        (AbortCode::GuardFailed, Some(Check::PayerHasEnough)) => {
            let message = format!("account {} has less than that", transfer.from);
            unless_unknown(bank, transfer.from, ErrorCode::InsufficientFunds, message).await?
        }
        (AbortCode::GuardFailed, Some(Check::PayeeHasRoom)) => {
            let message = format!("the balance of account {} would overflow", transfer.to);
            unless_unknown(bank, transfer.to, ErrorCode::BalanceOverflow, message).await?
        }
        (AbortCode::AbortedByRequest | AbortCode::RolledBack, _) => ApiError::new(
            ErrorCode::TransferCancelled,
            "the transfer was aborted on request",
        ),
        _ => outcome::defect(reason),
    };
    Ok(error.of_transfer(txid))
}

/// A guard on an account fails for the balance, or because there is no such account.
async fn unless_unknown(
    bank: &Bank,
    account: Uuid,
    code: ErrorCode,
    message: String,
) -> Result<ApiError, ApiError> {
    let exists = accounts::exists(bank, account).await?;
    Ok(if exists {
        ApiError::new(code, message)
    } else {
        accounts::unknown(account)
    })
}
