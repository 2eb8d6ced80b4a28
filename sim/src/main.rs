//! `gavel-sim`: runs seeds of the simulation, and explores models.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context;
use clap::{Parser, ValueEnum};
use gavel_sim::Hole;
use gavel_sim::model::{self, Configuration, Size};
use gavel_sim::simulation::{self, Choice, Kinds, Report};

/// Simulates Gavel's core (many clients, faults, repair, rest; one run per seed), or explores
/// every way through small models of it.
#[derive(Debug, Parser)]
struct Arguments {
    /// Run this seed alone, and save its trace.
    #[arg(long, conflicts_with_all = ["seeds", "seconds"])]
    seed: Option<u64>,
    /// Explore the models instead.
    #[arg(long, conflicts_with_all = ["seed", "seeds", "seconds"])]
    models: Option<Size>,
    /// Only the models whose name contains this.
    #[arg(long, requires = "models", default_value = "")]
    only: String,
    /// How many seeds to run.
    #[arg(long, default_value_t = 1_000)]
    seeds: u64,
    /// The first of them.
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// Stop taking up seeds after this many seconds.
    #[arg(long)]
    seconds: Option<u64>,
    /// How many seeds run at the same time.
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// Switch a rule off, or plant a bug; `list` shows them.
    #[arg(long)]
    hole: Option<String>,
    /// Only worlds of this kind.
    #[arg(long)]
    kind: Option<Kinds>,
    /// Batches of at most this many members in every world.
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=20_000))]
    batch_members: Option<u16>,
    /// Where traces are saved.
    #[arg(long, default_value = "target/sim")]
    traces: PathBuf,
}

