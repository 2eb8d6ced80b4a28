//! Side-by-side measurements: Gavel against hand-written transactions, on the same servers, in one
//! run, repetitions interleaved.
//!
//! A run that loses money, leaves something prepared, or cannot say what became of a transfer
//! fails the whole measurement: a number for wrong results is worth nothing.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use clap::{Args, Parser, Subcommand};

mod audit;
mod flood;
mod load;
mod machine;
mod measure;
mod outage;
mod overload;
mod page;
mod process;
mod report;
mod scenario;
mod steady;
#[cfg(test)]
mod tests;
mod variants;
mod work;
mod world;

use load::Timing;
use scenario::Scenario;
use variants::Kind;
use world::{Upkeep, World};

/// The same as in the `gavel` executable, for the clients of all variants alike.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Measures Gavel against hand-written transactions.
#[derive(Debug, Parser)]
#[command(args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    compare: Compare,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// One variant at one load for a long time, sampled as it goes
    Steady(SteadyArgs),
    /// One of four shards goes away and comes back: who else notices
    Outage(OutageArgs),
    /// Many times what can be done arrives for a minute: what it costs, and when it is over
    Overload(OverloadArgs),
    /// The crowd of `overload`, which starts it
    #[command(hide = true)]
    Flood(flood::Plan),
}

#[derive(Debug, Args)]
struct Compare {
    /// One short repetition of two scenarios; writes no file
    #[arg(long)]
    quick: bool,
    /// What clients do; `all` for everything [default: all; with --quick: uniform,hot]
    #[arg(long, value_enum, value_delimiter = ',', value_name = "SCENARIO")]
    scenario: Vec<Chosen>,
    /// Numbers of clients [default: the scenario's own; with --quick: 1,32,128]
    #[arg(long, value_delimiter = ',', value_parser = at_least_one)]
    clients: Vec<usize>,
    /// What to measure [default: the scenario's own]
    #[arg(long, value_enum, value_delimiter = ',')]
    variants: Vec<Kind>,
    /// Repetitions, interleaved: A B C D A B C D [default: 3; with --quick: 1]
    #[arg(long, value_parser = at_least_one)]
    repetitions: Option<usize>,
    /// Seconds that are measured in each repetition [default: 5; with --quick: 1.5]
    #[arg(long, value_parser = some_time)]
    seconds: Option<Duration>,
    /// Seconds before that, which are not [default: 0.5; with --quick: 0.4]
    #[arg(long, value_parser = some_time)]
    warm_up: Option<Duration>,
    /// Write the files in spite of `--quick` or a choice of scenarios, clients or variants
    #[arg(long)]
    write: bool,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Args)]
struct SteadyArgs {
    /// How long
    #[arg(long, default_value = "10", value_parser = some_minutes)]
    minutes: Duration,
    /// What to run
    #[arg(long, value_enum, default_value_t = Kind::Fleet)]
    variant: Kind,
    /// Clients in a closed loop
    #[arg(long, default_value_t = 32, value_parser = at_least_one)]
    clients: usize,
    /// Seconds between two samples
    #[arg(long, default_value = "10", value_parser = some_time)]
    interval: Duration,
    /// Seconds between two rounds of upkeep and looks at the databases
    #[arg(long, default_value = "60", value_parser = some_time)]
    upkeep: Duration,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Args)]
struct OutageArgs {
    /// How the shard goes away
    #[arg(long, value_enum, default_value_t = outage::Fault::Stop)]
    fault: outage::Fault,
    /// Clients over the shards that stay, and as many over the one that goes
    #[arg(long, default_value_t = 16, value_parser = at_least_one)]
    clients: usize,
    /// Seconds before, while it is away, and after it is back
    #[arg(long, default_value = "10", value_parser = some_time)]
    seconds: Duration,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Args)]
