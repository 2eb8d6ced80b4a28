//! The `gavel` schema of a shard, and the one function that brings a database up to it.
//!
//! Purpose: after [`migrate`] a database has the roles, tables, functions and day partitions that
//! participants need, and knows which shard it is. The SQL lives in `sql/`, one numbered file per
//! subject; `docs/schema.md` explains every table and function.
//!
//! Invariants:
//! - Applied twice, or by many processes at once, it changes nothing the second time. sqlx holds
//!   an advisory lock per database; roles belong to the whole server, so creating them tolerates
//!   a race with another database's migration.
//! - An identity is never overwritten (R13).
//! - Everything, sqlx's bookkeeping table included, is in schema `gavel` and owned by
//!   `gavel_owner`.
//!
//! Failure model: each file is one transaction together with its bookkeeping row. A crash leaves
//! a prefix of the files applied and the next run goes on there.

mod error;
mod roles;

use std::str::FromStr as _;

use gavel_tls::DatabaseUrl;
use sqlx::migrate::Migrator;
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{ConnectOptions as _, Connection as _};

pub use error::MigrateError;

/// Version of the newest migration: what `gavel.schema_version()` must say.
pub const SCHEMA_VERSION: i64 = 12;

/// Days of partitions that [`migrate`] makes sure of before today. Two: batches are accepted up
/// to one day from the server's clock, and a txid may be a little older than its batch.
pub const PARTITION_DAYS_BACK: i32 = 2;

/// Days of partitions that [`migrate`] makes sure of after today. A week: a participant renews
/// them several times a day, so a shard goes on for a week when every one of those fails.
pub const PARTITION_DAYS_AHEAD: i32 = 7;

/// Oldest PostgreSQL that works: `UNIQUE NULLS NOT DISTINCT` came with 15.
const SERVER_VERSION_NUM_MIN: i32 = 150_000;

/// Who a database is to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdentityClaim {
    /// Name of the installation, `^[a-z][a-z0-9_]{0,31}$`.
    pub deployment: String,
    /// Name of the shard, same alphabet.
    pub shard: String,
    /// Number of the shard; txids carry it (R9).
    pub tag: u16,
    /// Login role of the participant, to be made a member of `gavel_participant`. It must exist.
    pub participant_role: Option<String>,
}

/// What [`migrate`] found and did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Schema version found, `None` on a database without the schema.
    pub version_before: Option<i64>,
    /// Schema version now.
    pub version: i64,
    /// Incarnation of the shard (R13).
    pub incarnation: i64,
    /// Days of partitions created by this run.
    pub partition_days_created: i32,
}

/// Every migration, with the bookkeeping table in schema `gavel`: a participant's database is not
/// ours alone, and another sqlx application may own `public._sqlx_migrations`.
fn migrator() -> Migrator {
    let mut migrator = sqlx::migrate!("./sql");
    migrator.dangerous_set_table_name("gavel.schema_migration");
    migrator
}

/// Brings the database at `admin_url` to [`SCHEMA_VERSION`], claims its identity and creates
/// partitions. Idempotent, and safe against concurrent runs.
///
/// `admin_url` is a `postgres://` address of a superuser, or of a role with CREATEROLE, or of a
/// member of an existing `gavel_owner`; without enough rights the error prints the SQL that an
/// administrator must run.
///
/// # Errors
/// See [`MigrateError`]. Nothing is half applied; repeat after the cause is gone.
pub async fn migrate(admin_url: &str, identity: &IdentityClaim) -> Result<Report, MigrateError> {
    let mut connection = connect(admin_url).await?;
    let result = migrate_on(&mut connection, identity).await;
    // Closing, not dropping: sqlx keeps its advisory lock when a migration fails, and the next
    // run should not wait for the server to notice a dead socket.
    if let Err(error) = connection.close().await {
        tracing::debug!(%error, "closing the migration's connection failed");
    }
    result
}

