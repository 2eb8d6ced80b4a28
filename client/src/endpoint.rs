//! The coordinators that a client knows, and which one to ask next.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use gavel_protocol::{RefusalCode, ShardMap};
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::transport::{Failure, Transport};

/// How long an endpoint that failed is passed over while others may do.
const SHUNNED_FOR: Duration = Duration::from_secs(1);

/// One coordinator.
pub(crate) struct Endpoint {
    transport: Arc<dyn Transport>,
    shunned_until: Mutex<Option<Instant>>,
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoint")
            .field("shunned_until", &self.shunned_until)
            .finish_non_exhaustive()
    }
}

impl Endpoint {
    /// Makes one call. No answer within `time` counts as lost.
    pub(crate) async fn call<T, F, Fut>(&self, time: Duration, call: F) -> Result<T, Failure>
    where
        F: FnOnce(Arc<dyn Transport>) -> Fut,
        Fut: Future<Output = Result<T, Failure>>,
    {
        let calling = call(Arc::clone(&self.transport));
        let ended = match tokio::time::timeout(time, calling).await {
            Ok(ended) => ended,
            Err(_) => Err(Failure::Lost(format!("no answer within {time:?}"))),
        };
        let failed = match &ended {
            Ok(_) => false,
            Err(Failure::NotSent(_) | Failure::Lost(_)) => true,
            // It answers, but takes nothing: others will.
            Err(Failure::Refused(refusal)) => refusal.code == RefusalCode::ShuttingDown,
        };
        *self.shunned_until.lock() = failed.then(|| Instant::now() + SHUNNED_FOR);
        ended
    }

    fn is_shunned(&self) -> bool {
        let until = *self.shunned_until.lock();
        until.is_some_and(|until| Instant::now() < until)
    }
}

/// All coordinators, taken in turn, so that several share the load.
pub(crate) struct Endpoints {
    all: Vec<Arc<Endpoint>>,
    turn: AtomicUsize,
}

impl Endpoints {
    /// There must be at least one.
    pub(crate) fn new(transports: Vec<Arc<dyn Transport>>) -> Self {
        assert!(!transports.is_empty(), "a client needs a coordinator");
        let endpoint = |transport| {
            Arc::new(Endpoint {
                transport,
                shunned_until: Mutex::new(None),
            })
        };
        Self {
            turn: AtomicUsize::new(rand::random_range(0..transports.len())),
            all: transports.into_iter().map(endpoint).collect(),
        }
    }

    /// Tells all of them the shards.
    pub(crate) fn know(&self, shards: &Arc<ShardMap>) {
        for endpoint in &self.all {
            endpoint.transport.know(shards);
        }
    }

    /// The next one in turn that did not fail a moment ago, or simply the next.
    pub(crate) fn next(&self) -> Arc<Endpoint> {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let from_turn = |step| &self.all[turn.wrapping_add(step) % self.all.len()];
        let healthy = (0..self.all.len())
            .map(from_turn)
            .find(|endpoint| !endpoint.is_shunned());
        Arc::clone(healthy.unwrap_or_else(|| from_turn(0)))
    }
}
