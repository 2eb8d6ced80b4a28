//! The checks that a shard must pass before a participant serves it.
//!
//! Purpose: refuse, with the fix in the message, every set-up in which a promise would silently
//! not hold: no slots to prepare in, a server that loses what it acknowledged, a standby, another
//! schema, another database than the configuration means.
//!
//! Invariants: nothing is changed on the shard. Errors have stable codes ([`StartError::code`]).
//!
//! Failure model: a shard that cannot be reached yet is an error of its own
//! ([`StartError::Unreachable`]), so that a service may wait for it; the others need a person.

use gavel_protocol::message::ShardIdentity;
use gavel_protocol::{DeploymentName, ShardName, ShardTag};
use tokio_postgres::Row;

use crate::rows;
use crate::service_pool::{ServiceClient, ServiceError, ServicePool};

/// Oldest PostgreSQL that is supported, as `server_version_num`.
pub const SERVER_VERSION_NUM_MIN: i32 = 150_000;

/// What the configuration says about the shard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expected {
    /// The installation.
    pub deployment: DeploymentName,
    /// The shard's name.
    pub name: ShardName,
    /// The shard's number.
    pub tag: ShardTag,
    /// Branches that may be prepared at the same time if everything is busy.
    pub slots_needed: u32,
}

/// A shard that passed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checked {
    /// Who it is.
    pub identity: ShardIdentity,
    /// Its `max_prepared_transactions`.
    pub slots: u32,
    /// Prepared transactions in this database that are not Gavel's.
    pub foreign_prepared: u64,
    /// What is allowed, but should be looked at.
    pub warnings: Vec<Warning>,
}

/// Allowed, but worth a look.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Warning {
    /// Room for fewer branches than wanted twice over.
    #[error(
        "max_prepared_transactions is {found}; {wanted} leaves room for branches in doubt beside \
         those at work: ALTER SYSTEM SET max_prepared_transactions = {wanted}; then restart"
    )]
    FewSlots {
        /// What the server has.
        found: u32,
        /// Twice what is needed.
        wanted: u32,
    },
    /// Standbys are synchronous, but commits do not wait for them by default.
    #[error(
        "synchronous_standby_names is set, but synchronous_commit is `{found}`: Gavel pins it \
         for its own statements; set it to `on` for everybody else's"
    )]
    SynchronousCommit {
        /// The role's setting.
        found: String,
    },
    /// Whether this is the server that the identity was claimed on could not be checked.
    #[error(
        "the system identifier cannot be compared: GRANT EXECUTE ON FUNCTION \
         pg_catalog.pg_control_system() TO gavel_participant"
    )]
    SystemIdentifierUnreadable,
}

impl Warning {
    /// The stable code.
    pub fn code(&self) -> &'static str {
        match self {
            Self::FewSlots { .. } => "few_prepared_slots",
            Self::SynchronousCommit { .. } => "synchronous_commit_weak",
            Self::SystemIdentifierUnreadable => "system_identifier_unreadable",
        }
    }
}

/// Why a shard is refused, and the fix.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// No answer, or not a complete one.
    #[error("the shard cannot be reached: check its address, role and password, and that it runs")]
    Unreachable(#[source] ServiceError),
    /// PostgreSQL is too old.
    #[error("PostgreSQL {found} is too old: Gavel needs 15 or newer")]
    ServerTooOld {
        /// Its `server_version`.
        found: String,
    },
    /// No prepared transactions.
    #[error(
        "max_prepared_transactions is 0, so nothing can be prepared. Run \
         `ALTER SYSTEM SET max_prepared_transactions = {wanted};` as a superuser and restart \
         PostgreSQL (standbys first: they need at least the primary's value)"
    )]
    NoSlots {
        /// Twice what is needed.
        wanted: u32,
    },
    /// A setting with which acknowledged commits can be lost.
    #[error(
        "{name} is off: a crash would lose what was acknowledged. Run \
         `ALTER SYSTEM SET {name} = on;` as a superuser, then `SELECT pg_reload_conf();`"
    )]
    NotDurable {
        /// `fsync` or `full_page_writes`.
        name: &'static str,
    },
    /// A standby.
    #[error(
        "this server is a standby: it lists no prepared transactions and takes no writes. Give \
         the primary's address"
    )]
    Standby,
    /// No `gavel` schema.
    #[error("the database has no gavel schema: run `gavel migrate` for this shard")]
    NotMigrated,
    /// An older or newer schema.
    #[error("the gavel schema has version {found}, this program needs {needed}: {fix}")]
    SchemaVersion {
        /// What is installed.
        found: i64,
        /// What this program was built for.
        needed: i64,
        /// What to do.
        fix: &'static str,
    },
    /// The role may not use the schema.
    #[error(
        "role `{role}` may not execute {missing}: run `GRANT gavel_participant TO \"{role}\";` \
         as a superuser, or `gavel migrate` with the role's name"
    )]
    Permission {
        /// The connecting role.
        role: String,
        /// What is missing.
        missing: String,
    },
    /// Another shard's database.
    #[error(
        "WRONG DATABASE: the configuration says shard `{expected}`, the database says \
         `{found}` (deployment.name, tag): check the shard's address; an identity is never \
         overwritten"
    )]
    Identity {
        /// From the configuration.
        expected: String,
        /// From the database.
        found: String,
    },
    /// The data is on another server than it was claimed on.
    #[error(
        "the database was claimed on the server with system identifier {claimed}, and this one \
         has {found}: it was restored, cloned or moved. Make sure that the original is gone, \
         then `gavel shard new-incarnation`"
    )]
    SystemIdentifier {
        /// When the identity was claimed.
        claimed: String,
        /// Now.
        found: String,
    },
}

