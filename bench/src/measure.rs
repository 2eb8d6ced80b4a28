//! The plan: which runs, in which order, and what they add up to.
//!
//! Repetitions are interleaved (A B C D, A B C D, …), so that a disturbance of the machine hits
//! all variants alike; medians are taken per variant and number of clients.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, ensure};

use crate::audit::audit;
use crate::load::{self, Counted, Timing};
use crate::process::{CLIENT, forget_own_peak};
use crate::report::Row;
use crate::scenario::{Draw, Pace, Scenario};
use crate::variants::{Kind, LIMITS, Layout, Search, Setting, Variant};
use crate::world::World;

/// What to measure.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Scenarios, in their order.
    pub scenarios: Vec<Scenario>,
    /// Numbers of clients, instead of the scenario's own.
    pub clients: Option<Vec<usize>>,
    /// Variants, instead of the scenario's own.
    pub variants: Option<Vec<Kind>>,
    /// Runs of each.
    pub repetitions: usize,
    /// The length of each.
    pub timing: Timing,
    /// Fewer layouts are tried.
    pub quick: bool,
    /// Gavel's executable.
    pub executable: PathBuf,
}

/// One run's numbers.
#[derive(Debug, Clone)]
pub struct Sample {
    /// Committed transfers per second.
    pub tps: f64,
    /// What was asked for, in an open loop.
    pub offered_tps: Option<f64>,
    /// Latencies in microseconds: median, 95th and 99th percentile.
    pub latency_us: [u64; 3],
    /// CPU time per committed transfer in microseconds, by process.
    pub cpu_us: Vec<(String, Option<f64>)>,
    /// Peak of resident memory in MiB, by process.
    pub peak_mib: Vec<(String, Option<f64>)>,
    /// Healthy transfers that came to nothing.
    pub aborts: u64,
    /// Transfers that were meant to fail and did.
    pub failures: u64,
    /// Transfers whose clients were told of the commit before all shards showed it.
    pub late: u64,
    /// Rows in the results of all transfers, warm-up included.
    pub rows: u64,
    /// Committed in all, warm-up included.
    pub committed: u64,
    /// Transactions per batch.
    pub batch_mean: Option<f64>,
}

/// The search for the best layout.
const SEARCH: Timing = Timing {
    warm_up: Duration::from_millis(200),
    window: Duration::from_millis(700),
};
/// How the highest rate is found for `latency` if `uniform` is not measured in the same run.
const CLIENTS_AT_THE_TOP: usize = 128;
/// Arrivals per second in the open loop, as a share of the highest rate.
const LOAD: f64 = 0.5;

/// For how many transfers at a time variants make room that cannot know.
const WAITING_IN_OPEN_LOOP: usize = 16;

/// One thing to measure.
#[derive(Debug, Clone, Copy)]
pub struct Case {
    /// What clients do.
    pub scenario: Scenario,
    /// How.
    pub kind: Kind,
    /// How many they are.
    pub clients: usize,
    /// Arrivals per second in an open loop.
    pub rate: Option<f64>,
    /// The layout of connections.
    pub layout: Layout,
}

/// Runs the plan.
pub async fn run(world: &World, plan: &Plan) -> anyhow::Result<Vec<Row>> {
    let mut rows = Vec::new();
    for scenario in &plan.scenarios {
        world.configure(scenario.settings())?;
        let measured = run_scenario(world, plan, *scenario, &rows).await;
        world.unconfigure(scenario.settings())?;
        rows.extend(measured?);
    }
    Ok(rows)
}

async fn run_scenario(
    world: &World,
    plan: &Plan,
    scenario: Scenario,
    earlier: &[Row],
) -> anyhow::Result<Vec<Row>> {
    let mut rows = Vec::new();
    for clients in plan.clients_of(scenario) {
        let mut cases = Vec::new();
        for kind in plan.variants_of(scenario) {
            cases.push(prepare(world, plan, scenario, kind, clients, earlier).await?);
        }
        let mut samples = vec![Vec::new(); cases.len()];
        for repetition in 1..=plan.repetitions {
            for (case, samples) in cases.iter().zip(&mut samples) {
                let sample = measure(world, plan, *case, plan.timing).await?;
                println!(
                    "{scenario:<15} {:<15} {clients:>5} clients, run {repetition} of {}: \
                     {:>8.0} transfers/s",
                    case.kind, plan.repetitions, sample.tps
                );
                samples.push(sample);
            }
        }
        for (case, samples) in cases.iter().zip(&samples) {
            rows.push(Row::of(case, samples));
        }
    }
    Ok(rows)
}

impl Plan {
    fn clients_of(&self, scenario: Scenario) -> Vec<usize> {
        match &self.clients {
            Some(clients) if scenario.takes_other_clients() => clients.clone(),
            Some(_) | None => scenario.clients().to_vec(),
        }
    }

    fn variants_of(&self, scenario: Scenario) -> Vec<Kind> {
        let chosen = match &self.variants {
            Some(variants) => variants.clone(),
            None => scenario.variants().to_vec(),
        };
        let suitable = chosen.into_iter().filter(|kind| scenario.suits(*kind));
        suitable.collect()
    }
}

