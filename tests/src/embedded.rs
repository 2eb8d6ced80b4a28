//! Gavel inside the test's own process, over real servers.

use std::sync::Arc;
use std::time::{Duration, Instant};

use gavel_coordinator::{Answer, Coordinator, Engine, Submission};
use gavel_migrations::IdentityClaim;
use gavel_participant::{Directory, LocalParticipant, Participant, ShardConfig};
use gavel_protocol::{Ack, Limits, Outcome, Principal, ShardMap, ShardTag, Transaction, Txid};
use local_postgres::{Cluster, Options, Server};

use crate::bank::{self, Books};

/// The installation's name in tests.
pub const DEPLOYMENT: &str = "bank";

/// Which shard records the decisions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Home {
    /// One of the shards that the transaction works on.
    OnAShard,
    /// A shard of its own, after those with data.
    Dedicated,
}

/// Servers, participants and one coordinator.
pub struct Embedded {
    /// The servers; index `i` is the shard with tag `i + 1`. A dedicated home is the last.
    pub cluster: Cluster,
    /// The participants, in the same order.
    pub participants: Vec<LocalParticipant>,
    /// All participants.
    pub directory: Directory,
    /// The shards.
    pub shards: ShardMap,
    /// The limits.
    pub limits: Limits,
    /// A coordinator.
    pub coordinator: Coordinator,
    home: Home,
    urls: Vec<String>,
}

impl Embedded {
    /// `data_shards` shards, and one more for a dedicated home, with default limits.
    pub async fn start(home: Home, data_shards: usize) -> Self {
        Self::start_with(home, data_shards, Limits::default(), |options| options).await
    }

    /// As [`Embedded::start`] with these limits, on servers with these options.
    pub async fn start_with(
        home: Home,
        data_shards: usize,
        limits: Limits,
        change: impl Fn(Options) -> Options,
    ) -> Self {
        let count = data_shards + usize::from(home == Home::Dedicated);
        let names: Vec<String> = (0..count).map(|index| name(index).to_string()).collect();
        let options: Vec<Options> = names
            .iter()
            .map(|name| change(Options::for_tests(name)))
            .collect();
        let cluster = Cluster::temporary_with(&options).expect("start the servers");
        let mut urls = Vec::new();
        for (index, server) in cluster.servers().iter().enumerate() {
            urls.push(bank::create(server));
            let claim = IdentityClaim {
                deployment: DEPLOYMENT.to_owned(),
                shard: names[index].clone(),
                tag: tag(index).0,
                participant_role: Some(bank::ROLE.to_owned()),
            };
            let migrated = gavel_migrations::migrate(&server.url(bank::DATABASE), &claim).await;
            migrated.expect("migrate");
        }
        Self::open(home, cluster, urls, crate::with_batch_members(limits)).await
    }

    /// Opens participants and a coordinator over shards that exist.
    async fn open(home: Home, cluster: Cluster, urls: Vec<String>, limits: Limits) -> Self {
        let mut participants = Vec::new();
        for (index, database_url) in urls.iter().enumerate() {
            let config = ShardConfig {
                deployment: DEPLOYMENT.parse().expect("a name"),
                name: name(index),
                tag: tag(index),
                database_url: database_url.clone(),
                limits: limits.clone(),
            };
            participants.push(
                LocalParticipant::open(config)
                    .await
                    .expect("open the shard"),
            );
        }
        let each = participants
            .iter()
            .map(|each| Arc::new(each.clone()) as Arc<dyn Participant>);
        let directory = Directory::new(each);
        for participant in &participants {
            participant.start(directory.clone());
        }
        let shards = ShardMap::new((0..urls.len()).map(|index| (name(index), tag(index))));
        let shards = shards.expect("names and tags differ");
        let coordinator = Coordinator::start(shards.clone(), directory.clone(), limits.clone());
        wait_until_ready(&coordinator).await;
        Self {
            cluster,
            participants,
            directory,
            shards,
            limits,
            coordinator,
            home,
            urls,
        }
    }

    /// Ends participants and coordinator without a word, and opens new ones over the same shards.
    pub async fn restart(self) -> Self {
        let Self {
            cluster,
            limits,
            coordinator,
            home,
            urls,
            participants,
            ..
        } = self;
        coordinator.shut_down(Duration::ZERO).await;
        participants.iter().for_each(LocalParticipant::stop);
        Self::open(home, cluster, urls, limits).await
    }

    /// Ends participants and coordinator; the servers go on.
    pub async fn stop(self) -> Cluster {
        let Self {
            cluster,
            coordinator,
            participants,
            ..
        } = self;
        coordinator.shut_down(Duration::from_secs(5)).await;
        participants.iter().for_each(LocalParticipant::stop);
        cluster
    }

