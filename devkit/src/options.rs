//! What a caller can choose about a deployment.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::{Error, Role, Shard};

/// Shards of a new folder if nobody says how many.
pub(crate) const SHARDS_DEFAULT: usize = 3;
/// More servers than this do not fit on a developer's machine.
const SHARDS_MAX: usize = 24;
const COORDINATORS_MAX: usize = 16;

type Env = Vec<(String, String)>;
type WorkOut = dyn Fn(Role, &[Shard]) -> Env + Send + Sync;

/// Works out the environment of one process, when the shards and their addresses are known: a
/// test that puts a proxy between two processes tells one of them the proxy's address this way.
#[derive(Clone)]
pub struct EnvOf(Arc<WorkOut>);

impl EnvOf {
    /// Calls `work_out` once per process and start of the deployment.
    #[must_use]
    pub fn new(work_out: impl Fn(Role, &[Shard]) -> Env + Send + Sync + 'static) -> Self {
        Self(Arc::new(work_out))
    }

    pub(crate) fn of(&self, role: Role, shards: &[Shard]) -> Env {
        (self.0)(role, shards)
    }
}

impl fmt::Debug for EnvOf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EnvOf(..)")
    }
}

/// How to set up a deployment. Start from [`Options::new`] and change what differs.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where everything is kept.
    pub folder: PathBuf,
    /// The `gavel` executable that runs participants and coordinators.
    pub executable: PathBuf,
    /// How many shards with data; `None` keeps what the folder has, or makes 3.
    pub shards: Option<usize>,
    /// Adds a shard `decisions` that holds no data: a home for whoever asks for it.
    pub decisions_shard: bool,
    /// How many coordinators run side by side.
    pub coordinators: usize,
    /// Port of the first coordinator; `None` keeps the folder's, or picks a free one.
    pub port: Option<u16>,
    /// Whether a process that ends unasked is started again.
    pub restart: bool,
    /// Whether every connection is encrypted, and everybody has a certificate. The only principal
    /// is `operator`, unless `extra_config` has others.
    pub tls: bool,
    /// Further tables for `gavel.toml`, such as `[limits]`. Not keys of the top level.
    pub extra_config: String,
    /// Further settings for every `postgresql.conf`: name and unquoted value.
    pub server_settings: Vec<(String, String)>,
    /// `true`: `initdb` for every server. `false`: copies of a cached one, which is quicker, but
    /// all servers then share one system identifier. For tests.
    pub fresh_initdb: bool,
    /// Environment of every participant and coordinator, on top of this process's own.
    pub env: Env,
    /// On top of that, what differs from process to process.
    pub env_of: Option<EnvOf>,
}

impl Options {
    /// Three shards, one coordinator, durable servers, children that are restarted.
    #[must_use]
    pub fn new(folder: impl AsRef<Path>, executable: impl AsRef<Path>) -> Self {
        Self {
            folder: folder.as_ref().to_path_buf(),
            executable: executable.as_ref().to_path_buf(),
            shards: None,
            decisions_shard: false,
            coordinators: 1,
            port: None,
            restart: true,
            tls: false,
            extra_config: String::new(),
            server_settings: Vec::new(),
            fresh_initdb: true,
            env: Vec::new(),
            env_of: None,
        }
    }

    /// As [`Options::new`], but quick to set up, and nothing is restarted behind a test's back.
    #[must_use]
    pub fn for_tests(folder: impl AsRef<Path>, executable: impl AsRef<Path>) -> Self {
        Self {
            fresh_initdb: false,
            restart: false,
            ..Self::new(folder, executable)
        }
    }

    pub(crate) fn validate(&self) -> Result<(), Error> {
        let shards = self.shards.unwrap_or(SHARDS_DEFAULT);
        in_range("shards", shards, SHARDS_MAX)?;
        in_range("coordinators", self.coordinators, COORDINATORS_MAX)
    }
}

fn in_range(what: &'static str, found: usize, max: usize) -> Result<(), Error> {
    if (1..=max).contains(&found) {
        return Ok(());
    }
    Err(Error::OutOfRange {
        what,
        found,
        min: 1,
        max,
    })
}
