//! `gavel-demo`: the bank's API as a service of its own.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use clap::Parser;
use gavel_client::Gavel;
use gavel_demo::{Bank, BankOptions, serve};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

/// A bank over several PostgreSQL databases: its JSON API.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// Where to listen. The API has no authentication: keep it off public networks.
    #[arg(long, env = "GAVEL_DEMO_LISTEN", default_value = "127.0.0.1:7500")]
    listen: SocketAddr,

    /// Addresses of coordinators, separated by commas.
    #[arg(
        long,
        env = "GAVEL_DEMO_COORDINATORS",
        value_delimiter = ',',
        default_value = "http://127.0.0.1:7400"
    )]
    coordinators: Vec<String>,

    /// The shards, as NAME=URL, separated by commas: names as the coordinators know them, URLs
    /// as postgres://role:password@host:port/database with the role of the shard's participant, or
    /// NAME=@FILE with the URL in the file, which keeps the password out of arguments and
    /// environment.
    #[arg(
        long,
        env = "GAVEL_DEMO_SHARDS",
        value_delimiter = ',',
        required = true,
        hide_env_values = true,
        value_parser = parse_shard
    )]
    shards: Vec<(String, String)>,

    /// The shard that records the outcomes of transfers. Default: one of the transfer's own.
    #[arg(long, env = "GAVEL_DEMO_HOME")]
    home: Option<String>,

    /// How long a request may take to write, retries included, in milliseconds.
    #[arg(long, env = "GAVEL_DEMO_WRITE_DEADLINE_MS", default_value_t = 15_000)]
    write_deadline_ms: u64,

    /// How long to wait for shards and coordinators that are down at start, in milliseconds.
    #[arg(long, env = "GAVEL_DEMO_START_DEADLINE_MS", default_value_t = 60_000)]
    start_deadline_ms: u64,
}

fn parse_shard(text: &str) -> Result<(String, String), String> {
    let (name, url) = text
        .split_once('=')
        .ok_or("write NAME=postgres://role:password@host:port/database, or NAME=@FILE")?;
    let url = match url.strip_prefix('@') {
        Some(file) => std::fs::read_to_string(file).map_err(|error| format!("{file}: {error}"))?,
        None => url.to_owned(),
    };
    Ok((name.to_owned(), url.trim().to_owned()))
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env();
    tracing_subscriber::fmt()
        .with_env_filter(filter.unwrap_or_else(|_| "info".into()))
        .with_writer(std::io::stderr)
        .init();
    let arguments = Arguments::parse();
    let listener = TcpListener::bind(arguments.listen)
        .await
        .with_context(|| format!("cannot listen on {}", arguments.listen))?;
    let bank = open(arguments).await?;
    tracing::info!(address = %listener.local_addr()?, "ready");
    serve(listener, Arc::new(bank), stop_signal()?).await?;
    Ok(())
}

async fn open(arguments: Arguments) -> anyhow::Result<Bank> {
    let start_deadline = Duration::from_millis(arguments.start_deadline_ms);
    let client = gavel_client::Options::new().deadline(start_deadline);
    let gavel = Gavel::connect_with(arguments.coordinators, client).await?;
    let options = BankOptions {
        home: arguments.home,
        write_deadline: Duration::from_millis(arguments.write_deadline_ms),
        start_deadline,
        ..BankOptions::new(arguments.shards)
    };
    Ok(Bank::open(gavel, options).await?)
}

fn stop_signal() -> anyhow::Result<impl Future<Output = ()> + Send + 'static> {
    let mut terminate = signal(SignalKind::terminate())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            // Without the handler, Ctrl-C ends the process as it always does.
            Ok(()) = tokio::signal::ctrl_c() => {}
        }
    })
}
