//! Looks at the deployment all the time: how much is done, what is in doubt, and for how long.
//!
//! What is in doubt is read by direct SQL. A server that cannot be asked keeps what it showed last,
//! because a prepared branch outlives its server's crash.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use serde::Serialize;
use tokio::task::JoinSet;
use tokio_postgres::{Client, NoTls, SimpleQueryMessage};

use crate::arena::Arena;
use crate::workload::Counts;

const LOOK_EVERY: Duration = Duration::from_millis(200);
const ASK_LIMIT: Duration = Duration::from_secs(1);

/// The deployment at one moment. Counts are totals since the beginning.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct Sample {
    /// Milliseconds since the history began.
    pub at_ms: u64,
    /// Told `committed`.
    pub committed: u64,
    /// Told `aborted`.
    pub aborted: u64,
    /// Told `refused`.
    pub refused: u64,
    /// Told `in doubt`.
    pub in_doubt: u64,
    /// Branches that are prepared.
    pub prepared: u64,
    /// How long the oldest of them has been.
    pub oldest_ms: u64,
}

/// Looks until it is dropped.
pub struct Monitor {
    seen: Arc<Mutex<Seen>>,
    _tasks: JoinSet<()>,
}

#[derive(Debug, Default)]
struct Seen {
    samples: Vec<Sample>,
    /// By gid: on which shard, and since when.
    prepared: HashMap<String, (usize, Instant)>,
}

impl Monitor {
    /// Begins to look.
    #[must_use]
    pub fn start(arena: &Arc<Arena>, counts: &Arc<Counts>) -> Self {
        let seen = Arc::new(Mutex::new(Seen::default()));
        let mut tasks = JoinSet::new();
        for shard in 0..arena.dev.shards().len() {
            tasks.spawn(watch(Arc::clone(arena), shard, Arc::clone(&seen)));
        }
        let (began, counts, all) = (
            arena.recorder.began(),
            Arc::clone(counts),
            Arc::clone(&seen),
        );
        tasks.spawn(async move {
            loop {
                tokio::time::sleep(LOOK_EVERY).await;
                all.lock().sample(began, &counts);
            }
        });
        Self {
            seen,
            _tasks: tasks,
        }
    }

    /// The latest sample.
    #[must_use]
    pub fn latest(&self) -> Sample {
        self.seen.lock().samples.last().copied().unwrap_or_default()
    }

    /// All samples.
    #[must_use]
    pub fn samples(&self) -> Vec<Sample> {
        self.seen.lock().samples.clone()
    }
}

impl Seen {
    fn sample(&mut self, began: Instant, counts: &Counts) {
        let oldest = self.prepared.values().map(|(_, since)| since.elapsed());
        let sample = Sample {
            at_ms: millis(began.elapsed()),
            committed: counts.committed.load(Ordering::Relaxed),
            aborted: counts.aborted.load(Ordering::Relaxed),
            refused: counts.refused.load(Ordering::Relaxed),
            in_doubt: counts.in_doubt.load(Ordering::Relaxed),
            prepared: self.prepared.len() as u64,
            oldest_ms: millis(oldest.max().unwrap_or_default()),
        };
        self.samples.push(sample);
    }

    fn note(&mut self, shard: usize, gids: Vec<String>) {
        self.prepared
            .retain(|gid, (at, _)| *at != shard || gids.contains(gid));
        for gid in gids {
            self.prepared
                .entry(gid)
                .or_insert_with(|| (shard, Instant::now()));
        }
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

async fn watch(arena: Arc<Arena>, shard: usize, seen: Arc<Mutex<Seen>>) {
    let mut session: Option<Client> = None;
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        let url = arena.superuser_url(shard);
        let looked = tokio::time::timeout(ASK_LIMIT, look(&mut session, &url)).await;
        match looked {
            Ok(Some(gids)) => seen.lock().note(shard, gids),
            Ok(None) | Err(_) => session = None,
        }
    }
}

async fn look(session: &mut Option<Client>, url: &str) -> Option<Vec<String>> {
    let client = match session {
        Some(client) => client,
        None => {
            let (client, connection) = tokio_postgres::connect(url, NoTls).await.ok()?;
            tokio::spawn(connection);
            session.insert(client)
        }
    };
    let sql = "SELECT gid FROM pg_prepared_xacts WHERE gid LIKE 'gavel:dev:%'";
    let rows = client.simple_query(sql).await.ok()?;
    let gid = |message| match message {
        SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
        _ => None,
    };
    Some(rows.into_iter().filter_map(gid).collect())
}