fn main() -> anyhow::Result<ExitCode> {
    let arguments = Arguments::parse();
    if arguments.hole.as_deref() == Some("list") {
        for hole in Hole::ALL {
            println!("{:24} {}", hole.as_str(), hole.description());
        }
        return Ok(ExitCode::SUCCESS);
    }
    let hole = arguments.hole.as_deref().map(parse_hole).transpose()?;
    if let Some(size) = arguments.models {
        return explore_models(size, &arguments, hole);
    }
    if let Some(seed) = arguments.seed {
        return run_one(arguments.choice(seed, hole), &arguments.traces);
    }
    let mut totals = Totals::default();
    let seeds = arguments.from..arguments.from.saturating_add(arguments.seeds);
    run_all(seeds, hole, &arguments, &mut totals);
    print!("{}", totals.text());
    for report in &totals.broken {
        let choice = arguments.choice(report.seed, hole);
        say_broken(&choice);
        run_one(choice, &arguments.traces)?;
    }
    Ok(match totals.broken.is_empty() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}

fn parse_hole(text: &str) -> anyhow::Result<Hole> {
    let mut holes = Hole::ALL.iter().copied();
    holes
        .find(|hole| hole.as_str() == text)
        .with_context(|| format!("there is no hole `{text}`: `--hole list` shows them"))
}

/// Explores models one after the other; the first that finds something ends it.
fn explore_models(
    size: Size,
    arguments: &Arguments,
    hole: Option<Hole>,
) -> anyhow::Result<ExitCode> {
    let configurations = Configuration::all(size, hole).into_iter();
    for configuration in configurations.filter(|each| each.name.contains(&arguments.only)) {
        let explored = model::explore(&configuration, arguments.threads);
        println!(
            "{}: {} states, {} transitions, {} deep, {:.1} s",
            configuration.name,
            explored.states,
            explored.transitions,
            explored.depth,
            explored.elapsed.as_secs_f64()
        );
        if let Some(found) = explored.violation {
            println!("VIOLATED {:?}: {}", found.invariants, found.what);
            print!("{}", found.trace);
            return Ok(ExitCode::FAILURE);
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Runs one seed with a trace, and saves that.
fn run_one(choice: Choice, folder: &Path) -> anyhow::Result<ExitCode> {
    let seed = choice.seed;
    let (report, trace) = simulation::trace(choice);
    std::fs::create_dir_all(folder).with_context(|| format!("creating {}", folder.display()))?;
    let file = folder.join(format!("seed-{seed}.txt"));
    std::fs::write(&file, trace).with_context(|| format!("writing {}", file.display()))?;
    println!(
        "seed {seed} ({}): {} steps, {} transactions, trace in {}",
        report.profile,
        report.steps,
        report.transactions,
        file.display()
    );
    for (invariant, what) in &report.violations {
        println!("  VIOLATED {invariant:?}: {what}");
    }
    Ok(match report.violations.is_empty() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}

impl Arguments {
    fn choice(&self, seed: u64, hole: Option<Hole>) -> Choice {
        Choice {
            seed,
            hole,
            kind: self.kind,
            batch_members: self.batch_members.map(usize::from),
        }
    }
}

fn say_broken(choice: &Choice) {
    let Choice {
        seed,
        hole,
        kind,
        batch_members,
    } = choice;
    let hole = hole.map_or_else(String::new, |hole| format!(" --hole {}", hole.as_str()));
    let kind = kind
        .and_then(|kind| Some(kind.to_possible_value()?.get_name().to_owned()))
        .map_or_else(String::new, |kind| format!(" --kind {kind}"));
    let members = batch_members.map_or_else(String::new, |size| format!(" --batch-members {size}"));
    println!(
        "seed {seed} failed: repeat it with \
         `cargo run -p gavel-sim -- --seed {seed}{hole}{kind}{members}`"
    );
}

fn run_all(seeds: Range<u64>, hole: Option<Hole>, arguments: &Arguments, totals: &mut Totals) {
    let start = Instant::now();
    let limit = arguments.seconds.map(Duration::from_secs);
    let next = AtomicU64::new(seeds.start);
    let shared = Mutex::new(totals);
    std::thread::scope(|scope| {
        for _ in 0..arguments.threads.max(1) {
            scope.spawn(|| {
                while limit.is_none_or(|limit| start.elapsed() < limit) {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end {
                        break;
                    }
                    let report = simulation::run(arguments.choice(seed, hole));
                    shared.lock().expect("no thread panics").add(report);
                }
            });
        }
    });
    let mut totals = shared.lock().expect("no thread panics");
    totals.elapsed = start.elapsed();
}

/// What all seeds came to.
#[derive(Default)]
struct Totals {
    seeds: u64,
    steps: u64,
    transactions: u64,
    simulated_ms: u64,
    faults: BTreeMap<String, u64>,
    profiles: BTreeMap<&'static str, u64>,
    /// How many seeds had a largest batch of so many members, by how many it might have.
    batches: BTreeMap<usize, BTreeMap<usize, u64>>,
    broken: Vec<Report>,
    elapsed: Duration,
}

impl Totals {
    fn add(&mut self, report: Report) {
        self.seeds += 1;
        self.steps += report.steps;
        self.transactions += report.transactions;
        self.simulated_ms += report.simulated_ms;
        *self.profiles.entry(report.profile).or_default() += 1;
        let sizes = self.batches.entry(report.batch_members_max).or_default();
        *sizes.entry(bucket(report.largest_batch)).or_default() += 1;
        for (name, count) in &report.faults {
            *self.faults.entry(name.clone()).or_default() += count;
        }
        if !report.violations.is_empty() {
            self.broken.push(report);
        }
    }

    fn text(&self) -> String {
        let seconds = self.elapsed.as_secs_f64();
        let faults: u64 = self.faults.values().sum();
        let hours = Duration::from_millis(self.simulated_ms).as_secs_f64() / 3600.0;
        let mut text = format!(
            "{} seeds in {seconds:.1} s ({:.0} a second): {} transactions, {} steps, {faults} \
             faults, {hours:.1} simulated hours, {} seeds failed\n",
            self.seeds,
            self.seeds as f64 / seconds,
            self.transactions,
            self.steps,
            self.broken.len()
        );
        for (name, count) in &self.profiles {
            text += &format!("  {count:>9} seeds of the profile {name}\n");
        }
        for (members_max, sizes) in &self.batches {
            let seeds: u64 = sizes.values().sum();
            text += &format!("  {seeds:>9} seeds with batches of at most {members_max}; largest: ");
            let each = sizes
                .iter()
                .map(|(from, count)| format!("{}: {count}", range(*from)));
            text += &(each.collect::<Vec<_>>().join(", ") + "\n");
        }
        for (name, count) in &self.faults {
            text += &format!("  {count:>9} {name}\n");
        }
        text
    }
}

/// Where a range of sizes begins: the sizes that everything is tested with by themselves, and what
/// is between two of them.
const BUCKETS: [usize; 8] = [0, 1, 2, 3, 60, 61, 500, 501];

fn bucket(size: usize) -> usize {
    let from = BUCKETS.iter().rev().find(|from| **from <= size);
    *from.expect("0 is among them")
}

fn range(from: usize) -> String {
    let next = BUCKETS.iter().find(|next| **next > from);
    match next {
        Some(next) if next - from > 1 => format!("{from} to {}", next - 1),
        Some(_) => from.to_string(),
        None => format!("{from} or more"),
    }
}
