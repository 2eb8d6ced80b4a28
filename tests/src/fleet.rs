//! Gavel as separate processes: participants and two coordinators, each of which can be killed.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use gavel_client::Gavel;
use gavel_devkit::{Dev, Options, Role};
use tempfile::TempDir;

use crate::bank::{self, Books};
use crate::load;

/// How long in-doubt branches may live when no coordinator comes back.
pub const RESOLVED_WITHIN: Duration = Duration::from_secs(10);

/// A deployment of two data shards, a decisions shard and two coordinators.
pub struct Fleet {
    /// The processes and servers.
    pub dev: Dev,
    crash_log: PathBuf,
    _folder: TempDir,
}

/// The `gavel` binary beside the test's own; `make test` builds it with crash points.
pub fn gavel_binary() -> PathBuf {
    if let Ok(path) = std::env::var("GAVEL_BIN") {
        return path.into();
    }
    let test = std::env::current_exe().expect("a test has a path");
    let folder = test
        .parent()
        .and_then(|deps| deps.parent())
        .expect("target/PROFILE/deps");
    let binary = folder.join("gavel");
    assert!(
        binary.exists(),
        "{} is missing: run `make test`",
        binary.display()
    );
    binary
}

impl Fleet {
    /// Starts everything.
    pub fn start() -> Self {
        Self::start_with(|options| options)
    }

    /// Starts everything with changed options.
    pub fn start_with(change: impl Fn(Options) -> Options) -> Self {
        let folder = tempfile::Builder::new()
            .prefix("gavel-test-")
            .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o755))
            .tempdir()
            .expect("make a folder");
        let mut options = Options::for_tests(folder.path().join("dev"), gavel_binary());
        options.shards = Some(2);
        options.decisions_shard = true;
        options.coordinators = 2;
        options.env.extend(crate::batch_members_env());
        let dev = Dev::start(&change(options)).expect("start the deployment");
        for server in dev.servers() {
            bank::create_tables(server);
        }
        let crash_log = folder.path().join("crash.log");
        Self {
            dev,
            crash_log,
            _folder: folder,
        }
    }

    /// A client of both coordinators.
    pub async fn client(&self) -> Gavel {
        let urls = self.dev.coordinator_urls();
        Gavel::connect_with(urls, load::options())
            .await
            .expect("connect")
    }

    /// A client of one coordinator.
    pub async fn client_of(&self, coordinator: usize) -> Gavel {
        let url = self.dev.coordinator_urls().swap_remove(coordinator);
        Gavel::connect_with([url], load::options())
            .await
            .expect("connect")
    }

    /// Names of the two data shards.
    pub fn data_shards(&self) -> [&'static str; 2] {
        let mut names = self
            .dev
            .shards()
            .iter()
            .map(|shard| -> &'static str { Box::leak(shard.name.clone().into_boxed_str()) });
        [
            names.next().expect("a shard"),
            names.next().expect("a shard"),
        ]
    }

    /// Restarts a process with a crash point armed, and waits until it is ready.
    pub fn arm(&self, role: Role, point: &str) {
        let _ = self.dev.kill(role);
        self.dev
            .spawn(role, &self.crash_env(point))
            .expect("start the process");
    }

    /// The environment that makes a process die at `point`.
    fn crash_env(&self, point: &str) -> [(String, String); 2] {
        let log = self.crash_log.display().to_string();
        [
            ("GAVEL_CRASH_POINT".to_owned(), point.to_owned()),
            ("GAVEL_CRASH_LOG".to_owned(), log),
        ]
    }

    /// A command of `gavel` for this deployment, to be killed at `crash_point` if one is given.
    pub fn command(&self, arguments: &[&str], crash_point: Option<&str>) -> Command {
        let mut command = Command::new(gavel_binary());
        command
            .arg("--config")
            .arg(self.dev.config_path())
            .args(arguments);
        if let Some(point) = crash_point {
            command.envs(self.crash_env(point));
        }
        command
    }

    /// How often each crash point was hit, and how often it killed.
    pub fn hits(&self) -> BTreeMap<String, (u64, u64)> {
        let log = std::fs::read_to_string(&self.crash_log).unwrap_or_default();
        let mut hits: BTreeMap<String, (u64, u64)> = BTreeMap::new();
        for line in log.lines() {
            if let Some((what, name)) = line.split_once(' ') {
                let entry = hits.entry(name.to_owned()).or_default();
                entry.0 += 1;
                entry.1 += u64::from(what == "killed");
            }
        }
        hits
    }

    /// Waits until nothing of ours is prepared any more; returns how long that took.
    pub async fn wait_resolved(&self, limit: Duration) -> Duration {
        let started = Instant::now();
        loop {
            let prepared = self.prepared();
            if prepared.is_empty() {
                return started.elapsed();
            }
            assert!(
                started.elapsed() < limit,
                "I6: after {limit:?} still prepared: {prepared:?}"
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// gids prepared on any server.
    pub fn prepared(&self) -> Vec<String> {
        let query = "SELECT gid FROM pg_prepared_xacts WHERE database = current_database()";
        let servers = self
            .dev
            .servers()
            .iter()
            .filter(|server| server.is_running());
        let rows = servers.flat_map(|server| server.sql(bank::DATABASE, query).unwrap_or_default());
        rows.filter_map(|row| row[0].clone()).collect()
    }

    /// The books of all servers.
    pub fn books(&self) -> Books {
        bank::read_books(self.dev.servers())
    }
}