    /// One more coordinator over the same shards.
    pub async fn another_coordinator(&self) -> Coordinator {
        let coordinator = Coordinator::start(
            self.shards.clone(),
            self.directory.clone(),
            self.limits.clone(),
        );
        wait_until_ready(&coordinator).await;
        coordinator
    }

    /// One more coordinator, whose batches have so many members at most.
    pub async fn coordinator_with_batches_of(&self, members_max: usize) -> Coordinator {
        let limits = Limits {
            batch_members_max: members_max,
            ..self.limits.clone()
        };
        let coordinator = Coordinator::start(self.shards.clone(), self.directory.clone(), limits);
        wait_until_ready(&coordinator).await;
        coordinator
    }

    /// The home of a transaction of which `shard` would be the home if it can be: `shard`
    /// itself, or the dedicated home.
    pub fn home(&self, shard: u16) -> ShardTag {
        match self.home {
            Home::OnAShard => ShardTag(shard),
            Home::Dedicated => tag(self.participants.len() - 1),
        }
    }

    /// The server of [`Embedded::home`].
    pub fn home_server(&self, shard: u16) -> &Server {
        self.server(self.home(shard))
    }

    /// A shard's server.
    pub fn server(&self, shard: ShardTag) -> &Server {
        &self.cluster.servers()[usize::from(shard.0) - 1]
    }

    /// Mints a txid whose home is [`Embedded::home`].
    pub fn mint(&self, shard: u16) -> Txid {
        self.coordinator
            .mint(Some(self.home(shard)))
            .expect("a shard")
    }

    /// Submits as the local principal, and waits until it is applied.
    pub async fn submit(&self, txid: Txid, transaction: Transaction) -> Answer {
        self.coordinator.submit(submission(txid, transaction)).await
    }

    /// Submits through this coordinator, and follows every retryable refusal with another try
    /// under the same txid, as a client does. The last answer, if it is never final.
    pub async fn submit_until_final(
        &self,
        coordinator: &Coordinator,
        txid: Txid,
        transaction: Transaction,
    ) -> Outcome {
        const TRIES_MAX: u32 = 40;
        let mut tries = 0;
        loop {
            let submission = Submission {
                is_retry: tries > 0,
                ..submission(txid, transaction.clone())
            };
            let outcome = coordinator.submit(submission).await.outcome;
            tries += 1;
            match &outcome {
                Outcome::Refused(why) if why.is_retryable() && tries < TRIES_MAX => {}
                _ => return outcome,
            }
        }
    }

    /// Transfers between accounts on two shards; home is the payer's shard, or the dedicated one.
    pub async fn transfer(&self, from: (u16, i64), to: (u16, i64), amount: i64) -> Answer {
        let txid = self.mint(from.0);
        let (from, to) = ((ShardTag(from.0), from.1), (ShardTag(to.0), to.1));
        self.submit(txid, bank::transfer(txid, from, to, amount))
            .await
    }

    /// The books, once nothing is prepared any more; asserts that they are sound.
    pub async fn sound_books(&self) -> Books {
        let books = self.books_at_rest().await;
        bank::assert_sound(&books, self.cluster.servers().len());
        books
    }

    /// The books, once nothing is prepared any more.
    async fn books_at_rest(&self) -> Books {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let books = bank::read_books(self.cluster.servers());
            if books.prepared.is_empty() || Instant::now() > deadline {
                return books;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

fn tag(index: usize) -> ShardTag {
    ShardTag(u16::try_from(index + 1).expect("few shards"))
}

fn name(index: usize) -> gavel_protocol::ShardName {
    format!("shard_{}", index + 1).parse().expect("a name")
}

/// A submission by the local principal that waits until it is applied.
pub fn submission(txid: Txid, transaction: Transaction) -> Submission {
    Submission {
        txid,
        transaction,
        principal: Principal::local(),
        ack: Ack::Applied,
        timeout: None,
        is_retry: false,
    }
}

/// Whether an outcome is a commit.
pub fn is_committed(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Committed { .. })
}

/// Waits until a coordinator can commit on every shard.
pub async fn wait_until_ready(coordinator: &Coordinator) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while let Some(why) = unwell(coordinator) {
        assert!(
            Instant::now() < deadline,
            "the coordinator is not ready: {why}"
        );
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn unwell(coordinator: &Coordinator) -> Option<String> {
    let mut shards = coordinator.shard_health().into_iter();
    shards.find_map(|(tag, why)| Some(format!("shard {tag}: {}", why?)))
}
