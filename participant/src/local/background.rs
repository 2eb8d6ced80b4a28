//! What a participant does on its own account.

use std::sync::Arc;
use std::time::Duration;

use gavel_protocol::Limits;

use super::Inner;
use crate::api::Directory;
use crate::attendance::Drivers;
use crate::audit::background::{self as audit, AuditTask};
use crate::retention::{self, RetentionTask};
use crate::scan::ScannerTask;
use crate::session::Sessions;
use crate::watch::{self, WatchTask};

/// Work of its own. It knows all participants, this one included, so nothing of them is dropped
/// before it has stopped.
pub(super) enum Background {
    NotStarted,
    Running(#[expect(dead_code, reason = "held until it is dropped")] Running),
    Stopped,
}

/// Background work; it ends when this is dropped.
pub(super) struct Running {
    _scan: ScannerTask,
    _retention: RetentionTask,
    _audit: AuditTask,
    _watch: WatchTask,
    sweep: tokio::task::JoinHandle<()>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.sweep.abort();
    }
}

impl Background {
    /// Starts what has not been started or stopped before.
    pub(super) fn start(&mut self, inner: &Inner, directory: Directory) {
        if matches!(self, Self::NotStarted) {
            *self = Self::Running(Running::start(inner, directory));
        }
    }

    /// For good.
    pub(super) fn stop(&mut self) {
        *self = Self::Stopped;
    }

    pub(super) fn is_stopped(&self) -> bool {
        matches!(self, Self::Stopped)
    }
}

impl Running {
    fn start(inner: &Inner, directory: Directory) -> Self {
        let (shard, pool, drivers) = (&inner.shard, &inner.pool, &inner.drivers);
        Self {
            _scan: inner.scanner.start(directory.clone()),
            _retention: retention::start(shard, pool.clone(), directory.clone()),
            _audit: audit::start(pool.clone(), shard.tag(), shard.meters.clone(), directory),
            _watch: watch::start(shard.clone(), pool.clone(), drivers.clone()),
            sweep: tokio::spawn(sweep(
                inner.sessions.clone(),
                drivers.clone(),
                shard.limits.clone(),
            )),
        }
    }
}

/// Ends interactive branches that nobody will continue.
async fn sweep(sessions: Arc<Sessions>, drivers: Drivers, limits: Limits) {
    let every = Duration::from_millis(limits.scan_interval_ms);
    loop {
        tokio::time::sleep(every).await;
        sessions.sweep(&drivers, &limits).await;
    }
}
