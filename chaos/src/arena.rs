//! A deployment with a proxy on every wire: between clients and coordinators, between services,
//! and between each participant and its server.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use gavel_client::Gavel;
use gavel_devkit::{Dev, EnvOf, Options, Role, Shard};
use gavel_protocol::Txid;
use parking_lot::Mutex;

use crate::bank::{Bank, DATABASE};
use crate::error::ChaosError;
use crate::history::Recorder;
use crate::lists;
use crate::proxy::{Link, PgProxy};
use crate::pulse;
use crate::replicas::Replicas;
use crate::small_disk::SmallDisk;
use crate::witness::Witness;

/// Shards with data; one more holds only decisions.
pub const DATA_SHARDS: usize = 2;
/// All shards. The last one is the decisions shard.
pub const SHARDS: usize = DATA_SHARDS + 1;
/// The shard that can have a small disk, and its name.
pub const SMALL_DISK_SHARD: usize = 1;
const SMALL_DISK_NAME: &str = "beta";
/// Coordinators.
pub const COORDINATORS: usize = 2;
/// Lists of each kind on each shard.
pub const LISTS: i64 = 4_000;
/// What is on every shard.
pub const BANK: Bank = Bank {
    accounts: 60,
    // Enough that no healthy transfer can ever overdraw an account.
    initial_balance: 1_000_000,
};
/// The participants' login role.
const ROLE: &str = "app";
/// A table for transactions that nobody else has rows with.
const VICTIM: &str = "CREATE TABLE victim (txid uuid NOT NULL); GRANT INSERT ON victim TO app;";
/// Stand beside Gavel's branches all the time: somebody else's, and another deployment's.
const FOREIGN: [&str; DATA_SHARDS] = [
    "somebody-elses-1",
    "gavel:other:1:1:019a9f0e-7c11-7b1e-8f5a-3d4c5b6a7988:2",
];
/// How long a process may take to come back on a busy machine.
const READY_LIMIT: Duration = Duration::from_secs(60);
/// A client of a run should not wait for half a minute where something was killed for good.
const CLIENT_DEADLINE: Duration = Duration::from_secs(12);
const CLIENT_ATTEMPT: Duration = Duration::from_secs(4);

/// The deployment, its proxies, and what was seen of it.
#[derive(Debug)]
pub struct Arena {
    /// Processes and servers.
    pub dev: Dev,
    /// What passes the wires to the servers.
    pub witness: Arc<Witness>,
    /// What clients ask and hear.
    pub recorder: Recorder,
    /// Which coordinator a transaction is at, while it is under way and goes to one only.
    pub routes: Arc<Mutex<HashMap<Txid, usize>>>,
    /// What people did behind Gavel's back.
    pub people: Mutex<People>,
    wires: Arc<Wires>,
    /// Standbys, and which servers are primaries. Dropped after the deployment.
    pub replicas: Replicas,
    /// What [`SMALL_DISK_SHARD`]'s server has its data on, if that was asked for. Dropped after
    /// the servers.
    pub small_disk: Option<SmallDisk>,
}

/// What some faults need of the deployment.
#[derive(Debug, Clone, Copy, Default)]
pub struct Needs {
    /// The server of [`SMALL_DISK_SHARD`] has a disk that can be filled.
    pub small_disk: bool,
    /// Every server has a synchronous standby.
    pub standbys: bool,
}

/// What people did on the servers, which the checks have to know.
#[derive(Debug, Default, Clone)]
pub struct People {
    /// Batches that somebody ended by hand against their decision. Their damage must be reported.
    pub damaged: BTreeSet<String>,
    /// Prepared transactions that are not Gavel's, and that must stay as they are.
    pub foreign: Vec<String>,
}

/// All proxies.
#[derive(Debug)]
struct Wires {
    /// From each participant to its server.
    servers: Vec<PgProxy>,
    /// From a service to the participant of a shard.
    services: Vec<(Role, usize, Link)>,
    /// From clients to each coordinator.
    fronts: Vec<Link>,
}

impl Wires {
    async fn open(witness: &Arc<Witness>) -> io::Result<Self> {
        let mut wires = Self {
            servers: Vec::new(),
            services: Vec::new(),
            fronts: Vec::new(),
        };
        for shard in 0..SHARDS {
            let proxy = PgProxy::open(shard, Arc::clone(witness)).await?;
            wires.servers.push(proxy);
        }
        let participants = (0..SHARDS).map(Role::Participant);
        for from in participants.chain((0..COORDINATORS).map(Role::Coordinator)) {
            for shard in (0..SHARDS).filter(|shard| Role::Participant(*shard) != from) {
                wires.services.push((from, shard, Link::open().await?));
            }
        }
        for _ in 0..COORDINATORS {
            wires.fronts.push(Link::open().await?);
        }
        Ok(wires)
    }

