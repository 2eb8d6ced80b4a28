//! The page of the long run: `benchmarks-steady.md` and its plot.

use std::fmt::Write as _;

use super::{plot, table};
use crate::steady::Steady;

/// Its file.
pub const PAGE: &str = "benchmarks-steady.md";
/// How `benchmarks.md` speaks of it.
pub const LINK: &str = "\n## Over time\n\nHow rate, memory and databases develop at one load stands in [benchmarks-steady.md](benchmarks-steady.md), from a run of its own.\n";
/// The plot of rates.
pub const RATE_PLOT: &str = "benchmarks-steady.svg";
/// The plot of memory.
pub const MEMORY_PLOT: &str = "benchmarks-steady-memory.svg";

/// Markdown.
pub fn page(steady: &Steady) -> String {
    let minutes = steady.seconds / 60.0;
    let retention = steady.upkeep_seconds.map_or_else(String::new, |seconds| {
        format!(", and `gavel retention run` runs every {seconds} seconds")
    });
    let mut text = format!(
        "# {minutes:.1} minutes at one load\n\n\
         This page is written by `make bench-steady`, with `benchmarks-steady.json` and the plots \
         beside it; changes by hand are lost.\n\n\
         `{}` with {} clients in a closed loop makes transfers between random accounts on two shards \
         (`uniform` of [benchmarks.md](benchmarks.md)). Servers checkpoint and vacuum by themselves, \
         with PostgreSQL's defaults{retention}. At the end the money was counted: {} transfers, each \
         on both shards.\n\n\
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::page::tests::machine;
    use crate::steady::{Sample, Servers};
    use crate::variants::Kind;

    #[test]
    fn the_page_shows_a_line_per_look_at_the_servers() {
        let sample = |seconds: f64, servers: Option<Servers>| Sample {
            seconds,
            tps: 1000.0 + seconds,
            p99_ms: 3.5,
            aborts: 2,
            memory_mib: BTreeMap::from([("coordinator".to_owned(), 30.4)]),
            servers,
        };
        let looked = Servers {
            database_mib: 123.4,
            dead_rows: 99,
        };
        let steady = Steady {
            machine: machine(),
            variant: Kind::Fleet,
            clients: 8,
            seconds: 60.0,
            upkeep_seconds: Some(30.0),
            committed: 7,
            samples: vec![sample(30.0, Some(looked)), sample(60.0, None)],
        };
        let text = page(&steady);
        for wanted in [
            "runs every 30 seconds",
            "| 0.5 | 1030 | 3.5 | 2 | 123 | 99 | 30 |\n\n",
            "7 transfers",
        ] {
            assert!(text.contains(wanted), "{wanted}\n\n{text}");
        }
        for (name, svg) in plots(&steady).unwrap() {
            assert!(svg.contains("minutes"), "{name}");
        }
    }
}
