//! What is looked at when the faults are over, before anything is judged.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::arena::{Arena, SHARDS};
use crate::bank::DATABASE;
use crate::error::ChaosError;
use crate::pulse::Kept;
use crate::verify::{Ending, Seen};
use crate::workload::calm_transfer;

/// Everything is resolved within this, once all is back: connections that hang are noticed after
/// some seconds, a branch whose coordinator was never seen here waits for `in_doubt_after_ms`
/// (R15), and questions are repeated with pauses.
const RESOLVED_WITHIN: Duration = Duration::from_secs(20);
const CALM_TRANSFERS: i64 = 20;
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Waits until nothing is prepared, then makes transfers that nothing disturbs.
pub(super) async fn ending(
    arena: &Arc<Arena>,
    seen: Seen,
    kept: Option<Kept>,
) -> Result<Ending, ChaosError> {
    let at_rest_after = rest(arena).await?;
    let (calm, calm_failures) = calm(arena).await?;
    Ok(Ending {
        at_rest_after,
        calm,
        calm_failures,
        seen,
        kept,
    })
}

/// Waits until nothing of Gavel's is prepared.
async fn rest(arena: &Arc<Arena>) -> Result<Option<Duration>, ChaosError> {
    let began = Instant::now();
    while began.elapsed() < RESOLVED_WITHIN {
        let prepared = arena
            .on_primaries(|servers| {
                let mut count = 0;
                for server in servers {
                    let sql = "SELECT 1 FROM pg_prepared_xacts WHERE gid LIKE 'gavel:dev:%'";
                    count += server.sql(DATABASE, sql)?.len();
                }
                Ok(count)
            })
            .await?;
        if prepared == 0 {
            return Ok(Some(began.elapsed()));
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    Ok(None)
}

/// Transfers one after the other, through each coordinator, with each home.
async fn calm(arena: &Arc<Arena>) -> Result<(usize, Vec<String>), ChaosError> {
    let clients = [arena.client(&[0]).await?, arena.client(&[1]).await?];
    let mut failures = Vec::new();
    let mut count = 0;
    for number in 0..CALM_TRANSFERS {
        for client in &clients {
            let home = usize::try_from(number).unwrap_or_default() % SHARDS;
            let outcome = calm_transfer(arena, client, home, number).await;
            count += 1;
            if !outcome.is_committed() {
                failures.push(outcome.to_string());
            }
        }
    }
    Ok((count, failures))
}

/// How many members the largest batch had that is recorded anywhere.
pub(super) async fn largest_batch(arena: &Arc<Arena>) -> Result<u64, ChaosError> {
    arena
        .on_primaries(|servers| {
            let mut largest = 0;
            for server in servers {
                let sql = "SELECT count(*) FROM gavel.transaction GROUP BY batch";
                let rows = server.sql(DATABASE, sql)?;
                let sizes = rows
                    .iter()
                    .filter_map(|row| row[0].as_deref()?.parse().ok());
                largest = sizes.chain([largest]).max().unwrap_or_default();
            }
            Ok(largest)
        })
        .await
}

/// Ends the deployment.
pub(super) async fn stop(arena: Arc<Arena>) -> Result<(), ChaosError> {
    let stopped = tokio::task::spawn_blocking(move || drop(arena));
    stopped.await.map_err(ChaosError::Panicked)
}
