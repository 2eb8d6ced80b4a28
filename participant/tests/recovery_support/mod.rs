//! Real shards with their recovery side running, and hands to play coordinator with.
#![allow(dead_code, reason = "every test file uses another part of this")]

mod hands;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use gavel_migrations::{IdentityClaim, migrate};
use gavel_participant::service_pool::{ServicePool, ServicePoolConfig};
use gavel_participant::{Directory, LocalParticipant, Participant, ShardConfig};
use gavel_protocol::message::ShardIdentity;
use gavel_protocol::{BatchId, Gid, Incarnation, Limits, ShardTag};
use local_postgres::{Cluster, Options, Server};

#[allow(unused_imports, reason = "every test file uses another part of this")]
pub(crate) use hands::{Hands, sqlstate};

/// The one database on every server.
pub(crate) const DATABASE: &str = "bank";
/// The participant's login role.
pub(crate) const ROLE: &str = "participant";
/// How long a condition may take to come true on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// Shards 1, 2, …, each on a server of its own.
pub(crate) struct World {
    pub(crate) cluster: Cluster,
    names: Vec<String>,
    passwords: HashMap<ShardTag, String>,
    pub(crate) limits: Limits,
}

/// Everything quick, so that tests are.
pub(crate) fn limits() -> Limits {
    Limits {
        scan_interval_ms: 50,
        in_doubt_after_ms: 700,
        resolve_lock_timeout_ms: 300,
        resolve_timeout_ms: 1_500,
        connect_timeout_ms: 1_000,
        connection_wait_ms: 1_000,
        retry_first_ms: 10,
        retry_max_ms: 100,
        ..Limits::default()
    }
}

impl World {
    /// Starts and migrates shards of these names; the first has tag 1.
    pub(crate) async fn start(names: &[&str]) -> Self {
        let options: Vec<Options> = names.iter().map(|name| Options::for_tests(name)).collect();
        let cluster = Cluster::temporary_with(&options).expect("start PostgreSQL");
        let mut world = Self {
            cluster,
            names: names.iter().map(|&name| name.to_owned()).collect(),
            passwords: HashMap::new(),
            limits: limits(),
        };
        for index in 0..names.len() {
            let tag = ShardTag(u16::try_from(index + 1).expect("few shards"));
            let server = world.server(tag);
            server.create_database(DATABASE).expect("create database");
            let password = server.create_login_role(ROLE).expect("create role");
            world.passwords.insert(tag, password);
            world.migrate(tag).await;
        }
        world
    }

    /// Applies the migrations to a shard.
    pub(crate) async fn migrate(&self, tag: ShardTag) {
        let claim = IdentityClaim {
            deployment: "test".to_owned(),
            shard: self.identity(tag).name.to_string(),
            tag: tag.0,
            participant_role: Some(ROLE.to_owned()),
        };
        let url = self.server(tag).url(DATABASE);
        migrate(&url, &claim).await.expect("migrate");
    }

    pub(crate) fn tags(&self) -> impl Iterator<Item = ShardTag> {
        (1..=self.names.len()).map(|tag| ShardTag(u16::try_from(tag).expect("few shards")))
    }

    pub(crate) fn server(&self, tag: ShardTag) -> &Server {
        &self.cluster.servers()[usize::from(tag.0) - 1]
    }

    pub(crate) fn url(&self, tag: ShardTag) -> String {
        self.server(tag)
            .url_for(ROLE, &self.passwords[&tag], DATABASE)
    }

    pub(crate) fn identity(&self, tag: ShardTag) -> ShardIdentity {
        ShardIdentity {
            deployment: "test".parse().expect("a name"),
            name: self.names[usize::from(tag.0) - 1].parse().expect("a name"),
            tag,
            incarnation: Incarnation(1),
        }
    }

    /// A session with the participant's rights.
    pub(crate) async fn hands(&self, tag: ShardTag) -> Hands {
        Hands::connect(&self.url(tag)).await
    }

    /// Runs SQL as the superuser.
    pub(crate) fn admin(&self, tag: ShardTag, sql: &str) -> Vec<Vec<Option<String>>> {
        self.server(tag).sql(DATABASE, sql).expect("SQL")
    }

    /// The participants of all shards, not scanning yet.
    pub(crate) async fn peers(&self) -> (HashMap<ShardTag, LocalParticipant>, Directory) {
        let mut peers = HashMap::new();
        for tag in self.tags() {
            let identity = self.identity(tag);
            let config = ShardConfig {
                deployment: identity.deployment,
                name: identity.name,
                tag,
                database_url: self.url(tag),
                limits: self.limits.clone(),
            };
            let participant = LocalParticipant::open(config).await.expect("open");
            peers.insert(tag, participant);
        }
        let all = peers.values().cloned();
        let directory = Directory::new(all.map(|peer| Arc::new(peer) as Arc<dyn Participant>));
        (peers, directory)
    }

    /// Service connections of our own.
    pub(crate) fn pool(&self, tag: ShardTag) -> ServicePool {
        ServicePool::new(ServicePoolConfig {
            database: self.url(tag).parse().expect("a URL"),
            limits: self.limits.clone(),
        })
    }

    /// The gid of `batch` on `shard`.
    pub(crate) fn gid(&self, batch: BatchId, home: ShardTag, shard: ShardTag) -> Gid {
        Gid {
            deployment: "test".parse().expect("a name"),
            home,
            home_incarnation: Incarnation(1),
            batch,
            shard,
        }
    }

    /// Prepares a branch by hand.
    pub(crate) async fn prepare(&self, gid: &Gid) {
        let hands = self.hands(gid.shard).await;
        hands.prepare(gid).await.expect("prepare");
    }

    /// Commits a decision by hand.
    pub(crate) async fn decide(&self, batch: BatchId, home: ShardTag, prepared: &[ShardTag]) {
        let hands = self.hands(home).await;
        hands.run("BEGIN").await.expect("begin");
        hands.open_decision(batch, prepared).await.expect("decide");
        hands.run("COMMIT").await.expect("commit");
    }

    /// All prepared transactions of a shard's server.
    pub(crate) fn prepared(&self, tag: ShardTag) -> Vec<String> {
        let rows = self.admin(tag, "SELECT gid FROM pg_prepared_xacts ORDER BY gid");
        rows.into_iter()
            .filter_map(|mut row| row.remove(0))
            .collect()
    }

    /// Whether the branch row of `batch` is on a shard.
    pub(crate) fn is_applied(&self, tag: ShardTag, batch: BatchId) -> bool {
        let sql = format!("SELECT 1 FROM gavel.branch WHERE batch = '{batch}'");
        !self.admin(tag, &sql).is_empty()
    }

    /// The outcome in a home's register.
    pub(crate) fn outcome(&self, home: ShardTag, batch: BatchId) -> Option<String> {
        let sql = format!("SELECT outcome FROM gavel.decision WHERE batch = '{batch}'");
        self.admin(home, &sql).pop()?.remove(0)
    }
}

pub(crate) fn now_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    u64::try_from(now.expect("clock").as_millis()).expect("64 bits")
}

/// A fresh batch id.
pub(crate) fn batch() -> BatchId {
    batch_at(now_ms())
}

/// A batch id of another time.
pub(crate) fn batch_at(unix_ms: u64) -> BatchId {
    BatchId::mint(unix_ms, rand::random())
}

/// Waits until `condition` holds.
pub(crate) async fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Waits until `condition` holds, which has to ask somebody.
pub(crate) async fn eventually_async(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition().await {
        assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
