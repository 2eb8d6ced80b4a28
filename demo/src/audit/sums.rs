//! The sums of one shard, in one snapshot.

use serde::Serialize;
use sqlx::{Postgres, Transaction};

use crate::bank::Shard;
use crate::error::ApiError;
use crate::outcome;

/// What one shard holds.
#[derive(Debug, Serialize)]
pub(super) struct ShardSums {
    pub(super) shard: String,
    pub(super) accounts: i64,
    pub(super) opened_with: i128,
    pub(super) balance: i128,
    pub(super) debits: i64,
    pub(super) credits: i64,
    /// Accounts whose balance is not what they were opened with plus their transfers.
    unexplained_accounts: i64,
}

impl ShardSums {
    pub(super) fn unexplained(&self) -> Option<String> {
        let Self {
            shard,
            unexplained_accounts,
            ..
        } = self;
        (*unexplained_accounts > 0).then(|| {
            format!("{unexplained_accounts} accounts on {shard} have a balance that their transfers do not explain")
        })
    }
}

pub(super) async fn read(
    shard: &Shard,
    snapshot: &mut Transaction<'_, Postgres>,
) -> Result<ShardSums, ApiError> {
    // sum(bigint) is numeric, which goes by text into 128 bits.
    let (accounts, opened_with, balance, unexplained_accounts): (i64, String, String, i64) =
        sqlx::query_as(
            "SELECT count(*), coalesce(sum(initial_balance), 0)::text, \
                    coalesce(sum(balance), 0)::text, \
                    count(*) FILTER (WHERE balance <> initial_balance + coalesce(moved, 0)) \
             FROM accounts LEFT JOIN \
                  (SELECT account, sum(amount) AS moved FROM transfers GROUP BY account) AS sums \
                  ON account = id",
        )
        .fetch_one(&mut **snapshot)
        .await
        .map_err(|error| shard.failed(&error))?;
    let (debits, credits): (i64, i64) = sqlx::query_as(
        "SELECT count(*) FILTER (WHERE amount < 0), count(*) FILTER (WHERE amount > 0) \
         FROM transfers",
    )
    .fetch_one(&mut **snapshot)
    .await
    .map_err(|error| shard.failed(&error))?;
    let number = |text: String| {
        text.parse()
            .map_err(|_| outcome::defect(&"a sum over 128 bits"))
    };
    Ok(ShardSums {
        shard: shard.name.clone(),
        accounts,
        opened_with: number(opened_with)?,
        balance: number(balance)?,
        debits,
        credits,
        unexplained_accounts,
    })
}