impl StartError {
    /// The stable code.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Unreachable(_) => "shard_unreachable",
            Self::ServerTooOld { .. } => "server_too_old",
            Self::NoSlots { .. } => "prepared_transactions_disabled",
            Self::NotDurable { .. } => "server_not_durable",
            Self::Standby => "server_is_standby",
            Self::NotMigrated => "not_migrated",
            Self::SchemaVersion { .. } => "schema_version",
            Self::Permission { .. } => "permission_missing",
            Self::Identity { .. } => "wrong_database",
            Self::SystemIdentifier { .. } => "system_identifier_changed",
        }
    }
}

/// Checks a shard.
///
/// # Errors
/// The first check that fails, in an order in which each fix makes sense.
pub async fn check(pool: &ServicePool, expected: &Expected) -> Result<Checked, StartError> {
    let session = pool.session().await.map_err(StartError::Unreachable)?;
    let mut warnings = Vec::new();
    let slots = check_server(&session, expected, &mut warnings).await?;
    check_schema(&session).await?;
    let identity = check_identity(&session, expected, &mut warnings).await?;
    let foreign: i64 = one(&session, "SELECT gavel.foreign_prepared()")
        .await?
        .get(0);
    Ok(Checked {
        identity,
        slots,
        foreign_prepared: u64::try_from(foreign).unwrap_or(0),
        warnings,
    })
}

async fn check_server(
    session: &ServiceClient,
    expected: &Expected,
    warnings: &mut Vec<Warning>,
) -> Result<u32, StartError> {
    let row = one(
        session,
        "SELECT current_setting('server_version_num')::int, current_setting('server_version'), \
                pg_is_in_recovery(), current_setting('max_prepared_transactions')::int, \
                current_setting('fsync')::bool, current_setting('full_page_writes')::bool, \
                current_setting('synchronous_standby_names') <> '', \
                (SELECT reset_val FROM pg_settings WHERE name = 'synchronous_commit')",
    )
    .await?;
    if row.get::<_, i32>(0) < SERVER_VERSION_NUM_MIN {
        let found = row.get(1);
        return Err(StartError::ServerTooOld { found });
    }
    if row.get(2) {
        return Err(StartError::Standby);
    }
    let slots = u32::try_from(row.get::<_, i32>(3)).unwrap_or(0);
    let wanted = expected.slots_needed.max(1).saturating_mul(2);
    if slots == 0 {
        return Err(StartError::NoSlots { wanted });
    }
    if slots < wanted {
        warnings.push(Warning::FewSlots {
            found: slots,
            wanted,
        });
    }
    for (column, name) in [(4, "fsync"), (5, "full_page_writes")] {
        if !row.get::<_, bool>(column) {
            return Err(StartError::NotDurable { name });
        }
    }
    let found: String = row.get(7);
    if row.get(6) && matches!(found.as_str(), "off" | "local") {
        warnings.push(Warning::SynchronousCommit { found });
    }
    Ok(slots)
}

/// The functions that a participant calls. One that is missing is an older schema.
const FUNCTIONS: &[&str] = &[
    "applied_branches",
    "drop_branch_partitions",
    "drop_decision_partitions",
    "ensure_partitions",
    "force_abort",
    "foreign_prepared",
    "open_branch",
    "open_decision",
    "page_branches",
    "page_decisions",
    "prepared",
    "raise_floor",
    "read_decisions",
    "read_transactions",
    "record_aborts",
    "record_damage",
    "schema_version",
    "set_branch_floor",
    "set_verified_floor",
    "whoami",
];

