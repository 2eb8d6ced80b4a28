//! Looks again for the missing sides of transfers that were seen on one side only.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::pairs::Half;
use crate::bank::Bank;
use crate::error::ApiError;

/// Longer than the second half of a commit takes, also with a shard that has just been down.
const PATIENCE: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(50);

/// Those that stay on one side.
pub(super) async fn still_one_sided(bank: &Bank, halves: &[Half]) -> Result<Vec<Half>, ApiError> {
    let deadline = Instant::now() + PATIENCE;
    let mut missing: Vec<&Half> = halves.iter().collect();
    loop {
        let mut still = Vec::new();
        for half in missing {
            if !other_side_exists(bank, half).await? {
                still.push(half);
            }
        }
        missing = still;
        if missing.is_empty() || Instant::now() >= deadline {
            return Ok(missing.into_iter().cloned().collect());
        }
        sleep(PAUSE).await;
    }
}

async fn other_side_exists(bank: &Bank, half: &Half) -> Result<bool, ApiError> {
    let shard = bank.shard_of(half.counterparty);
    let amount = i64::try_from(-half.amount).unwrap_or(0);
    sqlx::query_scalar(
        "SELECT EXISTS (SELECT FROM transfers \
         WHERE txid = $1 AND account = $2 AND counterparty = $3 AND amount = $4)",
    )
    .bind(half.txid)
    .bind(half.counterparty)
    .bind(half.account)
    .bind(amount)
    .fetch_one(&shard.pool)
    .await
    .map_err(|error| shard.failed(&error))
}
