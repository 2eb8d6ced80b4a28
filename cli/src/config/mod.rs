//! The configuration: one TOML file, the same for every process of a deployment, with overrides
//! from the environment.
//!
//! Unknown keys are errors everywhere: a misspelt limit that silently keeps its default is found
//! in production. Every problem names the file, the key and what to do. Secrets never reach
//! `Debug`, logs or `--json`. `docs/configuration.md` explains every key; a test compares.

mod check;
mod environment;
mod load;
mod secret;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use gavel_coordinator::KnownShards;
use gavel_coordinator::api::{Permissions, Permitted, TokenSource};
use gavel_protocol::{DeploymentName, Limits, Principal, ShardMap, ShardName, ShardTag};
use gavel_tls::TlsFiles;
use serde::{Deserialize, Serialize};

pub use gavel_coordinator::api::Role;
pub use load::{ConfigError, Problem, load, parse};
pub use secret::Secret;

pub use crate::service::Hosts;

/// Everything that can be configured.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Name of this installation; part of every gid, so it never changes.
    pub deployment: DeploymentName,
    /// Whether a participant brings its shard's schema up to date at start, if an `admin_url` is
    /// given.
    #[serde(default = "yes")]
    pub migrate_on_start: bool,
    /// Lets services listen on other addresses than loopback although they have no certificates.
    #[serde(default)]
    pub allow_insecure_network: bool,
    /// How long a stopping service waits for what is in flight, in milliseconds.
    #[serde(default = "shutdown_grace_default")]
    pub shutdown_grace_ms: u64,
    /// How many threads a service computes on; half of the machine's cores without it.
    pub threads: Option<NonZeroUsize>,
    /// The shards.
    #[serde(default)]
    pub shard: Vec<ShardConfig>,
    /// The coordinator.
    #[serde(default)]
    pub coordinator: CoordinatorConfig,
    /// The participants.
    #[serde(default)]
    pub participant: ParticipantConfig,
    /// Participants that announce where they are.
    #[serde(default)]
    pub registry: RegistryConfig,
    /// Who may ask; nobody listed means that everybody is `local` and an operator.
    #[serde(default)]
    pub principal: Vec<PrincipalConfig>,
    /// Statements that principals can be restricted to.
    #[serde(default)]
    pub statement: Vec<StatementConfig>,
    /// Certificates; without them services listen on loopback only.
    pub tls: Option<TlsConfig>,
    /// Every limit.
    #[serde(default)]
    pub limits: Limits,
    /// Metrics and health.
    #[serde(default)]
    pub metrics: MetricsConfig,
    /// Logging.
    #[serde(default)]
    pub log: LogConfig,
    /// Spans of transactions.
    #[serde(default)]
    pub tracing: TracingConfig,
    /// Who did what.
    #[serde(default)]
    pub audit: AuditConfig,
}

/// One shard.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShardConfig {
    /// Its name, for people.
    pub name: ShardName,
    /// Its number, for the protocol; it never changes.
    pub tag: ShardTag,
    /// Its database, as the participant's login role.
    pub database_url: Option<Secret>,
    /// A file that holds `database_url`.
    pub database_url_file: Option<PathBuf>,
    /// Its database, as a role that may migrate.
    pub admin_url: Option<Secret>,
    /// A file that holds `admin_url`.
    pub admin_url_file: Option<PathBuf>,
    /// Address of its participant, for coordinators and other participants.
    pub participant: Option<String>,
    /// Whether it takes transactions.
    #[serde(default)]
    pub state: ShardState,
}

/// What a shard is there for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ShardState {
    /// It takes transactions.
    #[default]
    Active,
    /// It is being taken out: what is under way is finished, and nothing new begins.
    Draining,
}

/// The coordinator.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CoordinatorConfig {
    /// Where it listens; HTTP and gRPC share the port.
    pub listen: SocketAddr,
}

impl Default for CoordinatorConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 7400)),
        }
    }
}

/// The participants.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ParticipantConfig {
    /// Where a participant listens, if not where its shard's `participant` says.
    pub listen: Option<SocketAddr>,
}

/// Participants that announce where they are.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RegistryConfig {
    /// Where they may be; nowhere without it.
    pub hosts: Vec<Hosts>,
    /// The coordinators that they announce themselves to.
    pub coordinators: Vec<String>,
    /// What a participant says, if not the address that it listens on.
    pub announce: Option<String>,
}

/// Somebody who may ask.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PrincipalConfig {
    /// Who: transactions belong to this name.
    pub name: Principal,
    /// A file that holds the bearer token; without it, only a certificate will do.
    pub token_file: Option<PathBuf>,
    /// What they may do.
    #[serde(default = "client")]
    pub role: Role,
    /// Where their statements may run; everywhere without it.
    pub shards: Option<BTreeSet<ShardName>>,
    /// Names of the statements that they may run; every statement without it.
    pub statements: Option<BTreeSet<String>>,
}