async fn check_schema(session: &ServiceClient) -> Result<(), StartError> {
    // Catalogs only: without rights on the schema, its functions cannot even be named.
    let rows = session
        .query(
            "SELECT p.proname::text, has_schema_privilege(n.oid, 'USAGE') \
                    AND bool_and(has_function_privilege(p.oid, 'EXECUTE')) \
             FROM pg_proc AS p JOIN pg_namespace AS n ON n.oid = p.pronamespace \
             WHERE n.nspname = 'gavel' GROUP BY p.proname, n.oid",
            &[],
        )
        .await
        .map_err(StartError::Unreachable)?;
    let allowed = |name: &str| {
        let row = rows.iter().find(|row| row.get::<_, &str>(0) == name);
        row.map(|row| row.get::<_, bool>(1))
    };
    match allowed("schema_version") {
        None => return Err(StartError::NotMigrated),
        Some(false) => return Err(permission(session, &["schema_version"]).await),
        Some(true) => {}
    }
    let found: Option<i64> = one(session, "SELECT gavel.schema_version()").await?.get(0);
    let (found, needed) = (found.unwrap_or(0), gavel_migrations::SCHEMA_VERSION);
    if found != needed {
        let fix = if found < needed {
            "run `gavel migrate`"
        } else {
            "use the program that migrated it, or a newer one"
        };
        return Err(StartError::SchemaVersion { found, needed, fix });
    }
    let missing: Vec<&str> = FUNCTIONS
        .iter()
        .copied()
        .filter(|name| allowed(name) != Some(true))
        .collect();
    if missing.is_empty() {
        Ok(())
    } else {
        Err(permission(session, &missing).await)
    }
}

async fn permission(session: &ServiceClient, missing: &[&str]) -> StartError {
    let role = match one(session, "SELECT current_user::text").await {
        Ok(row) => row.get(0),
        Err(error) => return error,
    };
    let named: Vec<String> = missing.iter().map(|name| format!("gavel.{name}")).collect();
    let missing = named.join(", ");
    StartError::Permission { role, missing }
}

async fn check_identity(
    session: &ServiceClient,
    expected: &Expected,
    warnings: &mut Vec<Warning>,
) -> Result<ShardIdentity, StartError> {
    let rows = session
        .query(
            "SELECT deployment, shard, tag, incarnation, system_identifier FROM gavel.whoami()",
            &[],
        )
        .await
        .map_err(StartError::Unreachable)?;
    let Some(row) = rows.first() else {
        return Err(StartError::NotMigrated);
    };
    let (deployment, name, tag): (String, String, i32) = (row.get(0), row.get(1), row.get(2));
    let found = format!("{deployment}.{name}, tag {tag}");
    let Expected {
        deployment, name, ..
    } = expected;
    let wanted = format!("{deployment}.{name}, tag {}", expected.tag);
    if found != wanted {
        let expected = wanted;
        return Err(StartError::Identity { expected, found });
    }
    check_system(session, row.get(4), warnings).await?;
    Ok(ShardIdentity {
        deployment: deployment.clone(),
        name: name.clone(),
        tag: expected.tag,
        incarnation: rows::incarnation(row.get(3)).map_err(StartError::Unreachable)?,
    })
}

/// A physical restore keeps the system identifier; a dump, a logical copy or a rebuilt server
/// does not. R13 asks for the timeline and the peers' highest LSN as well; those are not kept
/// yet.
async fn check_system(
    session: &ServiceClient,
    claimed: Option<String>,
    warnings: &mut Vec<Warning>,
) -> Result<(), StartError> {
    let readable = one(
        session,
        "SELECT has_function_privilege('pg_catalog.pg_control_system()', 'EXECUTE')",
    )
    .await?;
    let Some(claimed) = claimed.filter(|_| readable.get(0)) else {
        warnings.push(Warning::SystemIdentifierUnreadable);
        return Ok(());
    };
    let sql = "SELECT system_identifier::text FROM pg_catalog.pg_control_system()";
    let found: String = one(session, sql).await?.get(0);
    if found == claimed {
        Ok(())
    } else {
        Err(StartError::SystemIdentifier { claimed, found })
    }
}

async fn one(session: &ServiceClient, sql: &'static str) -> Result<Row, StartError> {
    let mut rows = session
        .query(sql, &[])
        .await
        .map_err(StartError::Unreachable)?;
    rows.pop().ok_or_else(|| {
        let error = ServiceError::Content(format!("no row from `{sql}`"));
        StartError::Unreachable(error)
    })
}
