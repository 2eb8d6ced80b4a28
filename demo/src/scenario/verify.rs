//! The count at the end: plain SQL on every shard, compared with what the clients were told.

use std::collections::HashMap;
use std::time::Duration;

use gavel_protocol::Gid;
use serde::Serialize;
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use super::load::{Acknowledged, Done};
use super::stage::Stage;

/// Later than any resolution is promised.
const REST_LIMIT: Duration = Duration::from_secs(15);
const PAUSE: Duration = Duration::from_millis(50);

/// What was found on the shards.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(super) struct Found {
    pub(super) money_after: i128,
    /// Acknowledged transfers that are not complete on both sides.
    pub(super) acknowledged_missing: u64,
    /// Transfers with one side only.
    pub(super) half: u64,
    /// Transfers that were called not done, and have rows.
    pub(super) aborted_but_done: u64,
    /// Complete transfers that nobody was told of.
    pub(super) done_but_never_told: u64,
    /// Accounts whose balance their transfers do not explain.
    pub(super) unexplained_balances: i64,
    /// Branches still prepared.
    pub(super) left_prepared: u64,
    /// Rows in `gavel.damage`.
    pub(super) damage: i64,
}

/// A row of `transfers`: account, counterparty, amount.
type Side = (Uuid, Uuid, i64);

/// Counts everything.
pub(super) async fn verify(stage: &Stage, done: &Done) -> anyhow::Result<Found> {
    let left_prepared = wait_for_rest(stage).await?;
    let mut sides = read_sides(stage).await?;
    let mut found = Found {
        money_after: stage.direct.money().await?,
        left_prepared,
        ..Found::default()
    };
    for transfer in &done.committed {
        let rows = sides.remove(&transfer.txid).unwrap_or_default();
        found.acknowledged_missing += u64::from(!is_whole(transfer, &rows));
        found.half += u64::from(rows.len() == 1);
    }
    for txid in &done.aborted {
        found.aborted_but_done += u64::from(sides.remove(txid).is_some());
    }
    for rows in sides.values() {
        found.half += u64::from(rows.len() == 1);
        found.done_but_never_told += u64::from(rows.len() != 1);
    }
    for shard in stage.direct.shards() {
        found.unexplained_balances += sqlx::query_scalar::<_, i64>(
            "SELECT count(*) FROM accounts LEFT JOIN \
                    (SELECT account, sum(amount) AS moved FROM transfers GROUP BY account) AS sums \
                    ON account = id \
             WHERE balance <> initial_balance + coalesce(moved, 0)",
        )
        .fetch_one(&shard.pool)
        .await?;
        found.damage += sqlx::query_scalar::<_, i64>("SELECT count(*) FROM gavel.damage")
            .fetch_one(&shard.pool)
            .await?;
    }
    Ok(found)
}

/// Waits until nothing is prepared; tells how much still is.
async fn wait_for_rest(stage: &Stage) -> anyhow::Result<u64> {
    let deadline = Instant::now() + REST_LIMIT;
    loop {
        let mut prepared: Vec<Gid> = Vec::new();
        for shard in 0..stage.direct.shards().len() {
            prepared.extend(stage.direct.prepared(shard).await?);
        }
        if prepared.is_empty() || Instant::now() > deadline {
            return Ok(prepared.len() as u64);
        }
        sleep(PAUSE).await;
    }
}

async fn read_sides(stage: &Stage) -> anyhow::Result<HashMap<Uuid, Vec<Side>>> {
    let mut sides: HashMap<Uuid, Vec<Side>> = HashMap::new();
    for shard in stage.direct.shards() {
        let rows: Vec<(Uuid, Uuid, Uuid, i64)> =
            sqlx::query_as("SELECT txid, account, counterparty, amount FROM transfers")
                .fetch_all(&shard.pool)
                .await?;
        for (txid, account, counterparty, amount) in rows {
            sides
                .entry(txid)
                .or_default()
                .push((account, counterparty, amount));
        }
    }
    Ok(sides)
}

fn is_whole(transfer: &Acknowledged, rows: &[Side]) -> bool {
    let Acknowledged {
        txid: _,
        from,
        to,
        amount,
    } = *transfer;
    rows.len() == 2 && rows.contains(&(from, to, -amount)) && rows.contains(&(to, from, amount))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transfer_is_whole_with_both_its_sides_only() {
        let [txid, from, to] = [1, 2, 3].map(Uuid::from_u128);
        let transfer = Acknowledged {
            txid,
            from,
            to,
            amount: 5,
        };
        let (debit, credit) = ((from, to, -5), (to, from, 5));
        assert!(is_whole(&transfer, &[debit, credit]));
        assert!(is_whole(&transfer, &[credit, debit]));
        for wrong in [
            vec![],
            vec![debit],
            vec![credit],
            vec![debit, debit],
            vec![debit, (to, from, 6)],
            vec![debit, credit, credit],
        ] {
            assert!(!is_whole(&transfer, &wrong), "{wrong:?}");
        }
    }
}
