//! `gavel dev`: a deployment on this machine, until Ctrl-C.

use std::fmt::Write as _;

use anyhow::Context as _;
use gavel_devkit::{Dev, Options};
use serde_json::{Value, json};

use crate::args::DevArgs;
use crate::exit::Exit;
use crate::output::Output;
use crate::service::stop_signal;

/// Port of a new folder's coordinator.
const PORT: u16 = 7400;

/// Starts everything, prints how to use it, and stops it in order when told to.
pub(crate) async fn run(args: &DevArgs, output: Output) -> anyhow::Result<Exit> {
    let options = options(args)?;
    if !output.json {
        eprintln!("Starting PostgreSQL servers, participants and a coordinator …");
    }
    // Told to stop while it starts, it stops when it has started: nothing is left half made.
    let mut stop = std::pin::pin!(stop_signal());
    let mut start = tokio::task::spawn_blocking(move || Dev::start(&options));
    let (started, stopped_early) = tokio::select! {
        started = &mut start => (started, false),
        () = &mut stop => (start.await, true),
    };
    let dev = started.context("starting panicked")??;
    if !stopped_early {
        output.result(welcome(&dev, args), &describe(&dev));
        stop.await;
    }
    eprintln!("Stopping; a second Ctrl-C stops at once …");
    tokio::select! {
        stopped = tokio::task::spawn_blocking(move || dev.stop()) => {
            stopped.context("stopping panicked")??;
            Ok(Exit::Ok)
        }
        // Processes and servers notice that we are gone, and the next start recovers.
        () = stop_signal() => std::process::exit(130),
    }
}

fn options(args: &DevArgs) -> anyhow::Result<Options> {
    let executable = std::env::current_exe().context("cannot find this very executable")?;
    let mut options = Options::new(&args.data, executable);
    let is_new = !args.data.join("dev.json").exists();
    options.shards = args.shards;
    options.port = args.port.or(is_new.then_some(PORT));
    options.decisions_shard = args.decisions_shard;
    options.coordinators = args.coordinators;
    options.tls = args.tls;
    Ok(options)
}

fn welcome(dev: &Dev, args: &DevArgs) -> String {
    let mut text = String::from("Gavel is running.\n\n");
    for url in dev.coordinator_urls() {
        line(&mut text, "coordinator", &url);
    }
    for shard in dev.shards() {
        let what = format!("shard {}", shard.name);
        line(&mut text, &what, &format!("psql '{}'", shard.database_url));
    }
    for (process, url) in dev.metrics_urls() {
        line(&mut text, "metrics", &format!("{url}/metrics of {process}"));
    }
    line(
        &mut text,
        "configuration",
        &dev.config_path().display().to_string(),
    );
    line(
        &mut text,
        "logs",
        &dev.folder().join("log").display().to_string(),
    );
    let _infallible = write!(
        text,
        "\nOne transaction on every shard, on all of them or on none:\n\n{}\n\n\
         Stop with Ctrl-C; `gavel dev --data {}` resumes with the same data.",
        curl(dev),
        args.data.display()
    );
    text
}

fn line(text: &mut String, what: &str, value: &str) {
    let _infallible = writeln!(text, "  {what:<18}{value}");
}

/// A command that works as printed: `hello` is a table that every new shard has.
fn curl(dev: &Dev) -> String {
    let branches: Vec<Value> = dev
        .shards()
        .iter()
        .filter(|shard| shard.name != "decisions")
        .map(|shard| {
            json!({"shard": shard.name, "statements": [
                {"sql": "insert into hello (note) values ($1)", "params": ["on all or on none"]}
            ]})
        })
        .collect();
    let body = json!({"branches": branches});
    let certificate = dev.certificates().map_or_else(String::new, |folder| {
        let folder = folder.display();
        format!(
            " --cacert {folder}/ca.pem --cert {folder}/operator.pem --key {folder}/operator.key"
        )
    });
    format!(
        "  curl -sS{certificate} {}/v1/transactions -H 'content-type: application/json' -d '{body}'",
        dev.coordinator_url()
    )
}

fn describe(dev: &Dev) -> Value {
    let shards: Vec<Value> = dev
        .shards()
        .iter()
        .map(|shard| {
            json!({
                "name": shard.name,
                "tag": shard.tag,
                "participant": shard.participant_url,
                "database_url": shard.database_url,
            })
        })
        .collect();
    json!({
        "coordinators": dev.coordinator_urls(),
        "shards": shards,
        "metrics": dev.metrics_urls(),
        "config": dev.config_path(),
        "curl": curl(dev).trim(),
    })
}