    /// Tells a process the proxies' addresses instead of the real ones, and the proxies theirs.
    fn env(&self, role: Role, shards: &[Shard]) -> Vec<(String, String)> {
        let mut env = Vec::new();
        for (index, shard) in shards.iter().enumerate() {
            let name = shard.name.to_uppercase();
            if role == Role::Participant(index) {
                let proxy = &self.servers[index];
                proxy.lead_to(port(&shard.database_url));
                let url = with_port(&shard.database_url, proxy.port());
                env.push((format!("GAVEL__SHARD__{name}__DATABASE_URL"), url));
            } else if let Some(link) = self.service(role, index) {
                link.lead_to(port(&shard.participant_url));
                env.push((format!("GAVEL__SHARD__{name}__PARTICIPANT"), link.url()));
            }
        }
        env
    }

    fn service(&self, from: Role, shard: usize) -> Option<&Link> {
        let found = self
            .services
            .iter()
            .find(|(role, to, _)| (*role, *to) == (from, shard));
        found.map(|(_, _, link)| link)
    }
}

impl Arena {
    /// Starts everything in `folder` with the given `gavel`; each coordinator's batches have so
    /// many members at most.
    ///
    /// # Errors
    /// Whatever does not start.
    pub async fn start(
        folder: PathBuf,
        executable: PathBuf,
        history: PathBuf,
        needs: Needs,
        batch_members: [usize; COORDINATORS],
    ) -> Result<Arc<Self>, ChaosError> {
        let small_disk = needs
            .small_disk
            .then(|| SmallDisk::mount(&folder.join("postgres").join(SMALL_DISK_NAME)))
            .transpose()
            .map_err(|source| ChaosError::Write {
                what: "a small disk".to_owned(),
                source,
            })?;
        let tags = (1..=u16::try_from(SHARDS).expect("few shards")).collect();
        let witness = Arc::new(Witness::new(tags));
        let wires = Arc::new(Wires::open(&witness).await.map_err(ChaosError::Proxy)?);
        let mut options = Options::for_tests(folder, executable);
        options.shards = Some(DATA_SHARDS);
        options.decisions_shard = true;
        options.coordinators = COORDINATORS;
        let told = Arc::clone(&wires);
        options.env_of = Some(EnvOf::new(move |role, shards| {
            let mut env = told.env(role, shards);
            if let Role::Coordinator(index) = role {
                let size = batch_members[index].to_string();
                env.push(("GAVEL__LIMITS__BATCH_MEMBERS_MAX".to_owned(), size));
            }
            env
        }));
        let dev = tokio::task::spawn_blocking(move || start_and_fill(&options));
        let dev = dev.await.map_err(ChaosError::Panicked)??;
        for (front, url) in wires.fronts.iter().zip(dev.coordinator_urls()) {
            front.lead_to(port(&url));
        }
        let recorder = Recorder::create(Some(&history)).map_err(ChaosError::History)?;
        let people = People {
            damaged: BTreeSet::new(),
            foreign: FOREIGN.iter().map(|gid| (*gid).to_owned()).collect(),
        };
        let arena = Arc::new(Self {
            dev,
            witness,
            recorder,
            routes: Arc::default(),
            people: Mutex::new(people),
            wires,
            replicas: Replicas::none(SHARDS),
            small_disk,
        });
        if needs.standbys {
            arena.add_standbys().await?;
        }
        Ok(arena)
    }

    /// A client of these coordinators, through their proxies.
    ///
    /// # Errors
    /// None answers.
    pub async fn client(&self, coordinators: &[usize]) -> Result<Gavel, ChaosError> {
        self.connect(coordinators, CLIENT_ATTEMPT, CLIENT_DEADLINE)
            .await
    }

    /// A client of one coordinator whose calls take no longer than `limit`.
    ///
    /// # Errors
    /// It does not answer.
    pub async fn hasty_client(
        &self,
        coordinator: usize,
        limit: Duration,
    ) -> Result<Gavel, ChaosError> {
        self.connect(&[coordinator], limit, limit).await
    }

    async fn connect(
        &self,
        coordinators: &[usize],
        attempt: Duration,
        deadline: Duration,
    ) -> Result<Gavel, ChaosError> {
        let urls = coordinators
            .iter()
            .map(|index| self.wires.fronts[*index].url());
        let options = gavel_client::Options::new()
            .attempt_timeout(attempt)
            .deadline(deadline);
        let client = Gavel::connect_with(urls.collect::<Vec<_>>(), options).await;
        client.map_err(ChaosError::Client)
    }

    /// A session of the superuser on a shard, past all proxies.
    ///
    /// # Errors
    /// The server does not answer.
    pub async fn superuser(&self, shard: usize) -> Result<tokio_postgres::Client, ChaosError> {
        let url = self.superuser_url(shard);
        let (client, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls).await?;
        tokio::spawn(connection);
        Ok(client)
    }

