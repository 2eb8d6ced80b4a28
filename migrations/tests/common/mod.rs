//! One migrated shard on a real server, and small helpers.
#![allow(dead_code, reason = "every test file uses another part of this")]

use std::future::Future;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use gavel_migrations::{IdentityClaim, migrate};
use local_postgres::{Options, Server};
use sqlx::postgres::{PgConnection, PgDatabaseError};
use sqlx::{AssertSqlSafe, Connection as _};
use uuid::{NoContext, Timestamp, Uuid};

/// The shard's database.
pub(crate) const DATABASE: &str = "bank";
/// The participant's login role.
pub(crate) const PARTICIPANT: &str = "north_participant";
/// How long a condition may take to come true on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// A server with one migrated database.
pub(crate) struct Shard {
    pub(crate) server: Server,
    password: String,
}

impl Shard {
    /// Starts and migrates: deployment `test`, shard `north`, tag 1.
    pub(crate) async fn start() -> Self {
        let server = start_server();
        server.create_database(DATABASE).expect("create database");
        let password = server.create_login_role(PARTICIPANT).expect("create role");
        migrate(&server.url(DATABASE), &north())
            .await
            .expect("migrate");
        Self { server, password }
    }

    /// A connection as superuser.
    pub(crate) async fn admin(&self) -> PgConnection {
        connect(&self.server.url(DATABASE)).await
    }

    /// A connection that may do what a participant may do.
    pub(crate) async fn participant(&self) -> PgConnection {
        connect(&self.server.url_for(PARTICIPANT, &self.password, DATABASE)).await
    }
}

/// A server without any database of ours.
pub(crate) fn start_server() -> Server {
    Server::temporary(Options::for_tests("north")).expect("start PostgreSQL")
}

/// The identity of every shard here.
pub(crate) fn north() -> IdentityClaim {
    IdentityClaim {
        deployment: "test".to_owned(),
        shard: "north".to_owned(),
        tag: 1,
        participant_role: Some(PARTICIPANT.to_owned()),
    }
}

pub(crate) async fn connect(url: &str) -> PgConnection {
    PgConnection::connect(url).await.expect("connect")
}

/// Runs one or more statements.
pub(crate) async fn run(connection: &mut PgConnection, sql: &str) -> Result<(), sqlx::Error> {
    sqlx::raw_sql(AssertSqlSafe(sql.to_owned()))
        .execute(connection)
        .await
        .map(|_| ())
}

/// The single text value of a query.
pub(crate) async fn text(connection: &mut PgConnection, sql: &str) -> Option<String> {
    let sql = format!("SELECT ({sql})::text");
    sqlx::query_scalar(AssertSqlSafe(sql))
        .fetch_one(connection)
        .await
        .expect("query")
}

/// A fresh UUIDv7 of `seconds` from now.
pub(crate) fn id_at(seconds: i64) -> Uuid {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("clock");
    let moment =
        u64::try_from(i64::try_from(now.as_secs()).expect("small") + seconds).expect("positive");
    Uuid::new_v7(Timestamp::from_unix(NoContext, moment, now.subsec_nanos()))
}

/// SQLSTATE of a refusal.
pub(crate) fn sqlstate<T>(result: Result<T, sqlx::Error>) -> String {
    match result {
        Ok(_) => "00000".to_owned(),
        Err(error) => error.as_database_error().map_or_else(
            || error.to_string(),
            |e| e.downcast_ref::<PgDatabaseError>().code().to_owned(),
        ),
    }
}

/// `open_branch` in incarnation 1, home tag 2.
pub(crate) async fn open_branch(
    connection: &mut PgConnection,
    batch: Uuid,
) -> Result<(), sqlx::Error> {
    sqlx::query("SELECT gavel.open_branch($1, $2, 2, 1, 1)")
        .bind(batch)
        .bind(gid(batch))
        .execute(connection)
        .await
        .map(|_| ())
}

/// `open_decision` in incarnation 1: shard 2 prepared, all members committed, for alice.
pub(crate) async fn decide(
    connection: &mut PgConnection,
    batch: Uuid,
    txids: &[Uuid],
) -> Result<(), sqlx::Error> {
    sqlx::query("SELECT gavel.open_decision($1, 1, '{2}', $2, $3, $4, $5, 'alice')")
        .bind(batch)
        .bind(txids)
        .bind(vec!["committed"; txids.len()])
        .bind(vec![vec![7_u8]; txids.len()])
        .bind(vec![None::<String>; txids.len()])
        .execute(connection)
        .await
        .map(|_| ())
}

/// A resolver's insert.
pub(crate) async fn force_abort(
    connection: &mut PgConnection,
    batch: Uuid,
) -> Result<(), sqlx::Error> {
    sqlx::query("SELECT gavel.force_abort($1, 1)")
        .bind(batch)
        .execute(connection)
        .await
        .map(|_| ())
}

/// What the register says about `batch`.
pub(crate) async fn outcome(connection: &mut PgConnection, batch: Uuid) -> Option<String> {
    sqlx::query_scalar("SELECT d.outcome FROM gavel.read_decisions($1) AS d")
        .bind(vec![batch])
        .fetch_optional(connection)
        .await
        .expect("read_decisions")
}

/// A function of one uuid argument, such as a floor's.
pub(crate) async fn floor_call(
    connection: &mut PgConnection,
    function: &str,
    id: Uuid,
) -> Result<(), sqlx::Error> {
    sqlx::query(AssertSqlSafe(format!("SELECT gavel.{function}($1)")))
        .bind(id)
        .execute(connection)
        .await
        .map(|_| ())
}

/// The gid of `batch`'s branch here; its home is tag 2.
pub(crate) fn gid(batch: Uuid) -> String {
    format!("gavel:test:2:1:{batch}:1")
}

pub(crate) async fn pid(connection: &mut PgConnection) -> i32 {
    sqlx::query_scalar("SELECT pg_backend_pid()")
        .fetch_one(connection)
        .await
        .expect("pid")
}

/// Waits until backend `waiting` is blocked by backend `holder`.
pub(crate) async fn until_blocked(observer: &mut PgConnection, waiting: i32, holder: i32) {
    let sql = format!("{holder} = ANY (pg_blocking_pids({waiting}))");
    until_true(observer, &sql).await;
}

/// Waits until a boolean expression is true.
pub(crate) async fn until_true(observer: &mut PgConnection, expression: &str) {
    let deadline = Instant::now() + PATIENCE;
    while text(observer, expression).await.as_deref() != Some("true") {
        assert!(Instant::now() < deadline, "never became true: {expression}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Prepares a branch of `batch`.
pub(crate) async fn prepare_branch(connection: &mut PgConnection, batch: Uuid) {
    run(connection, "BEGIN").await.expect("begin");
    open_branch(connection, batch).await.expect("open_branch");
    run(connection, &format!("PREPARE TRANSACTION '{}'", gid(batch)))
        .await
        .expect("prepare");
}

/// Names of a table's partitions.
pub(crate) async fn partitions(connection: &mut PgConnection, table: &str) -> Vec<String> {
    let sql = format!(
        "SELECT inhrelid::regclass::text FROM pg_inherits \
         WHERE inhparent = 'gavel.{table}'::regclass ORDER BY 1"
    );
    sqlx::query_scalar(AssertSqlSafe(sql))
        .fetch_all(connection)
        .await
        .expect("partitions")
}

/// Fails the test instead of hanging it.
pub(crate) async fn within<F: Future>(what: &str, future: F) -> F::Output {
    tokio::time::timeout(PATIENCE, future)
        .await
        .unwrap_or_else(|_| panic!("{what} did not end"))
}
