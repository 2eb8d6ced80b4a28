//! Side-by-side measurements: Gavel against hand-written two-phase commit, on the same servers,
//! in one run, repetitions interleaved.
//!
//! A run that loses money, leaves something prepared, or cannot say what became of a transfer
//! fails the whole measurement: a number for wrong results is worth nothing.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use clap::Parser;

mod cpu;
mod load;
mod machine;
mod measure;
mod report;
mod table;
mod variants;
mod world;

use measure::Timing;
use variants::Kind;

/// Measures Gavel against hand-written two-phase commit.
#[derive(Debug, Parser)]
struct Args {
    /// One short repetition of everything; writes no file
    #[arg(long)]
    quick: bool,
    /// Clients in a closed loop: each sends its next transfer when the last one is applied
    #[arg(long, value_delimiter = ',', default_values_t = [1, 8, 32, 128])]
    clients: Vec<usize>,
    /// What to measure
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = Kind::ALL)]
    variants: Vec<Kind>,
    /// Repetitions, interleaved: A B C D A B C D
    #[arg(long, default_value_t = 3)]
    repetitions: usize,
    /// Seconds that are measured in each repetition
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    /// Seconds before that, which are not
    #[arg(long, default_value_t = 1.0)]
    warm_up: f64,
    /// Accounts on each shard
    #[arg(long, default_value_t = 10_000)]
    accounts: i64,
    /// The executable for the fleet [default: `gavel` beside this one]
    #[arg(long, value_name = "FILE")]
    gavel: Option<PathBuf>,
    /// Folder for benchmarks.json and benchmarks.md; `--quick` writes nothing
    #[arg(long, default_value = "docs", value_name = "FOLDER")]
    out: PathBuf,
    /// Write the files in spite of `--quick`
    #[arg(long)]
    write: bool,
}

impl Args {
    fn timing(&self) -> Timing {
        let (warm_up, window) = match self.quick {
            true => (0.5, 2.0),
            false => (self.warm_up, self.seconds),
        };
        Timing {
            warm_up: Duration::from_secs_f64(warm_up),
            window: Duration::from_secs_f64(window),
        }
    }

    fn repetitions(&self) -> usize {
        if self.quick { 1 } else { self.repetitions }
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let world = world::World::start(args.accounts).await?;
    let machine = machine::describe(&world)?;
    println!("{}", table::machine(&machine));
    let plan = measure::Plan {
        clients: args.clients.clone(),
        variants: args.variants.clone(),
        repetitions: args.repetitions(),
        timing: args.timing(),
        executable: args.gavel.clone().map_or_else(beside_this, Ok)?,
    };
    let rows = measure::run(&world, &plan).await?;
    let report = report::Report {
        measured: report::Measured::of(&plan, &world),
        machine,
        rows,
    };
    println!("\n{}", table::results(&report.rows));
    if args.write || !args.quick {
        report
            .write(&args.out)
            .with_context(|| format!("cannot write to {}", args.out.display()))?;
    }
    Ok(())
}

fn beside_this() -> anyhow::Result<PathBuf> {
    let own = std::env::current_exe().context("cannot find this executable")?;
    Ok(own.with_file_name("gavel"))
}
