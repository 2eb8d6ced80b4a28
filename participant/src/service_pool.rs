//! The connections for everything off the hot path: resolution, status, scans, audits and
//! retention.
//!
//! Purpose: a small pool of its own, so that work which waits on the rows of prepared branches
//! can never hold the connection that would free them. It stands on `tokio-postgres`; branch
//! work, which has to see command tags, does not.
//!
//! Invariants:
//! - Every session is pinned at its start to what the protocol relies on, whatever the role's or
//!   database's settings say: READ COMMITTED (R7), `synchronous_commit`, a `lock_timeout` and a
//!   `statement_timeout`, and warnings that reach us.
//! - Warnings are counted per session. [`ServiceClient::barrier`] (R6) returns only if none
//!   arrived: a server that stops waiting for its standbys answers *success with a warning*
//!   (facts 2, 16). This is why `deadpool-postgres` is not used here: it keeps the connection,
//!   and with it the warnings, to itself.
//! - A session that was given up on while a statement ran is not used again.
//!
//! Failure model: a server may be gone, slow, or frozen. Connecting, waiting for a connection
//! and every answer have a limit; what ran into one is an error that proves nothing.
//! `statement_timeout` does not end a wait for standbys, which comes after the statement; nothing
//! would, and every new try would leave one more session behind until the server has none left.
//! So what is given up on is cancelled. That is safe here, unlike for PREPARE and COMMIT
//! (facts 2): a cancelled wait is a warning, and nothing is told before a barrier without one.

use std::collections::HashMap;
use std::error::Error as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use deadpool::managed::{Manager, Metrics, Object, Pool, PoolError, RecycleError, RecycleResult};
use gavel_protocol::Limits;
use gavel_tls::{DatabaseTls, DatabaseUrl};
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinHandle;
use tokio_postgres::types::ToSql;
use tokio_postgres::{AsyncMessage, CancelToken, Config, Row, Statement};

use crate::pg::pool::PoolStatus;

/// Time on top of the server's own `statement_timeout` before a statement is cancelled.
const ANSWER_GRACE: Duration = Duration::from_millis(500);

/// Time for the answer to come after that.
const CANCEL_GRACE: Duration = Duration::from_secs(2);

/// A session that was idle for longer is checked before it is used.
const TRUSTED_IDLE: Duration = Duration::from_secs(1);

