//! The auditor that runs by itself (R16): every participant audits what its own shard holds.
//!
//! A full audit reads everything that is kept: at start, and a few times a day. In between, what
//! happened within the last hours is audited again and again: a failover that lost data breaks
//! what was fine when it was last looked at, and what it loses is recent. It reads page by page
//! and rests in between, on the service connections, so the hot path does not feel it.
//!
//! Failure model: nothing is remembered but what is in `gavel.damage`. A shard that does not
//! answer is said to be not audited, and asked again at the next round.

use std::time::{Duration, Instant};

use gavel_protocol::{BatchId, ShardTag};

use super::{AuditReport, audit_shard, record};
use crate::api::Directory;
use crate::metrics::Meters;
use crate::service_pool::{ServiceError, ServicePool};

/// How often everything is read, instead of what is recent.
const FULL_EVERY: Duration = Duration::from_secs(6 * 60 * 60);

/// What counts as recent, by the database's clock. Ids are minted by coordinators, whose clocks
/// may be off; beyond this, only the full audit sees their batches.
const RECENT_MS: u64 = 2 * 60 * 60 * 1000;

/// Rest between two pages of 500 rows.
const PAGE_PAUSE: Duration = Duration::from_millis(20);

/// The running auditor. Dropping it stops it.
pub struct AuditTask(tokio::task::JoinHandle<()>);

impl Drop for AuditTask {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Audits the shard `tag`, whose database is behind `pool`, now and every `audit_interval_ms`.
pub fn start(pool: ServicePool, tag: ShardTag, meters: Meters, directory: Directory) -> AuditTask {
    AuditTask(tokio::spawn(async move {
        let every = Duration::from_millis(pool.limits().audit_interval_ms);
        let mut full_at: Option<Instant> = None;
        loop {
            let is_full = full_at.is_none_or(|at| at.elapsed() >= FULL_EVERY);
            match round(&pool, tag, &meters, &directory, is_full).await {
                Ok(report) if report.not_audited.is_empty() => {
                    tracing::debug!(is_full, ?report, "audited");
                    meters.audit_succeeded.now();
                    if is_full {
                        full_at = Some(Instant::now());
                    }
                }
                Ok(report) => {
                    tracing::warn!(not_audited = ?report.not_audited, "the audit is not complete");
                }
                Err(error) => {
                    let detail = error.detail();
                    tracing::warn!(detail, "the audit failed; trying again");
                }
            }
            tokio::time::sleep(every).await;
        }
    }))
}

/// One round; what it finds is recorded.
async fn round(
    pool: &ServicePool,
    tag: ShardTag,
    meters: &Meters,
    directory: &Directory,
    is_full: bool,
) -> Result<AuditReport, ServiceError> {
    let after = match is_full {
        true => None,
        false => Some(recent(pool).await?),
    };
    let report = audit_shard(directory, tag, after, PAGE_PAUSE).await;
    meters
        .audit_rows
        .increment(report.branches + report.decisions);
    for finding in &report.damage {
        if record(pool, finding).await? {
            meters.damaged(finding.kind);
        }
    }
    Ok(report)
}

/// The batch id from which on everything is recent.
async fn recent(pool: &ServicePool) -> Result<BatchId, ServiceError> {
    let now = "SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint";
    let rows = pool.session().await?.query(now, &[]).await?;
    let now_ms: i64 = rows.first().map_or(0, |row| row.get(0));
    let now_ms = u64::try_from(now_ms).unwrap_or(0);
    Ok(BatchId::mint(now_ms.saturating_sub(RECENT_MS), [0; 16]))
}
