//! Rows of the `gavel` schema, decoded.
//!
//! What the database holds is checked like any other input: a row that no version of Gavel
//! writes is an error with the row in its text, never a panic and never a guess.

use gavel_protocol::message::{BranchRow, Decision, DecisionRow, Retention};
use gavel_protocol::{BatchId, Incarnation, ShardTag};
use tokio_postgres::Row;
use uuid::Uuid;

use crate::service_pool::{ServiceClient, ServiceError, ServicePool};

/// Decisions with these ids, in no order; those without a row are missing.
pub(crate) async fn decisions(
    session: &ServiceClient,
    batches: &[BatchId],
) -> Result<Vec<DecisionRow>, ServiceError> {
    let rows = session
        .query(
            "SELECT batch, outcome, shards FROM gavel.read_decisions($1)",
            &[&uuids(batches)],
        )
        .await?;
    rows.iter().map(decision).collect()
}

/// Branch rows of these batches, in no order; those without a row are missing.
pub(crate) async fn branches(
    session: &ServiceClient,
    batches: &[BatchId],
) -> Result<Vec<BranchRow>, ServiceError> {
    let rows = session
        .query(
            "SELECT batch, home_tag, home_incarnation FROM gavel.applied_branches($1)",
            &[&uuids(batches)],
        )
        .await?;
    rows.iter().map(branch).collect()
}

/// Decisions after `after`, in order, at most `limit`. For the auditor.
///
/// # Errors
/// See [`ServiceError`].
pub async fn page_decisions(
    pool: &ServicePool,
    after: Option<BatchId>,
    limit: u32,
) -> Result<Vec<DecisionRow>, ServiceError> {
    let session = pool.session().await?;
    let rows = session
        .query(
            "SELECT batch, outcome, shards FROM gavel.page_decisions($1, $2)",
            &[&after.map(BatchId::uuid), &page_size(limit)],
        )
        .await?;
    session.barrier().await?;
    rows.iter().map(decision).collect()
}

/// Branch rows after `after`, in order, at most `limit`. For the auditor.
///
/// # Errors
/// See [`ServiceError`].
pub async fn page_branches(
    pool: &ServicePool,
    after: Option<BatchId>,
    limit: u32,
) -> Result<Vec<BranchRow>, ServiceError> {
    let session = pool.session().await?;
    let rows = session
        .query(
            "SELECT batch, home_tag, home_incarnation FROM gavel.page_branches($1, $2)",
            &[&after.map(BatchId::uuid), &page_size(limit)],
        )
        .await?;
    session.barrier().await?;
    rows.iter().map(branch).collect()
}

/// How far retention has gone here.
///
/// # Errors
/// See [`ServiceError`].
pub async fn retention(pool: &ServicePool) -> Result<Retention, ServiceError> {
    let session = pool.session().await?;
    let rows = session
        .query(
            "SELECT floor, verified_floor, branch_floor, dropped_floor FROM gavel.whoami()",
            &[],
        )
        .await?;
    let row = rows
        .first()
        .ok_or_else(|| ServiceError::Content("gavel.identity is empty".to_owned()))?;
    session.barrier().await?;
    Ok(Retention {
        floor_ms: unix_ms(row.get(0)),
        verified_floor_ms: unix_ms(row.get(1)),
        branch_floor_ms: unix_ms(row.get(2)),
        dropped_floor_ms: unix_ms(row.get(3)),
    })
}

/// The time of a floor, which is a UUID with nothing but a time in it.
fn unix_ms(floor: Uuid) -> u64 {
    u64::try_from(floor.as_u128() >> 80).expect("48 bits")
}

/// The floor of a time.
pub(crate) fn floor_at(unix_ms: u64) -> Uuid {
    Uuid::from_u128(u128::from(unix_ms) << 80)
}

pub(crate) fn uuids(batches: &[BatchId]) -> Vec<Uuid> {
    batches.iter().map(|batch| batch.uuid()).collect()
}

fn page_size(limit: u32) -> i32 {
    i32::try_from(limit).unwrap_or(i32::MAX)
}

fn decision(row: &Row) -> Result<DecisionRow, ServiceError> {
    let batch = batch_id(row.get(0))?;
    let outcome: &str = row.get(1);
    let shards: Vec<i32> = row.get(2);
    let decision = match outcome {
        "commit" => Decision::Commit {
            prepared: shards.into_iter().map(tag).collect::<Result<_, _>>()?,
        },
        "abort" => Decision::Abort,
        other => {
            let text = format!("decision {batch} has outcome {other:?}");
            return Err(ServiceError::Content(text));
        }
    };
    Ok(DecisionRow { batch, decision })
}

fn branch(row: &Row) -> Result<BranchRow, ServiceError> {
    Ok(BranchRow {
        batch: batch_id(row.get(0))?,
        home: tag(row.get(1))?,
        home_incarnation: incarnation(row.get(2))?,
    })
}

fn batch_id(uuid: Uuid) -> Result<BatchId, ServiceError> {
    BatchId::try_from(uuid).map_err(|_| ServiceError::Content(format!("{uuid} is no batch id")))
}

pub(crate) fn tag(number: i32) -> Result<ShardTag, ServiceError> {
    u16::try_from(number)
        .map(ShardTag)
        .map_err(|_| ServiceError::Content(format!("{number} is no shard tag")))
}

pub(crate) fn incarnation(number: i64) -> Result<Incarnation, ServiceError> {
    u32::try_from(number)
        .map(Incarnation)
        .map_err(|_| ServiceError::Content(format!("{number} is no incarnation")))
}
