//! Retention (R14): partitions ahead of time, and dropping whole days that nobody needs.
//!
//! Every participant runs [`cycle`] for its own shard. The steps and why they are safe in this
//! order:
//!
//! 1. partitions for the coming days;
//! 2. the floor rises to `now - retention`, by the database's clock: from its commit on, decide,
//!    submit and abort below it are refused;
//! 3. every shard is asked whether it holds a prepared branch of ours from below the floor, and
//!    every commit decision from below it must show its branch row on every shard that it names;
//! 4. only then the *verified floor* rises. A decide that had read the old floor is waited for;
//! 5. branch rows are dropped up to the lowest verified floor of all homes: none of them will
//!    ask again;
//! 6. decisions are dropped up to the lowest branch floor of all shards: no row is left that
//!    the auditor would compare with them.
//!
//! Invariants: floors only rise. One shard that does not answer stops steps 4 to 6 everywhere
//! that it matters, and nothing else.
//!
//! Failure model: every step is a transaction of its own, and each may be the last: the next
//! cycle goes on from the floors that are recorded.

mod ahead;

use std::time::Duration;

use gavel_protocol::message::{Decision, Retention};
use gavel_protocol::{BatchId, Limits, ShardTag};

pub use self::ahead::{Ahead, Droppable, droppable, look_ahead};
use crate::api::{Directory, Unavailable};
use crate::crash_point;
use crate::rows;
use crate::service_pool::{ServiceError, ServicePool};
use crate::shard::Shard;

const DAY_MS: u64 = 24 * 60 * 60 * 1000;

/// How often a participant runs a cycle. Partitions exist days ahead, so a few failures in a row
/// do no harm.
const CYCLE_EVERY: Duration = Duration::from_secs(6 * 60 * 60);

/// The first pause after a cycle that could not finish, which doubles: when a whole fleet starts,
/// participants wait for each other.
const RETRY_FIRST: Duration = Duration::from_secs(2);

/// The longest.
const RETRY_LONGEST: Duration = Duration::from_secs(10 * 60);

/// Decisions compared at a time.
const PAGE: u32 = 500;

/// What a cycle did.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CycleReport {
    /// Days of partitions created.
    pub days_created: u32,
    /// Branch partitions dropped.
    pub branch_partitions_dropped: u32,
    /// Decision and transaction partitions dropped.
    pub decision_partitions_dropped: u32,
    /// Where the floors are now.
    pub floors: Retention,
    /// Why the cycle could not go further, if it could not.
    pub waits_for: Option<String>,
}

/// A cycle failed at its own shard.
#[derive(Debug, thiserror::Error)]
#[error("retention failed at `{step}`")]
pub struct RetentionError {
    /// Which step.
    pub step: &'static str,
    /// Why.
    #[source]
    pub source: ServiceError,
}

fn at(step: &'static str) -> impl Fn(ServiceError) -> RetentionError {
    move |source| RetentionError { step, source }
}

/// Runs one cycle for the shard `tag`, whose database is behind `pool`.
///
/// # Errors
/// [`RetentionError`] if its own database fails. What other shards hold up is in the report.
pub async fn cycle(
    pool: &ServicePool,
    tag: ShardTag,
    directory: &Directory,
) -> Result<CycleReport, RetentionError> {
    let mut report = CycleReport {
        days_created: ensure_partitions(pool).await.map_err(at("partitions"))?,
        ..CycleReport::default()
    };
    raise_floor(pool).await.map_err(at("floor"))?;
    let floors = rows::retention(pool).await.map_err(at("floors"))?;
    if floors.verified_floor_ms < floors.floor_ms {
        match verify(tag, directory, floors).await {
            Ok(()) => set_verified_floor(pool, floors.floor_ms)
                .await
                .map_err(at("verified floor"))?,
            Err(why) => report.waits_for = Some(why),
        }
    }
    if let Err(why) = drop_old(pool, directory, &mut report).await? {
        report.waits_for.get_or_insert(why);
    }
    report.floors = rows::retention(pool).await.map_err(at("floors"))?;
    Ok(report)
}

/// The running background task. Dropping it stops the cycles.
pub struct RetentionTask(tokio::task::JoinHandle<()>);

