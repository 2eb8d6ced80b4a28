//! Watches what is prepared on every shard, all the time, and how long it stays.
//!
//! Times are measured by looking every 20 ms, so they are exact to about that. A branch that was
//! seen before its server went down counts as prepared until the server says otherwise.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use gavel_protocol::Gid;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::direct::{Branch, Direct};

const LOOK_EVERY: Duration = Duration::from_millis(20);

/// The watch. Ends when dropped.
pub(super) struct Watch {
    handle: Handle,
    _tasks: JoinSet<()>,
}

/// What the watch has seen. Clones share it.
#[derive(Debug, Clone, Default)]
pub(super) struct Handle(Arc<Mutex<Seen>>);

#[derive(Debug, Default)]
struct Seen {
    /// First seen.
    open: HashMap<Gid, Instant>,
    longest: Duration,
    /// Of these the end is remembered.
    followed: HashMap<Gid, Option<Instant>>,
}

impl Watch {
    pub(super) fn start(direct: Arc<Direct>) -> Self {
        let handle = Handle::default();
        let mut tasks = JoinSet::new();
        for shard in 0..direct.shards().len() {
            tasks.spawn(watch(Arc::clone(&direct), shard, handle.clone()));
        }
        Self {
            handle,
            _tasks: tasks,
        }
    }

    pub(super) fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// The longest time that any branch was seen prepared.
    pub(super) fn longest(&self) -> Duration {
        let seen = self.handle.lock();
        let open = seen.open.values().map(Instant::elapsed).max();
        seen.longest.max(open.unwrap_or_default())
    }

    /// Remembers when these end.
    pub(super) fn follow(&self, branches: &[Branch]) {
        let mut seen = self.handle.lock();
        for branch in branches {
            // What ended before the first look is found gone by the next one.
            seen.open
                .entry(branch.gid.clone())
                .or_insert_with(Instant::now);
            seen.followed.insert(branch.gid.clone(), None);
        }
    }

    /// When a followed branch ended, as far as it did.
    pub(super) fn ended(&self, branch: &Branch) -> Option<Instant> {
        *self.handle.lock().followed.get(&branch.gid)?
    }

    /// Waits until all these have ended; `false` after `limit`.
    pub(super) async fn wait_ended(&self, branches: &[Branch], limit: Duration) -> bool {
        let deadline = Instant::now() + limit;
        while Instant::now() < deadline {
            if branches.iter().all(|branch| self.ended(branch).is_some()) {
                return true;
            }
            sleep(LOOK_EVERY).await;
        }
        false
    }
}

impl Handle {
    /// How many are prepared now.
    pub(super) fn open(&self) -> usize {
        self.lock().open.len()
    }

    fn take_in(&self, shard: u16, prepared: &HashSet<Gid>) {
        let now = Instant::now();
        let mut seen = self.lock();
        let gone: Vec<Gid> = seen
            .open
            .keys()
            .filter(|gid| gid.shard.0 == shard && !prepared.contains(*gid))
            .cloned()
            .collect();
        for gid in gone {
            let first = seen.open.remove(&gid).unwrap_or(now);
            seen.longest = seen.longest.max(now - first);
            if let Some(end) = seen.followed.get_mut(&gid) {
                *end = Some(now);
            }
        }
        for gid in prepared {
            seen.open.entry(gid.clone()).or_insert(now);
        }
    }

    /// Nobody panics while holding it.
    fn lock(&self) -> MutexGuard<'_, Seen> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn watch(direct: Arc<Direct>, shard: usize, handle: Handle) {
    let tag = direct.shards()[shard].tag;
    loop {
        if let Ok(prepared) = direct.prepared(shard).await {
            handle.take_in(tag, &prepared.into_iter().collect());
        }
        sleep(LOOK_EVERY).await;
    }
}
