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

/// Records `damage`, and raises an alarm if it was not known before; true then. What is found
/// again and again would otherwise hide what is new.
///
/// # Errors
/// See [`ServiceError`]; the alarm is raised then, too.
pub async fn record(pool: &ServicePool, damage: &Damage) -> Result<bool, ServiceError> {
    let recorded = insert(pool, damage).await;
    if !matches!(recorded, Ok(false)) {
        let gid = damage.gid.as_ref().map(ToString::to_string);
        let (kind, detail) = (damage.kind.as_str(), &damage.detail);
        tracing::error!(batch = %damage.batch, gid, kind, detail, "atomicity is broken");
    }
    recorded
}

async fn insert(pool: &ServicePool, damage: &Damage) -> Result<bool, ServiceError> {
    let gid = damage.gid.as_ref().map(ToString::to_string);
    let rows = pool
        .session()
        .await?
        .query(
            "SELECT gavel.record_damage($1, $2, $3, $4)",
            &[
                &damage.batch.uuid(),
                &gid,
                &damage.kind.as_str(),
                &damage.detail,
            ],
        )
        .await?;
    Ok(rows.first().is_some_and(|row| row.get(0)))
}

/// Damage as it is recorded in `gavel.damage`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordedDamage {
    /// Names the record on its shard.
    pub id: i64,
    /// The batch, as PostgreSQL writes it.
    pub batch: String,
    /// The branch, if its full name is known.
    pub gid: Option<String>,
    /// What is broken: a name of [`DamageKind`].
    pub kind: String,
    /// The evidence, for people.
    pub detail: String,
    /// When it was found first, by the database's clock.
    pub seen_at: String,
    /// Who has dealt with it, if anybody has.
    pub acknowledged: Option<Acknowledged>,
}

/// Somebody has dealt with damage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Acknowledged {
    /// When, by the database's clock.
    pub at: String,
    /// The database role.
    pub by: String,
    /// What was done about it.
    pub because: String,
}

/// All damage that is recorded on the shard behind `pool`, oldest first.
///
/// # Errors
/// See [`ServiceError`].
pub async fn list(pool: &ServicePool) -> Result<Vec<RecordedDamage>, ServiceError> {
    let rows = pool
        .session()
        .await?
        .query(
            "SELECT batch::text, gid, kind, detail, seen_at::text, id, acknowledged_at::text, \
                    acknowledged_by, acknowledged_because \
             FROM gavel.list_damage()",
            &[],
        )
        .await?;
    let damage = rows.iter().map(|row| RecordedDamage {
        batch: row.get::<_, Option<String>>(0).unwrap_or_default(),
        gid: row.get(1),
        kind: row.get(2),
        detail: row.get(3),
        seen_at: row.get(4),
        id: row.get(5),
        acknowledged: row.get::<_, Option<String>>(6).map(|at| Acknowledged {
            at,
            by: row.get(7),
            because: row.get(8),
        }),
    });
    Ok(damage.collect())
}
