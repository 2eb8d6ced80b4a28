//! What operators did to a shard, and why: `gavel.action` of its database.
//!
//! Actions that are one SQL function write it down themselves; what is done from here says so first.

use crate::service_pool::{ServiceError, ServicePool};

/// Something that an operator did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Action {
    /// Names the record on its shard.
    pub id: i64,
    /// When, by the database's clock, as PostgreSQL writes it in UTC.
    pub at: String,
    /// The database role that did it.
    pub by: String,
    /// What was done.
    pub what: String,
    /// Why.
    pub because: String,
}

/// Writes down what is about to be done to the shard behind `pool`; `because` is not empty.
///
/// # Errors
/// See [`ServiceError`]. What is not on record must not be done.
pub async fn note(pool: &ServicePool, what: &str, because: &str) -> Result<(), ServiceError> {
    let session = pool.session().await?;
    let sql = "SELECT gavel.note_action($1, $2)";
    session.query(sql, &[&what, &because]).await?;
    Ok(())
}

/// Everything that is on record of the shard behind `pool`, oldest first.
///
/// # Errors
/// See [`ServiceError`].
pub async fn list(pool: &ServicePool) -> Result<Vec<Action>, ServiceError> {
    let session = pool.session().await?;
    let sql = "SELECT id, to_char(at AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.MS'), by, what, because \
               FROM gavel.list_actions()";
    let rows = session.query(sql, &[]).await?;
    let actions = rows.iter().map(|row| Action {
        id: row.get(0),
        at: row.get(1),
        by: row.get(2),
        what: row.get(3),
        because: row.get(4),
    });
    Ok(actions.collect())
}