impl Drop for RetentionTask {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Runs a cycle now and a few times a day.
pub(crate) fn start(shard: &Shard, pool: ServicePool, directory: Directory) -> RetentionTask {
    let (tag, meters) = (shard.tag(), shard.meters.clone());
    RetentionTask(tokio::spawn(async move {
        let mut retry = RETRY_FIRST;
        loop {
            let is_done = match cycle(&pool, tag, &directory).await {
                Ok(report) if report.waits_for.is_none() => {
                    tracing::debug!(?report, "retention");
                    meters.retention_succeeded.now();
                    meters.retention_partitions.increment(u64::from(
                        report.branch_partitions_dropped + report.decision_partitions_dropped,
                    ));
                    true
                }
                Ok(report) => {
                    tracing::warn!(?report, "retention waits");
                    false
                }
                Err(error) => {
                    let detail = error.source.detail();
                    tracing::warn!(step = error.step, detail, "retention failed; trying again");
                    false
                }
            };
            if is_done {
                retry = RETRY_FIRST;
                tokio::time::sleep(CYCLE_EVERY).await;
            } else {
                tokio::time::sleep(retry).await;
                retry = (retry * 2).min(RETRY_LONGEST);
            }
        }
    }))
}

async fn ensure_partitions(pool: &ServicePool) -> Result<u32, ServiceError> {
    let ahead = i32::try_from(pool.limits().partition_days_ahead).unwrap_or(i32::MAX);
    let rows = pool
        .session()
        .await?
        .query(
            "SELECT gavel.ensure_partitions($1, $2)",
            &[&gavel_migrations::PARTITION_DAYS_BACK, &ahead],
        )
        .await?;
    Ok(count(rows.first()))
}

/// Raises the floor to the start of the day that `retention` ended in, by the database's clock.
/// Partitions are days: a finer floor would be more commits for the same drop.
async fn raise_floor(pool: &ServicePool) -> Result<(), ServiceError> {
    let floor_ms = floor_ms(database_ms(pool).await?, pool.limits());
    crash_point!("participant.retention.raising");
    call(pool, "SELECT gavel.raise_floor($1)", floor_ms).await?;
    crash_point!("participant.retention.raised");
    Ok(())
}

/// The database's clock, in Unix milliseconds.
async fn database_ms(pool: &ServicePool) -> Result<u64, ServiceError> {
    let session = pool.session().await?;
    let sql = "SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint";
    let rows = session.query(sql, &[]).await?;
    let now_ms: i64 = rows.first().map_or(0, |row| row.get(0));
    Ok(u64::try_from(now_ms).unwrap_or(0))
}

async fn set_verified_floor(pool: &ServicePool, floor_ms: u64) -> Result<(), ServiceError> {
    crash_point!("participant.retention.verifying");
    call(pool, "SELECT gavel.set_verified_floor($1)", floor_ms).await?;
    crash_point!("participant.retention.verified");
    Ok(())
}

fn floor_ms(now_ms: u64, limits: &Limits) -> u64 {
    let kept_from = now_ms.saturating_sub(limits.retention_ms);
    kept_from - kept_from % DAY_MS
}

/// Whether everything below our floor is over on every shard. The error says what is not.
async fn verify(tag: ShardTag, directory: &Directory, floors: Retention) -> Result<(), String> {
    for (peer, participant) in directory.iter() {
        let prepared = participant.in_doubt().await.map_err(unavailable)?;
        let ours = |gid: &gavel_protocol::Gid| gid.home == tag;
        let older = prepared
            .iter()
            .find(|each| ours(&each.gid) && each.gid.batch.unix_ms() < floors.floor_ms);
        if let Some(branch) = older {
            return Err(format!("{} is still prepared on shard {peer}", branch.gid));
        }
    }
    let own = directory
        .shard(tag)
        .ok_or_else(|| format!("shard {tag} is not in its own directory"))?;
    let mut after = just_below(floors.verified_floor_ms);
    loop {
        let page = own.page_decisions(after, PAGE).await.map_err(unavailable)?;
        let Some(last) = page.last() else {
            return Ok(());
        };
        after = Some(last.batch);
        let done = last.batch.unix_ms() >= floors.floor_ms;
        for row in page {
            if let Decision::Commit { prepared } = row.decision
                && row.batch.unix_ms() < floors.floor_ms
            {
                is_applied(directory, row.batch, prepared).await?;
            }
        }
        if done {
            return Ok(());
        }
    }
}

async fn is_applied(
    directory: &Directory,
    batch: BatchId,
    shards: Vec<ShardTag>,
) -> Result<(), String> {
    for shard in shards {
        let participant = directory
            .shard(shard)
            .ok_or_else(|| format!("batch {batch} names shard {shard}, which is not configured"))?;
        let rows = participant
            .look_up_branches(vec![batch])
            .await
            .map_err(unavailable)?;
        if rows.is_empty() {
            return Err(format!("batch {batch} is not applied on shard {shard}"));
        }
    }
    Ok(())
}

/// The greatest batch id from before `ms`.
fn just_below(ms: u64) -> Option<BatchId> {
    ms.checked_sub(1).map(|ms| BatchId::mint(ms, [0xff; 16]))
}

/// Steps 5 and 6. The inner error says what they wait for.
async fn drop_old(
    pool: &ServicePool,
    directory: &Directory,
    report: &mut CycleReport,
) -> Result<Result<(), String>, RetentionError> {
    let verified = match lowest(directory, |floors| floors.verified_floor_ms).await {
        Ok(ms) => ms,
        Err(why) => return Ok(Err(why)),
    };
    crash_point!("participant.retention.dropping_branches");
    match drop_days(pool, "SELECT gavel.drop_branch_partitions($1)", verified).await {
        Ok(dropped) => report.branch_partitions_dropped = dropped,
        Err(error) if is_held(&error) => return Ok(Err(error.detail())),
        Err(error) => return Err(at("dropping branch rows")(error)),
    }
    crash_point!("participant.retention.branches_dropped");
    let dropped = match lowest(directory, |floors| floors.branch_floor_ms).await {
        Ok(ms) => ms,
        Err(why) => return Ok(Err(why)),
    };
    crash_point!("participant.retention.dropping_decisions");
    // Our own verified floor is at least the lowest of all, up to which branch rows are gone.
    match drop_days(pool, "SELECT gavel.drop_decision_partitions($1)", dropped).await {
        Ok(dropped) => report.decision_partitions_dropped = dropped,
        Err(error) if is_held(&error) => return Ok(Err(error.detail())),
        Err(error) => return Err(at("dropping decisions")(error)),
    }
    crash_point!("participant.retention.decisions_dropped");
    Ok(Ok(()))
}

/// In use at the moment: 55P03 lock not available, 55006 object in use.
fn is_held(error: &ServiceError) -> bool {
    matches!(error.sqlstate(), Some("55P03" | "55006"))
}

async fn lowest(directory: &Directory, of: fn(Retention) -> u64) -> Result<u64, String> {
    let mut lowest = u64::MAX;
    for (_, participant) in directory.iter() {
        lowest = lowest.min(of(participant.retention().await.map_err(unavailable)?));
    }
    Ok(lowest)
}

async fn drop_days(
    pool: &ServicePool,
    sql: &'static str,
    below_ms: u64,
) -> Result<u32, ServiceError> {
    if below_ms == 0 || below_ms == u64::MAX {
        return Ok(0);
    }
    let session = pool.session().await?;
    let rows = session.query(sql, &[&rows::floor_at(below_ms)]).await?;
    Ok(count(rows.first()))
}

async fn call(pool: &ServicePool, sql: &'static str, floor_ms: u64) -> Result<(), ServiceError> {
    let session = pool.session().await?;
    session.query(sql, &[&rows::floor_at(floor_ms)]).await?;
    // A floor that others act on must not be lost again.
    session.barrier().await
}

fn count(row: Option<&tokio_postgres::Row>) -> u32 {
    row.map_or(0, |row| u32::try_from(row.get::<_, i32>(0)).unwrap_or(0))
}

fn unavailable(error: Unavailable) -> String {
    error.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r14_the_floor_is_the_start_of_a_day() {
        let limits = Limits {
            retention_ms: 2 * DAY_MS,
            ..Limits::default()
        };
        assert_eq!(floor_ms(10 * DAY_MS + 5, &limits), 8 * DAY_MS);
        assert_eq!(floor_ms(11 * DAY_MS - 1, &limits), 8 * DAY_MS);
        assert_eq!(floor_ms(DAY_MS, &limits), 0);
    }

    #[test]
    fn r14_no_decision_of_a_day_is_skipped() {
        let first = BatchId::mint(DAY_MS, [0; 16]);
        let last_before = BatchId::mint(DAY_MS - 1, [0xff; 16]);
        let after = just_below(DAY_MS).expect("not the first");
        assert!(after < first && after >= last_before);
        assert_eq!(just_below(0), None);
    }
}
