//! What a shard's database says about itself, as its participant's role.

use std::time::{SystemTime, UNIX_EPOCH};

use gavel_participant::service_pool::{ServiceClient, ServiceError};

/// What is looked at, apart from lists.
#[derive(Debug, Clone, Default)]
pub(super) struct Vitals {
    /// The participant's role.
    pub(super) role: String,
    /// Its database.
    pub(super) database: String,
    /// How far its clock is ahead of ours, in seconds, give or take half the answer's time.
    pub(super) clock_ahead: f64,
    /// Prepared transactions of the whole server.
    pub(super) slots_used: i64,
    /// `max_prepared_transactions`.
    pub(super) slots: i32,
    /// Transactions since the oldest one that vacuum has not frozen in this database.
    pub(super) database_age: i32,
    /// From which age on PostgreSQL vacuums everything.
    pub(super) freeze_max_age: i32,
    /// `default_transaction_read_only`.
    pub(super) is_read_only: bool,
    /// `synchronous_standby_names`.
    pub(super) synchronous_standby_names: String,
    /// Connections that may be open, less those that are kept for superusers.
    pub(super) connections: i32,
    /// Those that are.
    pub(super) connections_used: i64,
    /// Whether the role sees what others do.
    pub(super) sees_others: bool,
    /// Standbys that stream.
    pub(super) standbys: i64,
    /// Of these, those that commits may wait for.
    pub(super) synchronous_standbys: i64,
    /// Days from today on for which there are partitions.
    pub(super) days_ahead: i32,
}

const VITALS: &str = "
    SELECT current_user::text,
           current_database()::text,
           extract(epoch FROM clock_timestamp())::float8,
           (SELECT count(*) FROM pg_prepared_xacts),
           current_setting('max_prepared_transactions')::int,
           (SELECT age(datfrozenxid) FROM pg_database WHERE datname = current_database()),
           current_setting('autovacuum_freeze_max_age')::int,
           (SELECT reset_val::bool FROM pg_settings WHERE name = 'default_transaction_read_only'),
           current_setting('synchronous_standby_names'),
           current_setting('max_connections')::int
               - current_setting('superuser_reserved_connections')::int,
           (SELECT count(*) FROM pg_stat_activity WHERE datid IS NOT NULL),
           pg_has_role(current_user, 'pg_read_all_stats', 'USAGE'),
           (SELECT count(*) FROM pg_stat_replication),
           (SELECT count(*) FROM pg_stat_replication WHERE sync_state IN ('sync', 'quorum')),
           (SELECT coalesce(min(day), 32) FROM generate_series(0, 31) AS day
            WHERE to_regclass('gavel.decision_'
                || to_char((now() AT TIME ZONE 'UTC') + day * interval '1 day', 'YYYYMMDD'))
                IS NULL)";

/// A prepared transaction.
#[derive(Debug, Clone)]
pub(super) struct Prepared {
    pub(super) gid: String,
    pub(super) owner: String,
    pub(super) database: String,
    /// In seconds.
    pub(super) age: f64,
}

const PREPARED: &str = "
    SELECT gid, owner::text, database::text,
           greatest(extract(epoch FROM clock_timestamp() - prepared), 0)::float8
    FROM pg_prepared_xacts ORDER BY prepared LIMIT 1000";

/// What keeps vacuum from removing dead rows.
#[derive(Debug, Clone)]
pub(super) struct Holder {
    /// What it is, and what ends it.
    pub(super) kind: Holds,
    /// Its name: of a slot, a process or a prepared transaction.
    pub(super) name: String,
    /// Transactions since.
    pub(super) age: i32,
}

/// The kinds of what holds vacuum back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Holds {
    Slot,
    Session,
    Prepared,
}

const HOLDERS: &str = "
    SELECT 0, slot_name::text, greatest(age(xmin), age(catalog_xmin)) FROM pg_replication_slots
    WHERE xmin IS NOT NULL OR catalog_xmin IS NOT NULL
    UNION ALL
    SELECT 1, pid::text, age(backend_xmin) FROM pg_stat_activity
    WHERE backend_xmin IS NOT NULL AND pid <> pg_backend_pid()
    UNION ALL
    SELECT 2, gid, age(transaction) FROM pg_prepared_xacts
    ORDER BY 3 DESC LIMIT 3";

/// Asks for the vitals.
pub(super) async fn vitals(session: &ServiceClient) -> Result<Vitals, ServiceError> {
    let asked = unix_seconds();
    let rows = session.query(VITALS, &[]).await?;
    let answered = unix_seconds();
    let row = rows.first();
    let row = row.ok_or_else(|| ServiceError::Content("no vitals".to_owned()))?;
    Ok(Vitals {
        role: row.get(0),
        database: row.get(1),
        clock_ahead: row.get::<_, f64>(2) - f64::midpoint(asked, answered),
        slots_used: row.get(3),
        slots: row.get(4),
        database_age: row.get(5),
        freeze_max_age: row.get(6),
        is_read_only: row.get(7),
        synchronous_standby_names: row.get(8),
        connections: row.get(9),
        connections_used: row.get(10),
        sees_others: row.get(11),
        standbys: row.get(12),
        synchronous_standbys: row.get(13),
        days_ahead: row.get(14),
    })
}

/// Asks for what is prepared, the oldest first.
pub(super) async fn prepared(session: &ServiceClient) -> Result<Vec<Prepared>, ServiceError> {
    let rows = session.query(PREPARED, &[]).await?;
    let each = rows.iter().map(|row| Prepared {
        gid: row.get(0),
        owner: row.get(1),
        database: row.get(2),
        age: row.get(3),
    });
    Ok(each.collect())
}

/// Asks for what holds vacuum back most.
pub(super) async fn holders(session: &ServiceClient) -> Result<Vec<Holder>, ServiceError> {
    let rows = session.query(HOLDERS, &[]).await?;
    let each = rows.iter().map(|row| Holder {
        kind: match row.get::<_, i32>(0) {
            0 => Holds::Slot,
            1 => Holds::Session,
            _ => Holds::Prepared,
        },
        name: row.get(1),
        age: row.get(2),
    });
    Ok(each.collect())
}

fn unix_seconds() -> f64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0.0, |since| since.as_secs_f64())
}
