//! The long run: one variant at one load, on servers that take care of themselves, sampled as it
//! goes.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use crate::audit::audit;
use crate::load::{Tallies, Tally, Window, closed};
use crate::machine::Machine;
use crate::page::steady as page;
use crate::process::Processes;
use crate::report::rounded;
use crate::scenario::{Draw, Scenario};
use crate::variants::{Kind, LIMITS, Layout, Setting, Variant};
use crate::world::{World, numbers};

/// What is run.
#[derive(Debug, Clone)]
pub struct Plan {
    /// How.
    pub variant: Kind,
    /// Clients in a closed loop.
    pub clients: usize,
    /// For how long.
    pub length: Duration,
    /// Between two samples.
    pub interval: Duration,
    /// Between two rounds of upkeep, and two looks at the size of the databases.
    pub upkeep: Duration,
    /// Gavel's executable.
    pub executable: PathBuf,
}

/// Everything that goes into `benchmarks-steady.json`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Steady {
    /// Where.
    pub machine: Machine,
    /// How.
    pub variant: Kind,
    /// Clients in a closed loop.
    pub clients: usize,
    /// For how long.
    pub seconds: f64,
    /// Between two rounds of upkeep by Gavel's own command; `None` where it has no processes.
    pub upkeep_seconds: Option<f64>,
    /// Transfers in all, as clients were told and as the audit found.
    pub committed: u64,
    /// What it looked like on the way.
    pub samples: Vec<Sample>,
}

/// One look.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Sample {
    /// Since the beginning.
    pub seconds: f64,
    /// Committed transfers per second since the last look.
    pub tps: f64,
    /// 99th percentile of latency since then, in milliseconds.
    pub p99_ms: f64,
    /// Transfers that came to nothing since then.
    pub aborts: u64,
    /// By process, in MiB; of servers their private memory.
    pub memory_mib: BTreeMap<String, f64>,
    /// Once in a while.
    pub servers: Option<Servers>,
}

/// What has become of the databases.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Servers {
    /// All of them together.
    pub database_mib: f64,
    /// Dead rows of the accounts, as PostgreSQL's statistics count them.
    pub dead_rows: i64,
}

const SCENARIO: Scenario = Scenario::Uniform;

/// Runs it, and counts the money.
pub async fn run(world: &World, plan: &Plan, machine: Machine) -> anyhow::Result<Steady> {
    let shards = SCENARIO.shards();
    let candidates = Layout::candidates(
        SCENARIO.styles(),
        plan.clients,
        crate::variants::Search::Quick,
    );
    let setting = Setting {
        shards: world.shards(shards),
        clients: plan.clients,
        layout: candidates[candidates.len() - 1],
        executable: &plan.executable,
        limits: LIMITS,
    };
    let variant = plan.variant.start(setting).await?;
    let has_processes = !variant.processes().is_empty();
    let ran = watch(world, plan, &variant).await;
    variant.stop().await?;
    drop(variant);
    let (samples, committed) = ran?;
    audit(world, shards, committed)?;
    Ok(Steady {
        machine,
        variant: plan.variant,
        clients: plan.clients,
        seconds: plan.length.as_secs_f64(),
        upkeep_seconds: has_processes.then_some(plan.upkeep.as_secs_f64()),
        committed,
        samples,
    })
}

async fn watch(
    world: &World,
    plan: &Plan,
    variant: &Arc<dyn Variant>,
) -> anyhow::Result<(Vec<Sample>, u64)> {
    let draw = Draw::new(SCENARIO, plan.variant.place(), world.accounts)?;
    let tallies = Arc::new(Tallies::new());
    let begin = Instant::now();
    let window = Window {
        begin,
        end: begin + plan.length,
    };
    let mut clients = closed::start(variant, &Arc::new(draw), plan.clients, window, &tallies);
    let processes = world.processes(SCENARIO.shards(), variant.processes());
    let (mut samples, mut committed) = (Vec::new(), 0);
    let mut upkeep = JoinSet::new();
    let (mut last, mut upkeep_due) = (begin, begin);
    while last < window.end {
        let next = (last + plan.interval).min(window.end);
        sleep_until(next).await;
        // A client that has failed has failed the run: waiting for its end would only take longer.
        while let Some(ended) = clients.try_join_next() {
            ended.context("a client panicked")??;
        }
        let now = Instant::now();
        let tally = tallies.take();
        committed += tally.committed;
        let due = now >= upkeep_due || now >= window.end;
        let servers = due.then(|| look_at_servers(world)).transpose()?;
        if due {
            upkeep_due += plan.upkeep;
            let variant = variant.clone();
            upkeep.spawn(async move { variant.upkeep().await });
        }
        let sample = Sample::of(&tally, now - begin, now - last, memory(&processes), servers);
        println!(
            "{:>6.0} s: {:>8.0} transfers/s, p99 {:.1} ms",
            sample.seconds, sample.tps, sample.p99_ms
        );
        samples.push(sample);
        last = now;
    }
    while let Some(ended) = clients.join_next().await {
        ended.context("a client panicked")??;
    }
    while let Some(ended) = upkeep.join_next().await {
        ended.context("upkeep panicked")??;
    }
    committed += tallies.take().committed;
    Ok((samples, committed))
}

impl Sample {
    fn of(
        tally: &Tally,
        since_begin: Duration,
        since_last: Duration,
        memory_mib: BTreeMap<String, f64>,
        servers: Option<Servers>,
    ) -> Self {
        let p99_us = tally.latencies.value_at_quantile(0.99);
        Self {
            seconds: rounded(since_begin.as_secs_f64(), 1),
            tps: rounded(tally.committed as f64 / since_last.as_secs_f64(), 1),
            p99_ms: rounded(p99_us as f64 / 1000.0, 3),
            aborts: tally.aborted,
            memory_mib,
            servers,
        }
    }
}

fn memory(processes: &Processes) -> BTreeMap<String, f64> {
    let own = processes.resident_mib();
    let all = own.into_iter().chain(processes.server_private_mib());
    all.filter_map(|(name, mib)| Some((name, rounded(mib?, 1))))
        .collect()
}

fn look_at_servers(world: &World) -> anyhow::Result<Servers> {
    const LOOK: &str = "SELECT pg_database_size(current_database()), \
         (SELECT coalesce(sum(n_dead_tup), 0)::bigint FROM pg_stat_user_tables \
          WHERE relname = 'account')";
    let (mut bytes, mut dead_rows) = (0, 0);
    for [size, dead] in world.on_each(SCENARIO.shards(), |server| numbers(server, LOOK))? {
        bytes += size;
        dead_rows += dead;
    }
    Ok(Servers {
        database_mib: rounded(bytes as f64 / f64::from(1 << 20), 1),
        dead_rows,
    })
}

impl Steady {
    /// Writes `benchmarks-steady.json`, its page and its plots into `folder`.
    pub fn write(&self, folder: &Path) -> anyhow::Result<()> {
        fs::create_dir_all(folder)?;
        let json = serde_json::to_string_pretty(self)? + "\n";
        fs::write(folder.join("benchmarks-steady.json"), json)?;
        fs::write(folder.join(page::PAGE), page::page(self))?;
        for (name, svg) in page::plots(self)? {
            fs::write(folder.join(name), svg)?;
        }
        Ok(())
    }
}
