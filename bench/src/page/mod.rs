//! What people read: tables on the terminal, and the page `benchmarks.md` with its plots, made of
//! rows alone.

pub mod headline;
pub mod plot;
pub mod steady;
pub mod table;
pub mod targets;
mod words;

use std::fmt::Write as _;

use crate::report::{Report, Row};
use crate::scenario::Scenario;
use crate::variants::NAIVE_CONNECTIONS_MAX;
use words::{CAVEATS, INTRODUCTION, REPEAT, VARIANTS};

/// The page, and the files that it shows.
#[derive(Debug, Clone)]
pub struct Page {
    /// What stands before the results; all is Markdown.
    pub before: String,
    /// Targets and tables.
    pub results: String,
    /// What stands behind them.
    pub after: String,
    /// File names and their SVG.
    pub plots: Vec<(&'static str, String)>,
}

/// This many busy cores before a measurement are no background noise.
const BUSY: f64 = 0.3;

const RATE_PLOT: &str = "benchmarks-rate.svg";
const P99_PLOT: &str = "benchmarks-p99.svg";
const LATENCY_PLOT: &str = "benchmarks-latency.svg";

impl Page {
    /// Everything that the report says.
    pub fn of(report: &Report) -> anyhow::Result<Self> {
        let mut page = Self {
            before: format!("{INTRODUCTION}\n{VARIANTS}\n{}", busy(report)),
            results: targets::section(&report.rows),
            after: method(report),
            plots: Vec::new(),
        };
        for scenario in Scenario::ALL {
            page.add_scenario(scenario, &report.rows)?;
        }
        Ok(page)
    }

    /// The whole page.
    pub fn text(&self) -> String {
        [self.before.as_str(), &self.results, &self.after].concat()
    }

    fn add_scenario(&mut self, scenario: Scenario, all: &[Row]) -> anyhow::Result<()> {
        let rows: Vec<&Row> = all.iter().filter(|row| row.scenario == scenario).collect();
        if rows.is_empty() {
            return Ok(());
        }
        let text = &mut self.results;
        write!(text, "## {scenario}\n\n{}\n\n", scenario.about())?;
        match scenario {
            Scenario::Uniform => {
                let rate = plot::by_clients(&rows, "transfers per second", |row| row.tps_median)?;
                let p99 = plot::by_clients(&rows, "99th percentile in ms", |row| row.p99_ms)?;
                self.add_plot("Transfers per second by clients", RATE_PLOT, rate);
                self.add_plot("99th percentile of latency by clients", P99_PLOT, p99);
                self.results.push_str(&table::results(&rows));
                self.results.push_str(&table::cpu_by_process(&rows));
            }
            Scenario::Latency => {
                let bars = plot::latencies(&rows)?;
                self.add_plot("Latency at half load", LATENCY_PLOT, bars);
                self.results.push_str(&table::latency(&rows));
            }
            Scenario::Memory => self.results.push_str(&table::memory(&rows)),
            _ => self.results.push_str(&table::results(&rows)),
        }
        self.results.push_str(&table::notes(&rows));
        self.results.push('\n');
        Ok(())
    }

    fn add_plot(&mut self, title: &str, name: &'static str, svg: String) {
        let _ = write!(self.results, "![{title}]({name})\n\n");
        self.plots.push((name, svg));
    }
}

fn method(report: &Report) -> String {
    let measured = &report.measured;
    format!(
        "## How it was measured\n\n\
         {} accounts on each shard; ack mode `{}`. {} repetitions of {} s after {} s of warm-up, \
         interleaved over the variants; the tables show medians, and the slowest and the fastest \
         repetition. Clients are in a closed loop, except in `latency`. The naive variants have a \
         connection per client and server, {} at most, which more clients share; through \
         gRPC, all clients share one. Gavel's limits are the defaults, except `{}`.\n\n{REPEAT}\n## The machine\n\n{}\n\n{CAVEATS}",
        measured.accounts_per_shard,
        measured.ack,
        measured.repetitions,
        measured.seconds,
        measured.warm_up_seconds,
        NAIVE_CONNECTIONS_MAX,
        measured.gavel_limits,
        table::machine(&report.machine),
    )
}

fn busy(report: &Report) -> &'static str {
    match report.machine.busy_before {
        Some(cores) if cores > BUSY => {
            "**Something else was at work on this machine before the measurement began: take these \
             numbers as a sketch, and repeat the run.**\n\n"
        }
        _ => "",
    }
}

#[cfg(test)]
mod tests;
