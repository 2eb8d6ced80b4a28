//! What can go wrong in a migration, and what to do about it.

use sqlx::postgres::PgDatabaseError;

use crate::IdentityClaim;

/// Why a database was not migrated. Each says what to do; none contains the address's password.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MigrateError {
    /// The address is not a `postgres://` URL.
    #[error("the administrator's address is not valid: use postgres://user@host:port/database")]
    Address {
        /// What is wrong with it.
        #[source]
        source: sqlx::Error,
    },
    /// No connection.
    #[error("cannot connect to the database: check that the server runs, and the address and role")]
    Connect {
        /// What the server or the socket said.
        #[source]
        source: sqlx::Error,
    },
    /// The server is older than PostgreSQL 15.
    #[error("the server is PostgreSQL {}; Gavel needs 15 or newer", version / 10_000)]
    ServerTooOld {
        /// `server_version_num`.
        version: i32,
    },
    /// A standby cannot be migrated.
    #[error("this server is a standby; give the address of the primary")]
    Standby,
    /// The role may not do this. `sql` is what an administrator has to run in this database.
    #[error("role `{role}` may not {what}; have an administrator run, in this database:\n{sql}")]
    MissingPrivilege {
        /// The role that connected.
        role: String,
        /// What it tried.
        what: &'static str,
        /// Statements that make the next run succeed.
        sql: String,
        /// What the server said.
        #[source]
        source: sqlx::Error,
    },
    /// The participant's login role does not exist. Gavel creates no logins: it would have to
    /// invent a password.
    #[error("role `{role}` does not exist; create it first: CREATE ROLE {quoted} LOGIN;")]
    NoParticipantRole {
        /// The role asked for.
        role: String,
        /// The same, quoted for SQL.
        quoted: String,
    },
    /// The database belongs to another deployment, shard or tag (R13).
    #[error(
        "cannot make this database shard {}.{} (tag {}): {found}; check the shard's address. \
         An identity is never overwritten",
        claimed.deployment, claimed.shard, claimed.tag
    )]
    IdentityTaken {
        /// What was to be claimed.
        claimed: IdentityClaim,
        /// What the database said.
        found: String,
    },
    /// Deployment or shard is not a valid name.
    #[error(
        "`{}` and `{}` must be names of 1 to 32 of a-z, 0-9 and _, starting with a letter",
        claimed.deployment, claimed.shard
    )]
    InvalidIdentity {
        /// What was to be claimed.
        claimed: IdentityClaim,
    },
    /// A newer gavel has migrated this database.
    #[error("the database has migration {version}, unknown to this gavel; use a newer gavel")]
    SchemaTooNew {
        /// The unknown version.
        version: i64,
    },
    /// A migration that was applied is not the one in this binary.
    #[error(
        "migration {version} was applied from another text; use the gavel that applied it, or \
         restore the database"
    )]
    SchemaChanged {
        /// The version that differs.
        version: i64,
    },
    /// A migration file failed. Its transaction was rolled back.
    #[error("applying the schema failed and was rolled back; repeat after the cause is gone")]
    Apply {
        /// What sqlx said.
        #[source]
        source: sqlx::migrate::MigrateError,
    },
    /// Anything else that the server refused.
    #[error("{step} failed")]
    Database {
        /// What was being done.
        step: &'static str,
        /// What the server said.
        #[source]
        source: sqlx::Error,
    },
}

impl MigrateError {
    pub(crate) fn database(step: &'static str) -> impl FnOnce(sqlx::Error) -> Self {
        move |source| Self::Database { step, source }
    }

    pub(crate) fn from_sqlx(source: sqlx::migrate::MigrateError) -> Self {
        use sqlx::migrate::MigrateError as Sqlx;
        match source {
            Sqlx::VersionMissing(version) => Self::SchemaTooNew { version },
            Sqlx::VersionMismatch(version) => Self::SchemaChanged { version },
            source => Self::Apply { source },
        }
    }

    pub(crate) fn from_claim(source: sqlx::Error, claimed: &IdentityClaim) -> Self {
        let claimed = claimed.clone();
        match sqlstate(&source) {
            Some("GV001") => Self::IdentityTaken {
                claimed,
                found: message(&source),
            },
            Some("23514") => Self::InvalidIdentity { claimed },
            _ => Self::Database {
                step: "claiming the identity",
                source,
            },
        }
    }
}

/// The SQLSTATE, if the server answered at all.
pub(crate) fn sqlstate(error: &sqlx::Error) -> Option<&str> {
    let database = error.as_database_error()?;
    Some(database.try_downcast_ref::<PgDatabaseError>()?.code())
}

fn message(error: &sqlx::Error) -> String {
    error
        .as_database_error()
        .map_or_else(|| error.to_string(), |e| e.message().to_owned())
}
