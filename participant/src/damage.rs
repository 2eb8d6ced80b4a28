//! Damage: broken atomicity, as found by resolution and by the auditor (R16).
//!
//! It is recorded in `gavel.damage` of the shard that shows it, once per batch and kind, and
//! raised as an ERROR event, because a person must act: Gavel never repairs it by itself.

use gavel_protocol::recovery::DamageKind;
use gavel_protocol::{BatchId, Gid};

use crate::service_pool::{ServiceError, ServicePool};

/// A finding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// The batch.
    pub batch: BatchId,
    /// The branch, if its full name is known.
    pub gid: Option<Gid>,
    /// What is broken.
    pub kind: DamageKind,
    /// The evidence, for people.
    pub detail: String,
}

/// Raises an alarm and records `damage`. True if it was not known before.
///
/// # Errors
/// See [`ServiceError`]; the alarm is raised in any case.
pub async fn record(pool: &ServicePool, damage: &Damage) -> Result<bool, ServiceError> {
    let gid = damage.gid.as_ref().map(ToString::to_string);
    let kind = damage.kind.as_str();
    tracing::error!(batch = %damage.batch, gid, kind, detail = damage.detail, "atomicity is broken");
    let rows = pool
        .session()
        .await?
        .query(
            "SELECT gavel.record_damage($1, $2, $3, $4)",
            &[&damage.batch.uuid(), &gid, &kind, &damage.detail],
        )
        .await?;
    Ok(rows.first().is_some_and(|row| row.get(0)))
}