/// A step off the hot path failed. Says nothing about any transaction.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// All connections were in use for too long.
    #[error("all service connections to the shard are busy")]
    Busy,
    /// No session could be had.
    #[error("cannot connect to the shard's database")]
    Connect(#[source] tokio_postgres::Error),
    /// PostgreSQL refused, or the session broke.
    #[error("the shard's database refused or broke off")]
    Sql(#[source] tokio_postgres::Error),
    /// No answer in time.
    #[error("the shard's database did not answer within {0:?}")]
    NoAnswer(Duration),
    /// The barrier came back with a warning: what was read may not be replicated (R6).
    #[error("the database warned that its WAL might not be replicated; nothing read may be told")]
    NotReplicated,
    /// A row that Gavel did not write, or that another version wrote.
    #[error("unexpected content in the gavel schema: {0}")]
    Content(String),
}

impl ServiceError {
    /// PostgreSQL's SQLSTATE, if it raised the error.
    pub fn sqlstate(&self) -> Option<&str> {
        match self {
            Self::Connect(error) | Self::Sql(error) => error.code().map(|code| code.code()),
            Self::Busy | Self::NoAnswer(_) | Self::NotReplicated | Self::Content(_) => None,
        }
    }

    /// The error with its causes, for people.
    pub fn detail(&self) -> String {
        let mut text = self.to_string();
        let mut cause = self.source();
        while let Some(next) = cause {
            text = format!("{text}: {next}");
            cause = next.source();
        }
        text
    }
}

/// How a shard's sessions are set up.
#[derive(Debug, Clone)]
pub struct ServicePoolConfig {
    /// Where the shard is and as whom to connect.
    pub database: DatabaseUrl,
    /// The limits.
    pub limits: Limits,
}

/// The pool. Cheap to clone.
#[derive(Clone)]
pub struct ServicePool {
    pool: Pool<ServiceManager>,
    waiters: Arc<Semaphore>,
}

/// A session of the pool, on loan.
pub type ServiceSession = Object<ServiceManager>;

impl ServicePool {
    /// A pool of `limits.service_connections`; nothing is connected yet.
    pub fn new(config: ServicePoolConfig) -> Self {
        let limits = config.limits.clone();
        let wait = Duration::from_millis(limits.connection_wait_ms);
        let connect = Duration::from_millis(limits.connect_timeout_ms.saturating_mul(2));
        let pool = Pool::builder(ServiceManager::new(config))
            .max_size(limits.service_connections)
            .wait_timeout(Some(wait))
            .create_timeout(Some(connect))
            .recycle_timeout(Some(connect))
            .runtime(deadpool::Runtime::Tokio1)
            .build()
            .expect("a runtime is named, which is all that can be missing");
        let waiters = Arc::new(Semaphore::new(
            limits.service_connections.saturating_sub(1).max(1),
        ));
        Self { pool, waiters }
    }

    /// Permission to run a statement that may wait for a lock. All sessions but one may do so at
    /// a time: the last one stays free for scans and questions.
    ///
    /// # Errors
    /// [`ServiceError::Busy`].
    pub(crate) async fn may_wait(&self) -> Result<OwnedSemaphorePermit, ServiceError> {
        let limit = Duration::from_millis(self.limits().connection_wait_ms);
        let permit = tokio::time::timeout(limit, self.waiters.clone().acquire_owned());
        match permit.await {
            Ok(Ok(permit)) => Ok(permit),
            Ok(Err(_)) | Err(_) => Err(ServiceError::Busy),
        }
    }

    /// A session.
    ///
    /// # Errors
    /// [`ServiceError::Busy`], [`ServiceError::Connect`] or [`ServiceError::NoAnswer`].
    pub async fn session(&self) -> Result<ServiceSession, ServiceError> {
        self.pool.get().await.map_err(|error| match error {
            PoolError::Backend(error) => error,
            PoolError::Timeout(deadpool::managed::TimeoutType::Wait) => ServiceError::Busy,
            PoolError::Timeout(_) => {
                ServiceError::NoAnswer(self.pool.timeouts().create.unwrap_or_default())
            }
            PoolError::Closed | PoolError::NoRuntimeSpecified | PoolError::PostCreateHook(_) => {
                ServiceError::Busy
            }
        })
    }

    /// The limits that the pool was made with.
    pub fn limits(&self) -> &Limits {
        &self.pool.manager().limits
    }

    /// How it stands.
    pub(crate) fn status(&self) -> PoolStatus {
        PoolStatus::of(&self.pool.status())
    }

    /// Closes every idle session, and the others when they come back.
    pub fn close(&self) {
        self.pool.close();
    }
}

/// Connects and checks sessions.
pub struct ServiceManager {
    database: Config,
    tls: DatabaseTls,
    limits: Limits,
    set_up: String,
    answer_limit: Duration,
}

impl ServiceManager {
    fn new(config: ServicePoolConfig) -> Self {
        let ServicePoolConfig {
            database:
                DatabaseUrl {
                    config: mut database,
                    tls,
                },
            limits,
        } = config;
        let connect = Duration::from_millis(limits.connect_timeout_ms);
        database
            .application_name("gavel")
            .connect_timeout(connect)
            .tcp_user_timeout(Duration::from_millis(limits.resolve_timeout_ms))
            .keepalives(true)
            .keepalives_idle(Duration::from_secs(5))
            .keepalives_interval(Duration::from_secs(2))
            .keepalives_retries(3);
        // Long enough for a resolution that waits for a working home and then for replication;
        // cancelling the latter is answered with a warning, which the barrier sees.
        let statement_timeout_ms = limits
            .resolve_timeout_ms
            .max(limits.resolve_lock_timeout_ms.saturating_mul(2));
        Self {
            database,
            tls,
            set_up: set_up(&limits, statement_timeout_ms),
            answer_limit: Duration::from_millis(statement_timeout_ms) + ANSWER_GRACE,
            limits,
        }
    }
}

/// `client_min_messages` is pinned because a role that raises it to `error` would hide the one
/// warning that matters. `remote_apply` is stronger than `on`, and stays.
fn set_up(limits: &Limits, statement_timeout_ms: u64) -> String {
    format!(
        "SET statement_timeout = {statement_timeout_ms}; SET lock_timeout = {}; \
         SET idle_in_transaction_session_timeout = {}; \
         SET default_transaction_isolation = 'read committed'; \
         SET default_transaction_read_only = off; SET client_min_messages = warning; \
         SELECT pg_catalog.set_config('synchronous_commit', \
             CASE pg_catalog.current_setting('synchronous_commit') \
                 WHEN 'remote_apply' THEN 'remote_apply' ELSE 'on' END, false)",
        limits.resolve_lock_timeout_ms, limits.idle_in_transaction_ms,
    )
}

impl Manager for ServiceManager {
    type Type = ServiceClient;
    type Error = ServiceError;

    async fn create(&self) -> Result<ServiceClient, ServiceError> {
        // A handshake's state is large, and part of every future that may connect.
        let (client, mut connection) = Box::pin(self.database.connect(self.tls.clone()))
            .await
            .map_err(ServiceError::Connect)?;
        let warnings = Arc::new(AtomicU64::new(0));
        let counter = warnings.clone();
        let driver = tokio::spawn(async move {
            while let Some(message) =
                std::future::poll_fn(|context| connection.poll_message(context)).await
            {
                match message {
                    Ok(AsyncMessage::Notice(notice)) => count_warning(&notice, &counter),
                    Ok(_) => {}
                    // The client's own calls report it.
                    Err(_) => break,
                }
            }
        });
        let session = ServiceClient {
            client,
            tls: self.tls.clone(),
            warnings,
            statements: Mutex::default(),
            abandoned: AtomicBool::new(false),
            answer_limit: self.answer_limit,
            driver,
        };
        session.batch(&self.set_up).await?;
        Ok(session)
    }

    async fn recycle(
        &self,
        session: &mut ServiceClient,
        metrics: &Metrics,
    ) -> RecycleResult<ServiceError> {
        if session.abandoned.load(Ordering::Relaxed) || session.client.is_closed() {
            return Err(RecycleError::message("the session is broken"));
        }
        if metrics.last_used() > TRUSTED_IDLE {
            session
                .bounded(session.client.check_connection())
                .await
                .map_err(RecycleError::Backend)?;
        }
        Ok(())
    }
}

/// Every warning counts, whatever its code: a server that terminates a backend in the middle of
/// the wait for its standbys uses 57P01 instead of 01000.
fn count_warning(notice: &tokio_postgres::error::DbError, counter: &AtomicU64) {
    use tokio_postgres::error::Severity;
    let severity = notice.parsed_severity();
    let is_warning = severity == Some(Severity::Warning) || notice.code().code().starts_with("01");
    if is_warning {
        tracing::warn!(
            code = notice.code().code(),
            message = notice.message(),
            "PostgreSQL warns"
        );
        counter.fetch_add(1, Ordering::SeqCst);
    }
}

/// One session.
pub struct ServiceClient {
    client: tokio_postgres::Client,
    tls: DatabaseTls,
    warnings: Arc<AtomicU64>,
    statements: Mutex<HashMap<&'static str, Statement>>,
    abandoned: AtomicBool,
    answer_limit: Duration,
    driver: JoinHandle<()>,
}

impl Drop for ServiceClient {
    fn drop(&mut self) {
        // Closes the socket at once, even when a frozen server never reads the goodbye.
        self.driver.abort();
        if self.abandoned.load(Ordering::Relaxed)
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            runtime.spawn(cancel(self.client.cancel_token(), self.tls.clone()));
        }
    }
}

