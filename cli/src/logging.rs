//! Logs go to standard error; standard output is for results.

use std::io::IsTerminal as _;

use anyhow::Context as _;
use tracing_subscriber::EnvFilter;

use crate::args::Cli;
use crate::config::{LogConfig, LogFormat};

/// Sets logging up: the command line wins over the configuration.
///
/// # Errors
/// A level that cannot be understood.
pub(crate) fn start(cli: &Cli, config: Option<&LogConfig>) -> anyhow::Result<()> {
    let fallback = config.map_or("info", |log| log.level.as_str());
    start_at(cli, config, fallback)
}

/// The same for a command that tells its own story: without `--log-level`, errors only.
///
/// # Errors
/// As [`start`].
pub(crate) fn start_quiet(cli: &Cli) -> anyhow::Result<()> {
    start_at(cli, None, "error")
}

fn start_at(cli: &Cli, config: Option<&LogConfig>, fallback: &str) -> anyhow::Result<()> {
    let level = cli.log_level.as_deref().unwrap_or(fallback);
    let filter = EnvFilter::try_new(level).with_context(|| {
        format!("`{level}` is not a log level: use error, warn, info, debug or trace")
    })?;
    let format = cli.log_format.or(config.map(|log| log.format));
    let logs = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    match format.unwrap_or_default() {
        LogFormat::Json => logs.json().init(),
        LogFormat::Text => logs
            .with_target(false)
            .with_ansi(std::io::stderr().is_terminal())
            .init(),
    }
    Ok(())
}
