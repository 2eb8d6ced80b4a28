//! Clients whose transfers have nothing that could fail, for as long as it takes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use gavel_client::Gavel;
use tokio::task::JoinSet;

use crate::load::{Told, declared};

const CLIENTS: usize = 6;
/// Transfers that show that it goes on.
const COMMITS: usize = 50;
const LIMIT: Duration = Duration::from_secs(60);

/// Clients whose transfers have nothing that could fail.
pub struct Crowd {
    stop: Arc<AtomicBool>,
    ended: Arc<AtomicUsize>,
    clients: JoinSet<Vec<Told>>,
}

impl Crowd {
    /// Starts transfers between two shards, each client with its own accounts.
    pub fn start(gavel: &Gavel, shards: [&'static str; 2]) -> Self {
        let mut crowd = Self {
            stop: Arc::default(),
            ended: Arc::default(),
            clients: JoinSet::new(),
        };
        for client in 0..CLIENTS {
            let (gavel, stop, ended) = (gavel.clone(), crowd.stop.clone(), crowd.ended.clone());
            crowd.clients.spawn(async move {
                let account = i64::try_from(client).expect("small");
                let mut told = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    let txid = gavel.mint(shards[0]).expect("a shard");
                    let (from, to) = ((shards[0], account), (shards[1], account));
                    let outcome = declared(&gavel, txid, from, to).await;
                    ended.fetch_add(1, Ordering::Relaxed);
                    told.push(Told { txid, outcome });
                }
                told
            });
        }
        crowd
    }

    /// Waits until some more transfers have ended.
    pub async fn goes_on(&self) {
        let before = self.ended.load(Ordering::Relaxed);
        let begun = Instant::now();
        while self.ended.load(Ordering::Relaxed) < before + COMMITS {
            assert!(begun.elapsed() < LIMIT, "the clients are stuck");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Ends them; returns what they were told.
    pub async fn stop(mut self) -> Vec<Told> {
        self.stop.store(true, Ordering::Relaxed);
        let mut told = Vec::new();
        while let Some(client) = self.clients.join_next().await {
            told.extend(client.expect("a client does not panic"));
        }
        told
    }
}
