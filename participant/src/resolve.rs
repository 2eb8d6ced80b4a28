//! The register, seen from home: what was decided about a batch, and forcing it if nothing was.
//!
//! Purpose: answer resolvers, drivers and the auditor about `gavel.decision` of this shard.
//!
//! Invariants:
//! - Forcing is two statements in READ COMMITTED, insert and then select (R7): the select has a
//!   snapshot of its own, so it sees the row that made the insert do nothing. The insert waits
//!   for a decide in flight (facts 17), at most `resolve_lock_timeout_ms` at a time.
//! - No decision leaves this module before a barrier on the session that read it (R6).
//! - Another incarnation is never "no row" (R13): it is an answer of its own, with an alarm, and
//!   only the database gives it.
//!
//! Failure model: whatever else goes wrong is [`RegisterAnswer::Unreachable`], which proves nothing.
//! Dying between insert and select leaves an abort row, which is what the next resolver reads.

use gavel_protocol::message::{BranchRow, DecisionRow, RegisterAnswer};
use gavel_protocol::{BatchId, Incarnation};
use uuid::Uuid;

use crate::crash_point;
use crate::rows;
use crate::service_pool::{ServiceClient, ServiceError, ServicePool};

/// How often a forced row is looked for before home counts as unreachable.
const READS_MAX: u32 = 3;

/// SQLSTATEs that the functions of the `gavel` schema raise.
pub(crate) mod code {
    /// The caller knows another incarnation.
    pub(crate) const INCARNATION: &str = "GV001";
    /// The id is below a floor.
    pub(crate) const BELOW_FLOOR: &str = "GV002";
    /// There is no partition for the id.
    pub(crate) const NO_PARTITION: &str = "GV005";
    /// PostgreSQL: a lock was not to be had in time.
    pub(crate) const LOCK_NOT_AVAILABLE: &str = "55P03";
}

/// The decision on `batch`, forced to `abort` if there is none yet.
pub async fn resolve(
    pool: &ServicePool,
    batch: BatchId,
    incarnation: Incarnation,
) -> RegisterAnswer {
    // Most batches in doubt are decided already: no need to be counted among those that wait.
    match look(pool, batch, incarnation).await {
        Ok(Some(row)) => RegisterAnswer::Decision(row.decision),
        Ok(None) => match force(pool, batch, incarnation).await {
            Ok(row) => RegisterAnswer::Decision(row.decision),
            Err(error) => refused(batch, &error),
        },
        Err(error) => refused(batch, &error),
    }
}

async fn look(
    pool: &ServicePool,
    batch: BatchId,
    incarnation: Incarnation,
) -> Result<Option<DecisionRow>, ServiceError> {
    let session = pool.session().await?;
    if identity(&session).await?.incarnation != incarnation {
        // Force: the database refuses it in its own words.
        return Ok(None);
    }
    let row = rows::decisions(&session, &[batch]).await?.pop();
    if row.is_some() {
        session.barrier().await?;
    }
    Ok(row)
}

async fn force(
    pool: &ServicePool,
    batch: BatchId,
    incarnation: Incarnation,
) -> Result<DecisionRow, ServiceError> {
    let _permit = pool.may_wait().await?;
    let session = pool.session().await?;
    crash_point!("participant.resolve.forcing");
    for _ in 0..READS_MAX {
        session
            .query(
                "SELECT gavel.force_abort($1, $2)",
                &[&batch.uuid(), &i64::from(incarnation.0)],
            )
            .await?;
        // Dying here: the abort may be committed; nobody was told.
        crash_point!("participant.resolve.forced");
        if let Some(row) = rows::decisions(&session, &[batch]).await?.pop() {
            session.barrier().await?;
            return Ok(row);
        }
    }
    Err(ServiceError::Content(format!(
        "batch {batch} has no decision although one was forced"
    )))
}

/// What a failed resolution means.
fn refused(batch: BatchId, error: &ServiceError) -> RegisterAnswer {
    let detail = match error.sqlstate() {
        Some(code::BELOW_FLOOR) => return RegisterAnswer::BelowFloor,
        Some(code::INCARNATION) => {
            let detail = error.detail();
            tracing::error!(%batch, detail, "home is in another incarnation than the branch names");
            return RegisterAnswer::OtherIncarnation {
                detail: format!("home is in another incarnation: {detail}"),
            };
        }
        Some(code::LOCK_NOT_AVAILABLE) => "home is still deciding the batch".to_owned(),
        _ => error.detail(),
    };
    RegisterAnswer::Unreachable { detail }
}

/// The decisions on these batches, without forcing any; one answer per batch, in order, behind
/// one barrier.
pub async fn look_up_decisions(pool: &ServicePool, batches: &[BatchId]) -> Vec<RegisterAnswer> {
    match try_look_up_decisions(pool, batches).await {
        Ok(answers) => answers,
        Err(error) => {
            let detail = error.detail();
            let answer = RegisterAnswer::Unreachable { detail };
            vec![answer; batches.len()]
        }
    }
}

async fn try_look_up_decisions(
    pool: &ServicePool,
    batches: &[BatchId],
) -> Result<Vec<RegisterAnswer>, ServiceError> {
    let session = pool.session().await?;
    let found = rows::decisions(&session, batches).await?;
    // After the rows: what is dropped in between must not look like "no row".
    let dropped = identity(&session).await?.dropped_floor;
    session.barrier().await?;
    let answer = |batch: &BatchId| match found.iter().find(|row| row.batch == *batch) {
        Some(row) => RegisterAnswer::Decision(row.decision.clone()),
        None if batch.uuid() < dropped => RegisterAnswer::BelowFloor,
        None => RegisterAnswer::NoRow,
    };
    Ok(batches.iter().map(answer).collect())
}

/// Which of these batches have a branch row here, behind a barrier.
///
/// # Errors
/// See [`ServiceError`].
pub async fn look_up_branches(
    pool: &ServicePool,
    batches: &[BatchId],
) -> Result<Vec<BranchRow>, ServiceError> {
    let session = pool.session().await?;
    let found = rows::branches(&session, batches).await?;
    session.barrier().await?;
    Ok(found)
}

/// What matters here of the shard's identity row.
pub(crate) struct IdentityRow {
    pub(crate) incarnation: Incarnation,
    pub(crate) floor: Uuid,
    pub(crate) dropped_floor: Uuid,
}

pub(crate) async fn identity(session: &ServiceClient) -> Result<IdentityRow, ServiceError> {
    let rows = session
        .query(
            "SELECT incarnation, floor, dropped_floor FROM gavel.whoami()",
            &[],
        )
        .await?;
    let row = rows
        .first()
        .ok_or_else(|| ServiceError::Content("gavel.identity is empty".to_owned()))?;
    Ok(IdentityRow {
        incarnation: rows::incarnation(row.get(0))?,
        floor: row.get(1),
        dropped_floor: row.get(2),
    })
}