async fn connect(admin_url: &str) -> Result<PgConnection, MigrateError> {
    // sqlx takes any scheme and would try `mysql://` as if it were ours.
    if !["postgres://", "postgresql://"]
        .iter()
        .any(|scheme| admin_url.starts_with(scheme))
    {
        let source = sqlx::Error::Configuration("the scheme is not postgres://".into());
        return Err(MigrateError::Address { source });
    }
    let spelled_out = DatabaseUrl::spelled_out(admin_url).map_err(|error| {
        let source = sqlx::Error::Configuration(error.into());
        MigrateError::Address { source }
    })?;
    let options = PgConnectOptions::from_str(&spelled_out)
        .map_err(|source| MigrateError::Address { source })?
        .application_name("gavel migrate")
        // "already exists, skipping" is not news.
        .options([("client_min_messages", "warning")]);
    // A handshake's state is large, and part of every future that may migrate.
    Box::pin(options.connect())
        .await
        .map_err(|source| MigrateError::Connect { source })
}

async fn migrate_on(
    connection: &mut PgConnection,
    identity: &IdentityClaim,
) -> Result<Report, MigrateError> {
    pin_session(connection).await?;
    check_server(connection).await?;
    roles::ensure(connection).await?;
    if let Some(role) = &identity.participant_role {
        roles::grant_participant(connection, role).await?;
    }
    // From here on everything that is created belongs to gavel_owner.
    roles::become_owner(connection).await?;
    let version_before = installed_version(connection).await?;
    migrator()
        .run_direct(None, connection, false)
        .await
        .map_err(MigrateError::from_sqlx)?;
    let incarnation = claim(connection, identity).await?;
    let partition_days_created = ensure_partitions(connection).await?;
    Ok(Report {
        version_before,
        version: SCHEMA_VERSION,
        incarnation,
        partition_days_created,
    })
}

/// A pinned search_path keeps objects in `public` from being called with an administrator's
/// rights. The lock timeout is for later migrations that alter a table which an in-doubt branch
/// holds: they should say so instead of hanging with every branch queued behind them.
async fn pin_session(connection: &mut PgConnection) -> Result<(), MigrateError> {
    sqlx::raw_sql(
        "SET search_path = pg_catalog, pg_temp; SET statement_timeout = 0; \
         SET lock_timeout = '60s'; SET default_transaction_isolation = 'read committed'",
    )
    .execute(connection)
    .await
    .map_err(MigrateError::database("preparing the session"))?;
    Ok(())
}

async fn check_server(connection: &mut PgConnection) -> Result<(), MigrateError> {
    let (version, standby): (i32, bool) =
        sqlx::query_as("SELECT current_setting('server_version_num')::int, pg_is_in_recovery()")
            .fetch_one(connection)
            .await
            .map_err(MigrateError::database("looking at the server"))?;
    if version < SERVER_VERSION_NUM_MIN {
        return Err(MigrateError::ServerTooOld { version });
    }
    if standby {
        return Err(MigrateError::Standby);
    }
    Ok(())
}

async fn installed_version(connection: &mut PgConnection) -> Result<Option<i64>, MigrateError> {
    let step = "reading the installed version";
    let exists: bool =
        sqlx::query_scalar("SELECT to_regclass('gavel.schema_migration') IS NOT NULL")
            .fetch_one(&mut *connection)
            .await
            .map_err(MigrateError::database(step))?;
    if !exists {
        return Ok(None);
    }
    sqlx::query_scalar("SELECT max(version) FROM gavel.schema_migration")
        .fetch_one(connection)
        .await
        .map_err(MigrateError::database(step))
}

async fn claim(
    connection: &mut PgConnection,
    identity: &IdentityClaim,
) -> Result<i64, MigrateError> {
    sqlx::query_scalar("SELECT gavel.claim_identity($1, $2, $3)")
        .bind(&identity.deployment)
        .bind(&identity.shard)
        .bind(i32::from(identity.tag))
        .fetch_one(connection)
        .await
        .map_err(|source| MigrateError::from_claim(source, identity))
}

async fn ensure_partitions(connection: &mut PgConnection) -> Result<i32, MigrateError> {
    sqlx::query_scalar("SELECT gavel.ensure_partitions($1, $2)")
        .bind(PARTITION_DAYS_BACK)
        .bind(PARTITION_DAYS_AHEAD)
        .fetch_one(connection)
        .await
        .map_err(MigrateError::database("creating partitions"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schema_version_is_that_of_the_newest_file() {
        let newest = migrator().iter().map(|m| m.version).max();
        assert_eq!(newest, Some(SCHEMA_VERSION));
    }
}
