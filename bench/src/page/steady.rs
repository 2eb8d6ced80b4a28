//! The page of the long run: `benchmarks-steady.md` and its plot.

use std::fmt::Write as _;

use super::{plot, table};
use crate::steady::Steady;

/// Its file.
pub const PAGE: &str = "benchmarks-steady.md";
/// How `benchmarks.md` speaks of it.
pub const LINK: &str = "\n## Ten minutes\n\nHow rate, memory and databases develop over ten minutes \
     stands in [benchmarks-steady.md](benchmarks-steady.md), from a run of its own.\n";
/// The plot of rates.
pub const RATE_PLOT: &str = "benchmarks-steady.svg";
/// The plot of memory.
pub const MEMORY_PLOT: &str = "benchmarks-steady-memory.svg";

/// Markdown.
pub fn page(steady: &Steady) -> String {
    let minutes = steady.seconds / 60.0;
    let mut text = format!(
        "# Ten minutes at one load\n\n\
         This page is written by `make bench-steady`, with `benchmarks-steady.json` and the plots \
         beside it; changes by hand are lost.\n\n\
         `{}` with {} clients in a closed loop makes transfers between random accounts on two shards \
         (`uniform` of [benchmarks.md](benchmarks.md)) for {minutes:.1} minutes. Servers checkpoint and \
         vacuum by themselves, with PostgreSQL's defaults, and `gavel retention run` runs every minute. \
         At the end the money was counted: {} transfers, all of them on both shards.\n\n\
         ![Transfers per second]({RATE_PLOT})\n\n![Memory in MiB]({MEMORY_PLOT})\n\n",
        steady.variant, steady.clients, steady.committed
    );
    text.push_str(&minute_table(steady));
    let _ = write!(
        text,
        "\nMemory is what is resident; that of `postgres` is private memory, all backends added up. \
         *Dead rows* are those of the accounts that vacuum has not yet removed. The databases grow \
         because every transfer leaves its marks, an outcome and a share of a decision and of a branch \
         row; Gavel's own rows go when they are older than the retention, seven days by default.\n\n\
         ## The machine\n\n{}\n",
        table::machine(&steady.machine)
    );
    text
}

fn minute_table(steady: &Steady) -> String {
    let names: Vec<&String> = steady
        .samples
        .first()
        .map(|first| first.memory_mib.keys().collect())
        .unwrap_or_default();
    let mut text =
        String::from("| minute | transfers/s | p99 ms | aborts | databases MiB | dead rows |");
    let mut line = String::from("|--:|--:|--:|--:|--:|--:|");
    for name in &names {
        let _ = write!(text, " {name} MiB |");
        line.push_str("--:|");
    }
    let _ = write!(text, "\n{line}\n");
    for sample in &steady.samples {
        let Some(servers) = &sample.servers else {
            continue;
        };
        let _ = write!(
            text,
            "| {:.1} | {:.0} | {:.1} | {} | {:.0} | {} |",
            sample.seconds / 60.0,
            sample.tps,
            sample.p99_ms,
            sample.aborts,
            servers.database_mib,
            servers.dead_rows
        );
        for name in &names {
            match sample.memory_mib.get(*name) {
                Some(mib) => write!(text, " {mib:.0} |"),
                None => write!(text, " – |"),
            }
            .expect("writing into a String does not fail");
        }
        text.push('\n');
    }
    text
}

/// Rates over time, and memory over time.
pub fn plots(steady: &Steady) -> anyhow::Result<[(&'static str, String); 2]> {
    let rate = steady
        .samples
        .iter()
        .map(|sample| (sample.seconds / 60.0, sample.tps));
    let rate = vec![(steady.variant.name().to_owned(), rate.collect())];
    let mut memory: Vec<(String, Vec<(f64, f64)>)> = Vec::new();
    if let Some(first) = steady.samples.first() {
        for name in first.memory_mib.keys() {
            let points = steady
                .samples
                .iter()
                .filter_map(|sample| Some((sample.seconds / 60.0, *sample.memory_mib.get(name)?)));
            memory.push((name.clone(), points.collect()));
        }
    }
    Ok([
        (RATE_PLOT, plot::over_time(&rate, "transfers per second")?),
        (MEMORY_PLOT, plot::over_time(&memory, "memory in MiB")?),
    ])
}