impl ServiceClient {
    /// Runs one statement, prepared once per session, and returns its rows.
    ///
    /// # Errors
    /// [`ServiceError::Sql`] or [`ServiceError::NoAnswer`].
    pub async fn query(
        &self,
        sql: &'static str,
        params: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>, ServiceError> {
        let statement = self.statement(sql).await?;
        self.bounded(self.client.query(&statement, params)).await
    }

    /// Runs statements without parameters, as one implicit transaction.
    ///
    /// # Errors
    /// [`ServiceError::Sql`] or [`ServiceError::NoAnswer`].
    pub async fn batch(&self, sql: &str) -> Result<(), ServiceError> {
        self.bounded(self.client.batch_execute(sql)).await
    }

    /// A barrier (R6): one small WAL-writing transaction. When it returns, everything that could
    /// be read on this server before it is as durable and as replicated as a commit that was
    /// told.
    ///
    /// # Errors
    /// [`ServiceError::NotReplicated`] if any warning arrived, and as [`ServiceClient::query`].
    pub async fn barrier(&self) -> Result<(), ServiceError> {
        let before = self.warnings();
        self.query(
            "SELECT pg_catalog.pg_logical_emit_message(true, 'gavel', 'barrier')",
            &[],
        )
        .await?;
        if self.warnings() == before {
            Ok(())
        } else {
            Err(ServiceError::NotReplicated)
        }
    }

    /// Warnings that this session has received.
    pub fn warnings(&self) -> u64 {
        self.warnings.load(Ordering::SeqCst)
    }

    async fn statement(&self, sql: &'static str) -> Result<Statement, ServiceError> {
        if let Some(statement) = self.statements.lock().get(sql) {
            return Ok(statement.clone());
        }
        let statement = self.bounded(self.client.prepare(sql)).await?;
        self.statements.lock().insert(sql, statement.clone());
        Ok(statement)
    }

    async fn bounded<T>(
        &self,
        answer: impl Future<Output = Result<T, tokio_postgres::Error>>,
    ) -> Result<T, ServiceError> {
        // Set while an answer is awaited: a caller that stops waiting leaves a session behind
        // whose next answer is somebody else's.
        self.abandoned.store(true, Ordering::Relaxed);
        tokio::pin!(answer);
        let answer = match tokio::time::timeout(self.answer_limit, &mut answer).await {
            Ok(answer) => answer,
            Err(_) => {
                cancel(self.client.cancel_token(), self.tls.clone()).await;
                tokio::time::timeout(CANCEL_GRACE, answer)
                    .await
                    .map_err(|_| ServiceError::NoAnswer(self.answer_limit + CANCEL_GRACE))?
            }
        };
        self.abandoned.store(false, Ordering::Relaxed);
        answer.map_err(ServiceError::Sql)
    }
}

/// Asks the server to cancel what a session is doing. Whether it did, the session's answer tells.
async fn cancel(token: CancelToken, tls: DatabaseTls) {
    match tokio::time::timeout(CANCEL_GRACE, token.cancel_query(tls)).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "a statement could not be cancelled"),
        Err(_) => tracing::debug!("a statement could not be cancelled in time"),
    }
}
