//! Logs go to standard error; standard output is for results.

use std::fs::File;
use std::io::IsTerminal as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use anyhow::Context as _;
use tracing_subscriber::filter::{EnvFilter, filter_fn};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Layer as _, Registry, fmt, reload};

use crate::args::Cli;
use crate::config::{Config, LogConfig, LogFormat};

/// Changes the level of the logs.
static LEVEL: OnceLock<reload::Handle<EnvFilter, Registry>> = OnceLock::new();

/// Who did what.
const AUDIT: &str = "gavel::audit";

/// Sets logging up: the command line wins over the configuration.
///
/// # Errors
/// A level that cannot be understood.
pub(crate) fn start(cli: &Cli, config: Option<&LogConfig>) -> anyhow::Result<()> {
    let fallback = config.map_or("info", |log| log.level.as_str());
    start_at(cli, config, fallback, None)
}

/// The same for a service: who did what also goes into the audit file, if there is one.
///
/// # Errors
/// As [`start`], and a file that cannot be opened: a service that should leave traces does not
/// start without.
pub(crate) fn start_service(cli: &Cli, config: &Config) -> anyhow::Result<()> {
    let audit = config
        .audit
        .file
        .as_deref()
        .map(open_to_append)
        .transpose()?;
    start_at(cli, Some(&config.log), &config.log.level, audit)
}

/// The same for a command that tells its own story: without `--log-level`, errors only.
///
/// # Errors
/// As [`start`].
pub(crate) fn start_quiet(cli: &Cli) -> anyhow::Result<()> {
    start_at(cli, None, "error", None)
}

fn start_at(
    cli: &Cli,
    config: Option<&LogConfig>,
    fallback: &str,
    audit: Option<File>,
) -> anyhow::Result<()> {
    let level = cli.log_level.as_deref().unwrap_or(fallback);
    let filter = filter(level)?;
    let (filter, level_now) = reload::Layer::new(filter);
    let _only_one_start = LEVEL.set(level_now);
    let format = cli.log_format.or(config.map(|log| log.format));
    let lines = fmt::layer().with_writer(std::io::stderr);
    let logs = match format.unwrap_or_default() {
        LogFormat::Json => lines.json().with_filter(filter).boxed(),
        LogFormat::Text => lines
            .with_target(false)
            .with_ansi(std::io::stderr().is_terminal())
            .with_filter(filter)
            .boxed(),
    };
    // JSON escapes what a caller may have put into a name. A line is one write to a file that is
    // only appended to: those of several processes do not mix.
    let audit = audit.map(|file| {
        let lines = fmt::layer().json().flatten_event(true).with_target(false);
        let is_audit = filter_fn(|metadata| metadata.target() == AUDIT);
        lines.with_writer(Arc::new(file)).with_filter(is_audit)
    });
    tracing_subscriber::registry().with(logs).with(audit).init();
    Ok(())
}

fn filter(level: &str) -> anyhow::Result<EnvFilter> {
    EnvFilter::try_new(level).with_context(|| {
        format!("`{level}` is not a log level: use error, warn, info, debug or trace")
    })
}

/// Logs at this level from now on.
pub(crate) fn set(level: &str) {
    let set = filter(level).and_then(|filter| {
        let now = LEVEL.get().context("logging has not begun")?;
        Ok(now.reload(filter)?)
    });
    match set {
        Ok(()) => tracing::warn!(level, "the log level has changed"),
        Err(error) => tracing::warn!(%error, "the log level cannot be changed"),
    }
}

fn open_to_append(path: &Path) -> anyhow::Result<File> {
    let mut options = File::options();
    options.append(true).create(true).mode(0o600);
    options
        .open(path)
        .with_context(|| format!("audit.file: {} cannot be written", path.display()))
}