struct OverloadArgs {
    /// How many times what can be done arrives
    #[arg(long, default_value = "10")]
    factor: f64,
    /// Clients in a closed loop before and after, who find out what can be done
    #[arg(long, default_value_t = 256, value_parser = at_least_one)]
    clients: usize,
    /// Seconds that one that arrives is waited for
    #[arg(long, default_value = "1", value_parser = some_time)]
    deadline: Duration,
    /// Seconds before and after
    #[arg(long, default_value = "10", value_parser = some_time)]
    calm: Duration,
    /// Seconds of overload
    #[arg(long, default_value = "60", value_parser = some_time)]
    seconds: Duration,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Args)]
struct Common {
    /// Accounts on each shard
    #[arg(long, default_value_t = 10_000)]
    accounts: i64,
    /// The executable for the variants with processes of their own [default: `gavel` beside this one]
    #[arg(long, value_name = "FILE")]
    gavel: Option<PathBuf>,
    /// Folder for what is written
    #[arg(long, default_value = "docs", value_name = "FOLDER")]
    out: PathBuf,
}

/// A scenario, or all of them.
#[derive(Debug, Clone, Copy)]
enum Chosen {
    All,
    One(Scenario),
}

impl clap::ValueEnum for Chosen {
    fn value_variants<'a>() -> &'a [Self] {
        const CHOICES: [Chosen; Scenario::ALL.len() + 1] = {
            let mut choices = [Chosen::All; Scenario::ALL.len() + 1];
            let mut index = 0;
            while index < Scenario::ALL.len() {
                choices[index + 1] = Chosen::One(Scenario::ALL[index]);
                index += 1;
            }
            choices
        };
        &CHOICES
    }

    fn to_possible_value(&self) -> Option<clap::builder::PossibleValue> {
        Some(clap::builder::PossibleValue::new(match self {
            Self::All => "all",
            Self::One(scenario) => scenario.name(),
        }))
    }
}

impl Compare {
    fn plan(&self) -> anyhow::Result<measure::Plan> {
        let (repetitions, warm_up_ms, window_ms) = match self.quick {
            true => (1, 400, 1_500),
            false => (3, 500, 5_000),
        };
        let quick_clients = || self.quick.then(|| vec![1, 32, 128]);
        Ok(measure::Plan {
            scenarios: self.scenarios(),
            clients: given(&self.clients).or_else(quick_clients),
            variants: given(&self.variants),
            repetitions: self.repetitions.unwrap_or(repetitions),
            timing: Timing {
                warm_up: self.warm_up.unwrap_or(Duration::from_millis(warm_up_ms)),
                window: self.seconds.unwrap_or(Duration::from_millis(window_ms)),
            },
            quick: self.quick,
            executable: self.common.executable()?,
        })
    }

    fn scenarios(&self) -> Vec<Scenario> {
        let has = |scenario: &Scenario| {
            let mut chosen = self.scenario.iter();
            chosen.any(|chosen| match chosen {
                Chosen::All => true,
                Chosen::One(one) => one == scenario,
            })
        };
        match (self.scenario.is_empty(), self.quick) {
            (true, true) => vec![Scenario::Uniform, Scenario::Hot],
            (true, false) => Scenario::ALL.to_vec(),
            (false, _) => Scenario::ALL.into_iter().filter(has).collect(),
        }
    }

    /// A file is always one whole run, unless somebody insists.
    fn writes(&self) -> bool {
        let is_whole = self.scenario.is_empty()
            && self.clients.is_empty()
            && self.variants.is_empty()
            && !self.quick;
        is_whole || self.write
    }
}

impl Common {
    fn executable(&self) -> anyhow::Result<PathBuf> {
        if let Some(file) = &self.gavel {
            return Ok(file.clone());
        }
        let own = std::env::current_exe().context("cannot find this executable")?;
        Ok(own.with_file_name("gavel"))
    }
}

/// One thread for every variant's clients: servers and services need the rest of a small machine, and
/// what is handed from thread to thread costs a wake-up.
#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let cli = Cli::parse();
    match cli.command {
        Some(Command::Steady(args)) => run_steady(&args).await,
        Some(Command::Outage(args)) => run_outage(&args).await,
        Some(Command::Overload(args)) => run_overload(&args).await,
        Some(Command::Flood(plan)) => flood::run(&plan).await,
        None => compare(&cli.compare).await,
    }
}

