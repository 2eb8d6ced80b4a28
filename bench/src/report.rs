//! Rows, and the files made of them.

use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::machine::Machine;
use crate::measure::{Plan, Sample};
use crate::table;
use crate::variants::{Kind, Layout};
use crate::world::World;

/// Everything that goes into `benchmarks.json`.
#[derive(Debug, Serialize, Deserialize)]
pub struct Report {
    /// Where.
    pub machine: Machine,
    /// How.
    pub measured: Measured,
    /// What came out.
    pub rows: Vec<Row>,
}

/// How it was measured.
#[derive(Debug, Serialize, Deserialize)]
pub struct Measured {
    /// When a client hears of the end.
    pub ack: String,
    /// Runs per row.
    pub repetitions: usize,
    /// Seconds of each.
    pub seconds: f64,
    /// Seconds before, not counted.
    pub warm_up_seconds: f64,
    /// Accounts on each of the two shards.
    pub accounts_per_shard: i64,
}

/// One variant at one number of clients: medians over the repetitions.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Row {
    /// The variant.
    pub variant: Kind,
    /// The kind of transfers.
    pub scenario: String,
    /// Clients in a closed loop.
    pub clients: usize,
    /// Committed transfers per second.
    pub tps_median: f64,
    /// In the slowest repetition.
    pub tps_min: f64,
    /// In the fastest repetition.
    pub tps_max: f64,
    /// Median latency in milliseconds.
    pub p50_ms: f64,
    /// 95th percentile.
    pub p95_ms: f64,
    /// 99th percentile.
    pub p99_ms: f64,
    /// CPU time of the client's process per transfer, in microseconds. Embedded, Gavel is in it.
    pub cpu_us_client: Option<f64>,
    /// CPU time of Gavel's own processes per transfer.
    pub cpu_us_gavel: Option<f64>,
    /// CPU time of all PostgreSQL processes per transfer.
    pub cpu_us_postgres: Option<f64>,
    /// Aborted or refused transfers in all repetitions.
    pub aborts: u64,
    /// Transactions per batch.
    pub batch_mean: Option<f64>,
    /// Layout of the connections, for `2pc-best`.
    pub layout: Option<Layout>,
}

impl Measured {
    /// What the plan says.
    pub fn of(plan: &Plan, world: &World) -> Self {
        Self {
            ack: "applied".to_owned(),
            repetitions: plan.repetitions,
            seconds: plan.timing.window.as_secs_f64(),
            warm_up_seconds: plan.timing.warm_up.as_secs_f64(),
            accounts_per_shard: world.accounts,
        }
    }
}

impl Row {
    /// Medians of at least one sample.
    pub fn of(variant: Kind, clients: usize, layout: Option<Layout>, samples: &[Sample]) -> Self {
        let each = |value: &dyn Fn(&Sample) -> f64| samples.iter().map(value).collect::<Vec<_>>();
        let option = |value: &dyn Fn(&Sample) -> Option<f64>| {
            let known: Option<Vec<f64>> = samples.iter().map(value).collect();
            known.map(|values| rounded(median(values), 1))
        };
        let tps = each(&|sample| sample.tps);
        let latency = |at: usize| {
            let micros = median(each(&|sample| sample.latency_us[at] as f64));
            rounded(micros / 1000.0, 3)
        };
        Self {
            variant,
            scenario: "uniform".to_owned(),
            clients,
            tps_min: rounded(tps.iter().copied().fold(f64::INFINITY, f64::min), 1),
            tps_max: rounded(tps.iter().copied().fold(0.0, f64::max), 1),
            tps_median: rounded(median(tps), 1),
            p50_ms: latency(0),
            p95_ms: latency(1),
            p99_ms: latency(2),
            cpu_us_client: option(&|sample| sample.cpu_us[0]),
            cpu_us_gavel: option(&|sample| sample.cpu_us[1]),
            cpu_us_postgres: option(&|sample| sample.cpu_us[2]),
            aborts: samples.iter().map(|sample| sample.aborts).sum(),
            batch_mean: option(&|sample| sample.batch_mean),
            layout,
        }
    }
}

impl Report {
    /// Writes `benchmarks.json` and `benchmarks.md` into `folder`.
    pub fn write(&self, folder: &Path) -> anyhow::Result<()> {
        fs::create_dir_all(folder)?;
        let json = serde_json::to_string_pretty(self)? + "\n";
        fs::write(folder.join("benchmarks.json"), json)?;
        fs::write(folder.join("benchmarks.md"), table::page(self))?;
        Ok(())
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => 0.0,
        length if length % 2 == 1 => values[middle],
        _ => f64::midpoint(values[middle - 1], values[middle]),
    }
}

fn rounded(value: f64, digits: i32) -> f64 {
    let factor = 10_f64.powi(digits);
    (value * factor).round() / factor
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_and_extremes() {
        assert!((median(vec![9.0, 1.0, 5.0]) - 5.0).abs() < f64::EPSILON);
        assert!((median(vec![4.0, 1.0]) - 2.5).abs() < f64::EPSILON);
        let sample = |tps, aborts| Sample {
            tps,
            latency_us: [1000, 2000, 3000],
            cpu_us: [Some(10.0), None, Some(tps)],
            aborts,
            batch_mean: None,
        };
        let samples = [sample(100.0, 1), sample(300.0, 2), sample(200.0, 4)];
        let row = Row::of(Kind::Naive, 8, None, &samples);
        let found = serde_json::to_value(&row).unwrap();
        let wanted = serde_json::json!({
            "variant": "2pc-naive", "scenario": "uniform", "clients": 8,
            "tps_median": 200.0, "tps_min": 100.0, "tps_max": 300.0,
            "p50_ms": 1.0, "p95_ms": 2.0, "p99_ms": 3.0,
            "cpu_us_client": 10.0, "cpu_us_gavel": null, "cpu_us_postgres": 200.0,
            "aborts": 7, "batch_mean": null, "layout": null,
        });
        assert_eq!(found, wanted);
    }
}
