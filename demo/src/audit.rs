//! `GET /audit`: is all the money there, and is every transfer on both sides?
//!
//! Each shard is read in one snapshot, but the snapshots of several shards are not taken at one
//! instant: a transfer that is just being committed may be seen on one side only. Such transfers
//! are counted as in flight, their amounts are taken out of the sum again (which makes the sum
//! exact under any load), and they are looked up a second time: what stays on one side is a
//! mismatch.

mod pairs;
mod recheck;
mod sums;

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use futures::future::try_join_all;
use serde::Serialize;
use sqlx::{Connection as _, PgConnection, Postgres, Transaction};

use crate::bank::{Bank, Shard};
use crate::error::ApiError;
use pairs::Half;
use sums::ShardSums;

/// Listed one by one; the number says how many there are.
const MISMATCHES_LISTED_MAX: usize = 100;

/// The answer.
#[derive(Debug, Serialize)]
struct Audit {
    /// Whether nothing is wrong.
    balanced: bool,
    shards: Vec<ShardSums>,
    total: Total,
    /// Transfers that were seen on one side at first and on both later.
    in_flight: usize,
    /// What is wrong: half a transfer, or a balance that its transfers do not explain.
    mismatches: usize,
    mismatch_list: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Total {
    accounts: i64,
    /// What the accounts were opened with.
    opened_with: i128,
    /// What is on them now, transfers in flight put back.
    balance: i128,
    transfers: i64,
    debits: i64,
    credits: i64,
}

/// Audits the bank. Reads everything; not for a busy loop.
pub(crate) async fn show(
    State(bank): State<Arc<Bank>>,
) -> Result<Json<serde_json::Value>, ApiError> {
    // Boxed: the merge over all shards makes a large future.
    let audit = Box::pin(audit(&bank)).await?;
    let shown = serde_json::to_value(audit);
    shown
        .map(Json)
        .map_err(|error| crate::outcome::defect(&error))
}

async fn audit(bank: &Bank) -> Result<Audit, ApiError> {
    let mut connections = try_join_all(bank.shards().iter().map(connect)).await?;
    let opening = bank.shards().iter().zip(&mut connections);
    let mut snapshots =
        try_join_all(opening.map(|(shard, connection)| snapshot(shard, connection))).await?;
    let reading = bank.shards().iter().zip(&mut snapshots);
    let shards = try_join_all(reading.map(|(shard, snapshot)| sums::read(shard, snapshot))).await?;
    let pairs = pairs::compare(bank.shards(), &mut snapshots).await?;
    drop(snapshots);
    // The second look needs connections too: holding these, audits could wait for each other.
    drop(connections);
    let missing = recheck::still_one_sided(bank, &pairs.one_sided).await?;
    let amount = |halves: &[Half]| halves.iter().map(|half| half.amount).sum::<i128>();
    // Half a transfer that stays half is missing money, and must show.
    let in_flight_amount = amount(&pairs.one_sided) - amount(&missing);
    let in_flight = pairs.one_sided.len() - missing.len();
    let mut mismatch_list: Vec<String> = missing.iter().map(Half::describe).collect();
    mismatch_list.extend(pairs.wrong);
    mismatch_list.extend(shards.iter().flat_map(ShardSums::unexplained));
    let total = Total {
        accounts: shards.iter().map(|shard| shard.accounts).sum(),
        opened_with: shards.iter().map(|shard| shard.opened_with).sum(),
        balance: shards.iter().map(|shard| shard.balance).sum::<i128>() - in_flight_amount,
        transfers: pairs.whole,
        debits: shards.iter().map(|shard| shard.debits).sum(),
        credits: shards.iter().map(|shard| shard.credits).sum(),
    };
    let mismatches = mismatch_list.len();
    mismatch_list.truncate(MISMATCHES_LISTED_MAX);
    Ok(Audit {
        balanced: mismatches == 0 && total.balance == total.opened_with,
        shards,
        total,
        in_flight,
        mismatches,
        mismatch_list,
    })
}

type PoolConnection = sqlx::pool::PoolConnection<Postgres>;

async fn connect(shard: &Shard) -> Result<PoolConnection, ApiError> {
    shard
        .pool
        .acquire()
        .await
        .map_err(|error| shard.failed(&error))
}

async fn snapshot<'c>(
    shard: &Shard,
    connection: &'c mut PoolConnection,
) -> Result<Transaction<'c, Postgres>, ApiError> {
    let connection: &mut PgConnection = connection;
    connection
        .begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        .await
        .map_err(|error| shard.failed(&error))
}
