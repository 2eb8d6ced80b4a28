//! The two roles, and the schema that one of them owns.
//!
//! Roles belong to the whole server, so migrations of two databases can race on them although
//! each holds its own database's lock. PostgreSQL reports such a race as a unique violation, a
//! duplicate object or "tuple concurrently updated"; by then the other run has done the work, so
//! looking again is enough. They are not part of a numbered migration: a database restored on
//! another server brings its bookkeeping along, but not its roles.

use std::time::Duration;

use sqlx::AssertSqlSafe;
use sqlx::postgres::PgConnection;

use crate::error::{MigrateError, sqlstate};

/// How often a lost race is looked at again. Each loss means that another run got further.
const ATTEMPTS_MAX: u32 = 50;

/// Pause after a lost race, times the number of losses so far.
const PAUSE_MS: u64 = 5;

const ENSURE_ROLES: &str = "
DO $$
BEGIN
    IF to_regrole('gavel_owner') IS NULL THEN
        CREATE ROLE gavel_owner NOLOGIN;
    END IF;
    IF to_regrole('gavel_participant') IS NULL THEN
        CREATE ROLE gavel_participant NOLOGIN;
    END IF;
    -- From 16 on, who creates a role is a member of it that may not SET ROLE to it.
    IF NOT pg_has_role('gavel_owner', CASE WHEN current_setting('server_version_num')::int
                                           < 160000 THEN 'MEMBER' ELSE 'SET' END) THEN
        EXECUTE format('GRANT gavel_owner TO %I', current_user);
    END IF;
    IF to_regnamespace('gavel') IS NULL THEN
        CREATE SCHEMA gavel AUTHORIZATION gavel_owner;
    END IF;
END $$";

/// Creates the roles and the schema, and makes the session's role a member of `gavel_owner`.
pub(crate) async fn ensure(connection: &mut PgConnection) -> Result<(), MigrateError> {
    match run_racing(connection, ENSURE_ROLES).await {
        Ok(()) => Ok(()),
        Err(source) if is_missing_privilege(&source) => {
            let (role, quoted, database) = whoami(connection).await?;
            Err(MigrateError::MissingPrivilege {
                role,
                what: "create roles gavel_owner and gavel_participant and schema gavel",
                sql: format!(
                    "CREATE ROLE gavel_owner NOLOGIN;\n\
                     CREATE ROLE gavel_participant NOLOGIN;\n\
                     GRANT gavel_owner TO {quoted};\n\
                     CREATE SCHEMA IF NOT EXISTS gavel AUTHORIZATION gavel_owner;\n\
                     -- database {database}; leave out what exists already"
                ),
                source,
            })
        }
        Err(source) => Err(MigrateError::database("creating roles and schema")(source)),
    }
}

/// Makes login role `role` a member of `gavel_participant`, if it is not one yet.
pub(crate) async fn grant_participant(
    connection: &mut PgConnection,
    role: &str,
) -> Result<(), MigrateError> {
    let step = "looking at the participant's role";
    let (quoted, exists, is_member): (String, bool, bool) = sqlx::query_as(
        "SELECT format('%I', $1), r.oid IS NOT NULL, \
                EXISTS (SELECT FROM pg_auth_members m WHERE m.member = r.oid \
                        AND m.roleid = to_regrole('gavel_participant')::oid) \
         FROM (SELECT) AS one LEFT JOIN pg_roles AS r ON r.rolname = $1::text",
    )
    .bind(role)
    .fetch_one(&mut *connection)
    .await
    .map_err(MigrateError::database(step))?;
    if !exists {
        let role = role.to_owned();
        return Err(MigrateError::NoParticipantRole { role, quoted });
    }
    if is_member {
        return Ok(());
    }
    let sql = format!("GRANT gavel_participant TO {quoted}");
    match run_racing(connection, &sql).await {
        Ok(()) => Ok(()),
        Err(source) if is_missing_privilege(&source) => Err(MigrateError::MissingPrivilege {
            role: whoami(connection).await?.0,
            what: "grant gavel_participant",
            sql: format!("{sql};"),
            source,
        }),
        Err(source) => Err(MigrateError::database("granting gavel_participant")(source)),
    }
}

/// Makes `gavel_owner` the session's current role.
pub(crate) async fn become_owner(connection: &mut PgConnection) -> Result<(), MigrateError> {
    sqlx::raw_sql("SET ROLE gavel_owner")
        .execute(connection)
        .await
        .map_err(MigrateError::database("becoming gavel_owner"))?;
    Ok(())
}

/// Runs `sql`, a statement built from constants and quoted identifiers, until it does not lose a
/// race any more.
async fn run_racing(connection: &mut PgConnection, sql: &str) -> Result<(), sqlx::Error> {
    let mut losses = 0;
    loop {
        let result = sqlx::raw_sql(AssertSqlSafe(sql.to_owned()))
            .execute(&mut *connection)
            .await;
        match result {
            Ok(_) => return Ok(()),
            Err(error) if lost_a_race(&error) && losses < ATTEMPTS_MAX => {
                losses += 1;
                tokio::time::sleep(Duration::from_millis(PAUSE_MS * u64::from(losses))).await;
            }
            Err(error) => return Err(error),
        }
    }
}

fn lost_a_race(error: &sqlx::Error) -> bool {
    match sqlstate(error) {
        // unique_violation, duplicate_object, duplicate_schema, deadlock_detected
        Some("23505" | "42710" | "42P06" | "40P01") => true,
        // "tuple concurrently updated" has no SQLSTATE of its own.
        Some("XX000") => error.to_string().contains("concurrently"),
        _ => false,
    }
}

fn is_missing_privilege(error: &sqlx::Error) -> bool {
    sqlstate(error) == Some("42501")
}

/// Session role, the same quoted for SQL, and the database's name.
async fn whoami(connection: &mut PgConnection) -> Result<(String, String, String), MigrateError> {
    sqlx::query_as(
        "SELECT current_user::text, format('%I', current_user), current_database()::text",
    )
    .fetch_one(connection)
    .await
    .map_err(MigrateError::database("reading the session's role"))
}
