//! `POST /accounts` and `GET /accounts/{id}`.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use gavel_client::{Outcome, params};
use serde::{Deserialize, Serialize};
use serde_json::{Number, json};
use uuid::Uuid;

use crate::bank::Bank;
use crate::body::{self, Body, IdPath};
use crate::error::{ApiError, ErrorCode};
use crate::outcome;

const OWNER_CHARS_MAX: usize = 200;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OpenAccount {
    owner: Option<String>,
    initial_balance: Number,
}

/// An account, as the API shows it. Amounts are minor units.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// Its id.
    pub id: Uuid,
    /// Whose it is.
    pub owner: Option<String>,
    /// What is on it.
    pub balance: i64,
    /// What was on it at first.
    pub initial_balance: i64,
    /// The shard where it lives.
    pub shard: String,
}

/// Opens an account: a transaction on one shard, which Gavel runs as one local transaction.
pub(crate) async fn open(State(bank): State<Arc<Bank>>, body: Body) -> Result<Response, ApiError> {
    let request: OpenAccount = body::read(body)?;
    let initial_balance = body::minor_units("initial_balance", &request.initial_balance)?;
    if initial_balance < 0 {
        let message = "an account cannot be opened with a debt";
        return Err(ApiError::new(ErrorCode::AmountNegative, message));
    }
    let owner = request.owner;
    // PostgreSQL cannot store the character U+0000.
    if owner.as_ref().is_some_and(|owner| owner.contains('\0')) {
        let message = "`owner` contains the character U+0000";
        return Err(ApiError::new(ErrorCode::InvalidRequest, message));
    }
    if owner
        .as_ref()
        .is_some_and(|owner| owner.chars().count() > OWNER_CHARS_MAX)
    {
        let message = format!("`owner` has at most {OWNER_CHARS_MAX} characters");
        return Err(ApiError::new(ErrorCode::OwnerTooLong, message));
    }
    let id = Uuid::now_v7();
    let account = Account {
        id,
        owner,
        balance: initial_balance,
        initial_balance,
        shard: bank.shard_of(id).name.clone(),
    };
    insert(&bank, account).await
}

async fn insert(bank: &Bank, account: Account) -> Result<Response, ApiError> {
    let submitted = bank
        .gavel
        .transaction()
        .txid(bank.mint(&[bank.shard_of(account.id)]))
        .deadline(bank.write_deadline)
        .on(&account.shard)
        .execute(
            "INSERT INTO accounts (id, owner, initial_balance, balance) \
             VALUES ($1, $2, $3::bigint, $3::bigint)",
            params![account.id, account.owner.clone(), account.initial_balance],
        )
        .expect_rows(1)
        .submit()
        .await;
    let location = [(header::LOCATION, format!("/accounts/{}", account.id))];
    match submitted.map_err(|error| outcome::defect(&error))? {
        Outcome::Committed(_) => Ok((StatusCode::CREATED, location, Json(account)).into_response()),
        Outcome::InDoubt { .. } => {
            let answer = Json(json!({"id": account.id, "state": "in_doubt"}));
            Ok((StatusCode::ACCEPTED, location, answer).into_response())
        }
        Outcome::Refused { why, .. } => Err(outcome::refused(&why)),
        Outcome::Aborted { reason, .. } => Err(outcome::defect(&reason)),
    }
}

/// Shows an account.
pub(crate) async fn show(
    State(bank): State<Arc<Bank>>,
    path: IdPath,
) -> Result<Json<Account>, ApiError> {
    let id = body::account_id(&body::id_text(path))?;
    let shard = bank.shard_of(id);
    let row: Option<(Option<String>, i64, i64)> =
        sqlx::query_as("SELECT owner, balance, initial_balance FROM accounts WHERE id = $1")
            .bind(id)
            .fetch_optional(&shard.pool)
            .await
            .map_err(|error| shard.failed(&error))?;
    let (owner, balance, initial_balance) = row.ok_or_else(|| unknown(id))?;
    Ok(Json(Account {
        id,
        owner,
        balance,
        initial_balance,
        shard: shard.name.clone(),
    }))
}

/// Whether there is such an account. Accounts are never closed, and nobody can choose an id, so
/// for an id that some transfer named, the answer never changes.
pub(crate) async fn exists(bank: &Bank, id: Uuid) -> Result<bool, ApiError> {
    let shard = bank.shard_of(id);
    sqlx::query_scalar("SELECT EXISTS (SELECT FROM accounts WHERE id = $1)")
        .bind(id)
        .fetch_one(&shard.pool)
        .await
        .map_err(|error| shard.failed(&error))
}

pub(crate) fn unknown(id: Uuid) -> ApiError {
    ApiError::new(
        ErrorCode::UnknownAccount,
        format!("there is no account {id}"),
    )
}
