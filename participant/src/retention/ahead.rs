//! What a cycle would do, without doing any of it: for an operator who looks before he leaps.
//!
//! Only reads. What it says is true of the moment: a lock that keeps a partition from being dropped
//! is not foreseen.

use gavel_protocol::ShardTag;
use gavel_protocol::message::Retention;

use super::{RetentionError, at, count, database_ms, floor_ms, verify};
use crate::api::Directory;
use crate::rows;
use crate::service_pool::{ServiceError, ServicePool};

/// Where the floors of one shard would be after the steps that it does by itself (1 to 4).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ahead {
    /// Below this, nothing would be decided any more.
    pub floor_ms: u64,
    /// Below this, everything would be known to be over on every shard.
    pub verified_floor_ms: u64,
    /// What keeps the verified floor from rising, if anything does.
    pub waits_for: Option<String>,
}

/// Partitions that would be dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Droppable {
    /// Of branch rows.
    pub branch_partitions: u32,
    /// Of decisions and transactions.
    pub decision_partitions: u32,
}

/// How far the shard `tag`, whose database is behind `pool`, would get.
///
/// # Errors
/// [`RetentionError`] if its own database fails.
pub async fn look_ahead(
    pool: &ServicePool,
    tag: ShardTag,
    directory: &Directory,
) -> Result<Ahead, RetentionError> {
    let now_ms = database_ms(pool).await.map_err(at("floor"))?;
    let now = rows::retention(pool).await.map_err(at("floors"))?;
    let floor_ms = floor_ms(now_ms, pool.limits()).max(now.floor_ms);
    let raised = Retention { floor_ms, ..now };
    let waits_for = match now.verified_floor_ms < floor_ms {
        true => verify(tag, directory, raised).await.err(),
        false => None,
    };
    Ok(Ahead {
        floor_ms,
        verified_floor_ms: match waits_for {
            None => floor_ms.max(now.verified_floor_ms),
            Some(_) => now.verified_floor_ms,
        },
        waits_for,
    })
}

/// What the shard behind `pool` would drop, if `below_ms` were the lowest verified floor of all.
///
/// # Errors
/// [`RetentionError`] if its database fails.
pub async fn droppable(pool: &ServicePool, below_ms: u64) -> Result<Droppable, RetentionError> {
    let partitions = async |tables: &str| -> Result<u32, ServiceError> {
        // Catalogs are everybody's to read; the names are those of gavel.partition_name.
        let sql = "SELECT count(*)::int FROM pg_class AS c \
                   JOIN pg_namespace AS n ON n.oid = c.relnamespace \
                   WHERE n.nspname = 'gavel' AND c.relkind = 'r' \
                     AND c.relname ~ ('^(' || $1 || ')_[0-9]{8}$') \
                     AND right(c.relname, 8) < to_char(to_timestamp($2::bigint / 1000) \
                                                       AT TIME ZONE 'UTC', 'YYYYMMDD')";
        let below_ms = i64::try_from(below_ms).unwrap_or(i64::MAX);
        let session = pool.session().await?;
        let rows = session.query(sql, &[&tables, &below_ms]).await?;
        Ok(count(rows.first()))
    };
    let looking = at("partitions");
    Ok(Droppable {
        branch_partitions: partitions("branch").await.map_err(&looking)?,
        decision_partitions: partitions("decision|transaction").await.map_err(&looking)?,
    })
}