async fn compare(args: &Compare) -> anyhow::Result<()> {
    let plan = args.plan()?;
    let world = World::start(args.common.accounts, Upkeep::BetweenRuns).await?;
    let machine = machine::describe(&world)?;
    println!("{}", page::table::machine(&machine));
    let rows = measure::run(&world, &plan).await?;
    let report = report::Report {
        measured: report::Measured::of(&plan, &world),
        machine,
        rows,
    };
    println!("\n{}", page::Page::of(&report)?.results);
    if args.writes() {
        let out = &args.common.out;
        report
            .write(out)
            .with_context(|| format!("cannot write to {}", out.display()))?;
    }
    Ok(())
}

async fn run_steady(args: &SteadyArgs) -> anyhow::Result<()> {
    let plan = steady::Plan {
        variant: args.variant,
        clients: args.clients,
        length: args.minutes,
        interval: args.interval,
        upkeep: args.upkeep,
        executable: args.common.executable()?,
    };
    let world = World::start(args.common.accounts, Upkeep::ByItself).await?;
    let machine = machine::describe(&world)?;
    println!("{}", page::table::machine(&machine));
    let steady = steady::run(&world, &plan, machine).await?;
    let out = &args.common.out;
    steady
        .write(out)
        .with_context(|| format!("cannot write to {}", out.display()))
}

async fn run_outage(args: &OutageArgs) -> anyhow::Result<()> {
    let plan = outage::Plan {
        executable: args.common.executable()?,
        clients: args.clients,
        phase: args.seconds,
        fault: args.fault,
    };
    let world = World::start(args.common.accounts, Upkeep::ByItself).await?;
    println!("{}", page::table::machine(&machine::describe(&world)?));
    outage::run(&world, &plan).await
}

async fn run_overload(args: &OverloadArgs) -> anyhow::Result<()> {
    let plan = overload::Plan {
        executable: args.common.executable()?,
        clients: args.clients,
        factor: args.factor,
        deadline: args.deadline,
        calm: args.calm,
        overload: args.seconds,
    };
    let world = World::start(args.common.accounts, Upkeep::ByItself).await?;
    println!("{}", page::table::machine(&machine::describe(&world)?));
    overload::run(&world, &plan).await
}

fn at_least_one(text: &str) -> Result<usize, String> {
    let number = text.parse().ok().filter(|number| *number > 0);
    number.ok_or_else(|| "must be a whole number, 1 at least".to_owned())
}

/// Seconds. None at all would measure nothing.
fn some_time(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().ok().filter(|seconds: &f64| *seconds > 0.0);
    let time = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    time.ok_or_else(|| "must be a number of seconds above 0".to_owned())
}

fn some_minutes(text: &str) -> Result<Duration, String> {
    let minutes = some_time(text).map_err(|_| "must be a number of minutes above 0".to_owned())?;
    Ok(minutes * 60)
}

fn given<T: Clone>(values: &[T]) -> Option<Vec<T>> {
    (!values.is_empty()).then(|| values.to_vec())
}

#[cfg(test)]
mod arguments {
    use super::*;

    #[test]
    fn what_would_measure_nothing_is_refused() {
        for bad in [
            ["--repetitions", "0"],
            ["--clients", "8,0"],
            ["--seconds", "0"],
            ["--seconds=-1", "--quick"],
            ["--warm-up", "NaN"],
            ["steady", "--interval=0"],
            ["steady", "--minutes=inf"],
        ] {
            let parsed = Cli::try_parse_from(["gavel-bench"].into_iter().chain(bad));
            assert!(parsed.is_err(), "{bad:?}");
        }
        let good = ["gavel-bench", "--clients", "1,8", "--seconds", "0.5"];
        let compare = Cli::try_parse_from(good).unwrap().compare;
        assert_eq!(compare.clients, [1, 8]);
        assert_eq!(compare.seconds, Some(Duration::from_millis(500)));
    }
}