/// A statement that principals can be restricted to.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StatementConfig {
    /// What `statements` of a principal calls it.
    pub name: String,
    /// Its text, as clients send it.
    pub sql: String,
}

/// Where certificates are. `{name}` in a path stands for what a process is: `coordinator`,
/// `participant-SHARD`, or `operator` for the commands, so that all can share the file.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TlsConfig {
    /// The authorities that sign for this deployment, in PEM.
    pub ca_file: PathBuf,
    /// The certificate, in PEM.
    pub certificate_file: PathBuf,
    /// Its private key, in PEM.
    pub key_file: PathBuf,
}

impl Default for TlsConfig {
    fn default() -> Self {
        Self {
            ca_file: "tls/ca.pem".into(),
            certificate_file: "tls/{name}.pem".into(),
            key_file: "tls/{name}.key".into(),
        }
    }
}

impl TlsConfig {
    /// The files of the process that is called `name`.
    pub fn files(&self, name: &str) -> TlsFiles {
        let named = |path: &Path| PathBuf::from(path.to_string_lossy().replace("{name}", name));
        TlsFiles {
            ca: named(&self.ca_file),
            certificate: named(&self.certificate_file),
            key: named(&self.key_file),
        }
    }
}

/// Metrics for Prometheus, and health, on a listener of their own.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MetricsConfig {
    /// Where they are served; nowhere without it.
    pub listen: Option<SocketAddr>,
}

/// Logging, to standard error.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LogConfig {
    /// How lines look.
    pub format: LogFormat,
    /// What is logged: a level, or directives of `tracing-subscriber`'s `EnvFilter`.
    pub level: String,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self {
            format: LogFormat::Text,
            level: "info".to_owned(),
        }
    }
}

/// Who did what: operators' actions, and those who were turned away.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AuditConfig {
    /// A file that is appended to, besides the log.
    pub file: Option<PathBuf>,
}

/// Spans of transactions, for distributed tracing.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TracingConfig {
    /// The collector: OTLP over gRPC. Nothing is sent without it.
    pub endpoint: Option<String>,
    /// Share of the transactions that come without a trace which get one, from 0 to 1.
    pub roots: f64,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

impl Config {
    /// Names and tags; [`load()`] has checked that they are unique.
    pub fn shard_map(&self) -> ShardMap {
        let shards = self
            .shard
            .iter()
            .map(|shard| (shard.name.clone(), shard.tag));
        ShardMap::new(shards).expect("checked when the configuration was loaded")
    }

    /// The shards, and which of them take nothing new.
    pub fn known_shards(&self) -> KnownShards {
        let draining = self.shard.iter();
        let draining = draining.filter(|shard| shard.state == ShardState::Draining);
        KnownShards {
            map: Arc::new(self.shard_map()),
            draining: Arc::new(draining.map(|shard| shard.tag).collect()),
        }
    }

    /// Where the tokens are, for the authenticator.
    pub fn token_sources(&self) -> Vec<TokenSource> {
        let sources = self.principal.iter().map(|each| TokenSource {
            principal: each.name.clone(),
            role: each.role,
            file: each.token_file.clone(),
            permissions: self.permissions(each),
        });
        sources.collect()
    }

    fn permissions(&self, principal: &PrincipalConfig) -> Permissions {
        let text = |name: &String| {
            let mut registered = self.statement.iter();
            let named = registered.find(|statement| statement.name == *name);
            named.map(|statement| statement.sql.trim().to_owned())
        };
        Permissions {
            shards: match &principal.shards {
                None => Permitted::All,
                Some(these) => these.iter().cloned().collect(),
            },
            statements: match &principal.statements {
                None => Permitted::All,
                Some(these) => these.iter().filter_map(text).collect(),
            },
        }
    }

    /// The shard called `name`.
    pub fn shard(&self, name: &ShardName) -> Option<&ShardConfig> {
        self.shard.iter().find(|shard| shard.name == *name)
    }
}

/// As `participant` of a shard: it will say where it is.
pub const ANNOUNCED: &str = "announced";

impl ShardConfig {
    /// Whether its participant announces where it is.
    pub fn is_announced(&self) -> bool {
        self.participant.as_deref() == Some(ANNOUNCED)
    }

    /// The database's address; [`load()`] has checked that there is one.
    pub fn database_url(&self) -> &Secret {
        self.database_url
            .as_ref()
            .expect("checked when the configuration was loaded")
    }
}

fn client() -> Role {
    Role::Client
}

fn yes() -> bool {
    true
}

fn shutdown_grace_default() -> u64 {
    10_000
}