/// Looks for what has to be known before a case can be measured.
async fn prepare(
    world: &World,
    plan: &Plan,
    scenario: Scenario,
    kind: Kind,
    clients: usize,
    earlier: &[Row],
) -> anyhow::Result<Case> {
    let search = match scenario {
        _ if plan.quick => Search::Quick,
        Scenario::Uniform => Search::Wide,
        _ => Search::Narrow,
    };
    // In an open loop, many may come at a time.
    let at_a_time = if scenario.pace() == Pace::OpenLoop {
        CLIENTS_AT_THE_TOP
    } else {
        clients
    };
    let candidates = Layout::candidates(scenario.styles(), at_a_time, search);
    let mut case = Case {
        scenario,
        kind,
        clients,
        rate: None,
        layout: candidates[0],
    };
    if kind.has_layouts() && candidates.len() > 1 {
        let closed = closed(case, at_a_time);
        case.layout = best_layout(world, plan, closed, &candidates).await?;
    }
    if scenario.pace() == Pace::OpenLoop {
        let mut highest = earlier
            .iter()
            .filter(|row| row.scenario == Scenario::Uniform && row.variant == kind)
            .map(|row| row.tps_median)
            .fold(0.0, f64::max);
        if highest == 0.0 {
            let closed = closed(case, at_a_time);
            highest = measure(world, plan, closed, SEARCH).await?.tps;
        }
        case.rate = Some(highest * LOAD);
    }
    Ok(case)
}

/// The same transfers from clients that wait.
fn closed(case: Case, clients: usize) -> Case {
    Case {
        clients,
        rate: None,
        ..case
    }
}

async fn best_layout(
    world: &World,
    plan: &Plan,
    case: Case,
    candidates: &[Layout],
) -> anyhow::Result<Layout> {
    let mut best = (case.layout, 0.0);
    for layout in candidates.iter().copied() {
        let sample = measure(world, plan, Case { layout, ..case }, SEARCH).await?;
        if sample.tps > best.1 {
            best = (layout, sample.tps);
        }
    }
    println!(
        "{:<15} {:<15} {:>5} clients: best with {:?}",
        case.scenario, case.kind, case.clients, best.0
    );
    Ok(best.0)
}

/// One run and its audit.
pub async fn measure(
    world: &World,
    plan: &Plan,
    case: Case,
    timing: Timing,
) -> anyhow::Result<Sample> {
    let shards = case.scenario.shards();
    world.reset(shards)?;
    let setting = Setting {
        shards: world.shards(shards),
        clients: match case.rate {
            Some(_) => WAITING_IN_OPEN_LOOP,
            None => case.clients,
        },
        layout: case.layout,
        executable: &plan.executable,
        limits: LIMITS,
    };
    forget_own_peak();
    let variant = case.kind.start(setting).await?;
    let counted = load(world, &variant, case, timing).await;
    variant.stop().await?;
    drop(variant);
    let what = || {
        format!(
            "{} with {} clients, {}",
            case.kind, case.clients, case.scenario
        )
    };
    let counted = counted.with_context(|| format!("{} failed", what()))?;
    ensure!(counted.tally.committed > 0, "{} committed nothing", what());
    audit(world, shards, counted.tally.committed)
        .with_context(|| format!("{} is wrong", what()))?;
    Ok(Sample::of(&counted, case.rate, world.batch_mean(shards)?))
}

async fn load(
    world: &World,
    variant: &Arc<dyn Variant>,
    case: Case,
    timing: Timing,
) -> anyhow::Result<Counted> {
    let draw = Draw::new(case.scenario, case.kind.place(), world.accounts)?;
    let draw = Arc::new(draw);
    let processes = world.processes(case.scenario.shards(), variant.processes());
    match case.rate {
        None => load::closed::run(variant, draw, case.clients, timing, &processes).await,
        Some(rate) => load::open::run(variant, draw, rate, timing, &processes).await,
    }
}

impl Sample {
    fn of(counted: &Counted, offered_tps: Option<f64>, batch_mean: Option<f64>) -> Self {
        let tally = &counted.tally;
        let transfers = tally.latencies.len() as f64;
        let latency = |quantile| tally.latencies.value_at_quantile(quantile);
        let per_transfer = |time: Option<Duration>| {
            time.filter(|_| transfers > 0.0)
                .map(|time| time.as_secs_f64() * 1e6 / transfers)
        };
        let cpu = counted.cpu.iter();
        Self {
            tps: transfers / counted.window.as_secs_f64(),
            offered_tps,
            latency_us: [0.5, 0.95, 0.99].map(latency),
            cpu_us: cpu
                .map(|(name, time)| (name.clone(), per_transfer(*time)))
                .collect(),
            peak_mib: counted.peak_mib.clone(),
            aborts: tally.aborted,
            failures: tally.failed,
            late: tally.late,
            rows: tally.rows,
            committed: tally.committed,
            batch_mean,
        }
    }

    /// Rows that a transfer returned to its client.
    pub fn rows_per_transfer(&self) -> f64 {
        self.rows as f64 / (self.committed as f64).max(1.0)
    }

    /// CPU time per transfer of the client, of Gavel's processes, or of the servers.
    pub fn cpu_of(&self, party: Party) -> Option<f64> {
        let chosen: Vec<Option<f64>> = self
            .cpu_us
            .iter()
            .filter(|(name, _)| Party::of(name) == party)
            .map(|(_, time)| *time)
            .collect();
        if chosen.is_empty() {
            return None;
        }
        chosen.into_iter().sum()
    }
}

/// To whom a process belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Party {
    /// This process.
    Client,
    /// Gavel's own processes.
    Gavel,
    /// The servers.
    Postgres,
}

impl Party {
    fn of(process: &str) -> Self {
        match process {
            CLIENT => Self::Client,
            name if name.starts_with("postgres ") => Self::Postgres,
            _ => Self::Gavel,
        }
    }
}