    /// Name of a shard.
    #[must_use]
    pub fn shard(&self, index: usize) -> &str {
        &self.dev.shards()[index].name
    }

    /// The proxies in front of the servers.
    #[must_use]
    pub fn servers(&self) -> &[PgProxy] {
        &self.wires.servers
    }

    /// The link from a service to a shard's participant, if it has one.
    #[must_use]
    pub fn service(&self, from: Role, shard: usize) -> Option<&Link> {
        self.wires.service(from, shard)
    }

    /// The link from clients to a coordinator.
    #[must_use]
    pub fn front(&self, coordinator: usize) -> &Link {
        &self.wires.fronts[coordinator]
    }

    /// Runs something that blocks.
    ///
    /// # Errors
    /// What it says, or that it panicked.
    pub async fn blocking<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Dev) -> Result<T, ChaosError> + Send + 'static,
    ) -> Result<T, ChaosError> {
        let arena = Arc::clone(self);
        let done = tokio::task::spawn_blocking(move || work(&arena.dev));
        done.await.map_err(ChaosError::Panicked)?
    }

    /// Undoes every fault: wires, frozen and dead processes, servers.
    ///
    /// # Errors
    /// Something does not come back.
    pub async fn heal(self: &Arc<Self>) -> Result<(), ChaosError> {
        self.heal_wires();
        self.on_primaries(|servers| {
            for server in servers {
                server.resume();
                server.start()?;
                server.wait_ready()?;
            }
            Ok(())
        })
        .await?;
        self.blocking(|dev| {
            let participants = (0..SHARDS).map(Role::Participant);
            for role in participants.chain((0..COORDINATORS).map(Role::Coordinator)) {
                // What is down cannot be resumed, and is started right after.
                let _down = dev.resume(role);
                dev.spawn(role, &[])?;
            }
            Ok(dev.wait_ready(READY_LIMIT)?)
        })
        .await
    }

    /// Lets every wire carry again.
    pub fn heal_wires(&self) {
        for proxy in &self.wires.servers {
            proxy.gate().heal();
        }
        let services = self.wires.services.iter().map(|(_, _, link)| link);
        for link in services.chain(&self.wires.fronts) {
            link.gate().heal();
        }
    }

    /// The coordinator that a transaction of this batch is at, if it goes to one only.
    #[must_use]
    pub fn coordinator_of(&self, batch: &str) -> Option<usize> {
        coordinator_of(&self.witness, &self.routes, batch)
    }
}

/// As [`Arena::coordinator_of`], for closures that must own what they use.
#[must_use]
pub fn coordinator_of(
    witness: &Witness,
    routes: &Mutex<HashMap<Txid, usize>>,
    batch: &str,
) -> Option<usize> {
    let txids = witness.txids(batch);
    let routes = routes.lock();
    txids.iter().find_map(|txid| routes.get(txid).copied())
}

/// A prepared transaction that is not Gavel's, as SQL.
#[must_use]
pub fn prepare_foreign(gid: &str) -> String {
    format!("BEGIN; SELECT pg_current_xact_id(); PREPARE TRANSACTION '{gid}'")
}

fn start_and_fill(options: &Options) -> Result<Dev, ChaosError> {
    let dev = Dev::start(options)?;
    // Each kind has its own keys, on the shard that the key says.
    let keys = LISTS * 2 * i64::try_from(DATA_SHARDS).expect("few shards");
    let schema = BANK.schema(ROLE) + &lists::schema(ROLE, keys) + &pulse::schema(ROLE) + VICTIM;
    for (server, gid) in dev.servers()[..DATA_SHARDS].iter().zip(FOREIGN) {
        server.sql(DATABASE, &schema)?;
        server.sql(DATABASE, &prepare_foreign(gid))?;
    }
    Ok(dev)
}

/// The port in a URL of this machine.
fn port(url: &str) -> u16 {
    let (_, rest) = url.rsplit_once(':').unwrap_or_default();
    let digits = rest.split('/').next().unwrap_or_default();
    digits
        .parse()
        .expect("the development kit's URLs have ports")
}

pub(crate) fn with_port(url: &str, port: u16) -> String {
    let (start, rest) = url.rsplit_once(':').unwrap_or_default();
    let path = rest.split_once('/').map_or("", |(_, path)| path);
    format!("{start}:{port}/{path}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_can_be_read_and_replaced() {
        let url = "postgres://app:secret@127.0.0.1:5432/app";
        assert_eq!(port(url), 5432);
        assert_eq!(with_port(url, 7), "postgres://app:secret@127.0.0.1:7/app");
        assert_eq!(port("http://127.0.0.1:7400"), 7400);
    }
}
