//! Small pools of connections, one per kind of work, so that work that waits never holds the
//! connection that could end its wait.

use std::ops::{Deref, DerefMut};
use std::time::Duration;

use deadpool::managed::{self, Metrics, RecycleError, RecycleResult, Timeouts};
use gavel_protocol::Limits;

use super::connect::{ConnectError, Target};
use super::connection::Connection;

/// Opens and checks connections for [`managed::Pool`].
pub struct Manager(Target);

impl managed::Manager for Manager {
    type Type = Connection;
    type Error = ConnectError;

    async fn create(&self) -> Result<Connection, ConnectError> {
        self.0.connect().await
    }

    async fn recycle(
        &self,
        connection: &mut Connection,
        _: &Metrics,
    ) -> RecycleResult<ConnectError> {
        let settled = connection.settle().await.is_ok();
        if settled && connection.is_reusable() {
            Ok(())
        } else {
            Err(RecycleError::message("lost, or abandoned half way"))
        }
    }
}

/// A connection could not be had. Nothing was sent on behalf of any transaction.
pub type PoolError = managed::PoolError<ConnectError>;

/// A pool of connections to one shard for one kind of work.
pub struct Pool(managed::Pool<Manager>);

impl Pool {
    /// A pool of `size` connections, opened on demand.
    pub fn new(target: &Target, size: usize, limits: &Limits) -> Self {
        let wait = Duration::from_millis(limits.connection_wait_ms);
        let timeouts = Timeouts {
            wait: Some(wait),
            create: None,
            recycle: Some(wait),
        };
        let pool = managed::Pool::builder(Manager(target.clone()))
            .max_size(size)
            .timeouts(timeouts)
            // The connection used last is the warmest.
            .queue_mode(managed::QueueMode::Lifo)
            .runtime(deadpool::Runtime::Tokio1)
            .build();
        Self(pool.expect("a pool with timeouts has a runtime"))
    }

    /// How it stands.
    pub fn status(&self) -> PoolStatus {
        PoolStatus::of(&self.0.status())
    }

    /// Borrows a connection, waiting for one at most `connection_wait_ms`.
    pub async fn get(&self) -> Result<Lease, PoolError> {
        Ok(Lease(Some(self.0.get().await?)))
    }
}

/// Connections of a pool, counted.
#[derive(Debug, Clone, Copy)]
pub struct PoolStatus {
    /// Ready for use.
    pub idle: usize,
    /// In use.
    pub busy: usize,
    /// How many there may be.
    pub max: usize,
    /// Work that waits for one.
    pub waiting: usize,
}

impl PoolStatus {
    /// What deadpool says.
    pub fn of(status: &deadpool::Status) -> Self {
        Self {
            idle: status.available,
            busy: status.size.saturating_sub(status.available),
            max: status.max_size,
            waiting: status.waiting,
        }
    }
}

/// A connection on loan. If it cannot be used again, it is closed when the loan ends, and not
/// when the pool next looks at it: until then an abandoned transaction would keep its row locks,
/// and a session its advisory locks.
pub struct Lease(Option<managed::Object<Manager>>);

impl Deref for Lease {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        self.0.as_ref().expect("taken only when dropped")
    }
}

impl DerefMut for Lease {
    fn deref_mut(&mut self) -> &mut Connection {
        self.0.as_mut().expect("taken only when dropped")
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(connection) = self.0.take()
            && !connection.is_reusable()
        {
            drop(managed::Object::take(connection));
        }
    }
}
