//! Clients that never stop asking, and remember what they were told.

mod bank;
mod lists;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};

use gavel_client::{Gavel, Outcome};
use gavel_protocol::Txid;
use parking_lot::Mutex;
use tokio::task::JoinSet;

use crate::arena::{Arena, COORDINATORS, DATA_SHARDS};
use crate::error::ChaosError;
use crate::history::{Action, Told, Workload};

pub use bank::calm_transfer;
pub use lists::{LOCKED_FIRST, PLAIN_FIRST, final_reads, shard_of};

/// How many clients of each kind.
#[derive(Debug, Clone, Copy)]
pub struct Crowd {
    /// Move money.
    pub bank: usize,
    /// Append and read, every read with a lock.
    pub locked: usize,
    /// Append and read.
    pub plain: usize,
}

/// Counts for whoever watches.
#[derive(Debug, Default)]
pub struct Counts {
    /// `committed`.
    pub committed: AtomicU64,
    /// `aborted`.
    pub aborted: AtomicU64,
    /// `refused`.
    pub refused: AtomicU64,
    /// `in doubt`.
    pub in_doubt: AtomicU64,
}

/// Clients at work; [`Clients::stop`] ends them.
pub struct Clients {
    stop: Arc<AtomicBool>,
    counts: Arc<Counts>,
    tasks: JoinSet<()>,
}

/// What one client knows.
struct Client {
    arena: Arc<Arena>,
    gavel: Gavel,
    /// If it has only one.
    coordinator: Option<usize>,
    counts: Arc<Counts>,
    process: u64,
    elements: Arc<AtomicI64>,
}

impl Clients {
    /// Starts them. Three of four talk to one coordinator only, so that it is known whom a fault
    /// there strikes; the others to both.
    ///
    /// # Errors
    /// No coordinator can be reached.
    pub async fn start(arena: &Arc<Arena>, crowd: Crowd) -> Result<Self, ChaosError> {
        let mut clients = Self {
            stop: Arc::default(),
            counts: Arc::default(),
            tasks: JoinSet::new(),
        };
        let elements = Arc::new(AtomicI64::new(1));
        let kinds = [
            (Workload::Bank, crowd.bank),
            (Workload::ListsLocked, crowd.locked),
            (Workload::ListsPlain, crowd.plain),
        ];
        let all = kinds
            .into_iter()
            .flat_map(|(kind, count)| vec![kind; count]);
        for (number, workload) in all.enumerate() {
            let coordinator = (number % 4 != 3).then_some(number % COORDINATORS);
            let both: Vec<usize> = (0..COORDINATORS).collect();
            let gavel = match coordinator {
                Some(one) => arena.client(&[one]).await?,
                None => arena.client(&both).await?,
            };
            let client = Client {
                arena: Arc::clone(arena),
                gavel,
                coordinator,
                counts: Arc::clone(&clients.counts),
                process: arena.recorder.new_process(),
                elements: Arc::clone(&elements),
            };
            let stop = Arc::clone(&clients.stop);
            clients.tasks.spawn(client.work(workload, stop));
        }
        Ok(clients)
    }

    /// What was told so far.
    #[must_use]
    pub fn counts(&self) -> &Arc<Counts> {
        &self.counts
    }

    /// Lets every client finish what it is doing.
    ///
    /// # Errors
    /// A client panicked.
    pub async fn stop(mut self) -> Result<(), ChaosError> {
        self.stop.store(true, Ordering::Relaxed);
        while let Some(ended) = self.tasks.join_next().await {
            ended.map_err(ChaosError::Panicked)?;
        }
        Ok(())
    }
}

impl Client {
    async fn work(mut self, workload: Workload, stop: Arc<AtomicBool>) {
        while !stop.load(Ordering::Relaxed) {
            match workload {
                Workload::Bank | Workload::Doomed => self.transfer().await,
                Workload::ListsLocked | Workload::ListsPlain => self.list(workload).await,
            }
        }
    }

    /// A home for the next transaction: half of them on the decisions shard.
    fn home(&self) -> String {
        let index = if rand::random() {
            DATA_SHARDS
        } else {
            rand::random_range(0..DATA_SHARDS)
        };
        self.arena.shard(index).to_owned()
    }

    /// Remembers where a transaction is while it is under way.
    fn route(&self, txid: Txid) -> Route {
        if let Some(coordinator) = self.coordinator {
            self.arena.routes.lock().insert(txid, coordinator);
        }
        Route {
            txid,
            routes: Arc::clone(&self.arena.routes),
        }
    }

    /// Records the end of an operation. Whoever does not know how it ended begins a new process.
    fn record(&mut self, begun: crate::history::Begun, action: Action, told: Told) {
        let is_unknown = matches!(told, Told::InDoubt(_));
        self.counts.count(&told);
        self.arena.recorder.complete(begun, action, told);
        if is_unknown {
            self.process = self.arena.recorder.new_process();
        }
    }
}

impl Counts {
    fn count(&self, told: &Told) {
        let counter = match told {
            Told::Committed => &self.committed,
            Told::Aborted(_) => &self.aborted,
            Told::Refused(_) => &self.refused,
            Told::InDoubt(_) => &self.in_doubt,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

struct Route {
    txid: Txid,
    routes: Arc<Mutex<HashMap<Txid, usize>>>,
}

impl Drop for Route {
    fn drop(&mut self) {
        self.routes.lock().remove(&self.txid);
    }
}

/// What a client heard, as the history keeps it.
fn told(outcome: &Outcome) -> Told {
    match outcome {
        Outcome::Committed(_) => Told::Committed,
        Outcome::Aborted { reason, .. } => Told::Aborted(reason.to_string()),
        Outcome::Refused { why, .. } => Told::Refused(why.to_string()),
        Outcome::InDoubt { detail, .. } => Told::InDoubt(detail.clone()),
    }
}
