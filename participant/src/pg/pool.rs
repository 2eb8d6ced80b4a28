//! Small pools of connections, one per kind of work, so that work that waits never holds the
//! connection that could end its wait.

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
        if connection.is_reusable() {
            Ok(())
        } else {
            Err(RecycleError::message("lost, or abandoned half way"))
        }
    }
}

/// A pool of connections to one shard for one kind of work.
pub type Pool = managed::Pool<Manager>;

/// A connection on loan.
pub type Lease = managed::Object<Manager>;

/// A connection could not be had. Nothing was sent on behalf of any transaction.
pub type PoolError = managed::PoolError<ConnectError>;

/// A pool of `size` connections, opened on demand.
pub fn pool(target: &Target, size: usize, limits: &Limits) -> Pool {
    let wait = Duration::from_millis(limits.connection_wait_ms);
    let timeouts = Timeouts {
        wait: Some(wait),
        create: None,
        recycle: None,
    };
    Pool::builder(Manager(target.clone()))
        .max_size(size)
        .timeouts(timeouts)
        // The connection used last is the warmest.
        .queue_mode(managed::QueueMode::Lifo)
        .runtime(deadpool::Runtime::Tokio1)
        .build()
        .expect("a pool with timeouts has a runtime")
}
