//! Every process is told to stop and started again, one after the other, while money moves: an
//! upgrade, as clients with the library see it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use gavel_client::{Gavel, Outcome};
use gavel_devkit::Role;
use gavel_tests::bank::assert_sound;
use gavel_tests::fleet::{Fleet, RESOLVED_WITHIN};
use gavel_tests::load::{Told, assert_told_the_truth, declared};
use tokio::task::JoinSet;

const CLIENTS: usize = 6;
/// Commits between two restarts.
const COMMITS: usize = 50;
const LIMIT: Duration = Duration::from_secs(60);

/// Clients whose transfers have nothing that could fail.
struct Crowd {
    stop: Arc<AtomicBool>,
    ended: Arc<AtomicUsize>,
    clients: JoinSet<Vec<Told>>,
}

impl Crowd {
    fn start(gavel: &Gavel, shards: [&'static str; 2]) -> Self {
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

    async fn goes_on(&self) {
        let before = self.ended.load(Ordering::Relaxed);
        let begun = Instant::now();
        while self.ended.load(Ordering::Relaxed) < before + COMMITS {
            assert!(begun.elapsed() < LIMIT, "the clients are stuck");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    async fn stop(mut self) -> Vec<Told> {
        self.stop.store(true, Ordering::Relaxed);
        let mut told = Vec::new();
        while let Some(client) = self.clients.join_next().await {
            told.extend(client.expect("a client does not panic"));
        }
        told
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rolling_restart_fails_no_call() {
    let fleet = Fleet::start();
    // The library's own patience: a process may take its time to come back.
    let urls = fleet.dev.coordinator_urls();
    let gavel = Gavel::connect(urls).await.expect("connect");
    let crowd = Crowd::start(&gavel, fleet.data_shards());
    let roles = [
        Role::Coordinator(0),
        Role::Participant(0),
        Role::Participant(1),
        Role::Participant(2),
        Role::Coordinator(1),
    ];
    for role in roles {
        crowd.goes_on().await;
        tokio::task::block_in_place(|| {
            fleet.dev.terminate(role);
            fleet.dev.restart(role).expect("start it again");
        });
    }
    crowd.goes_on().await;
    let told = crowd.stop().await;
    for each in &told {
        let is_committed = matches!(each.outcome, Outcome::Committed(_));
        assert!(is_committed, "{each:?}");
    }
    fleet.wait_resolved(RESOLVED_WITHIN).await;
    let books = fleet.books();
    assert_sound(&books, 3);
    assert_told_the_truth(&gavel, &told, &books).await;
}
