//! Rows, and the files made of them.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::machine::Machine;
use crate::measure::{Case, Party, Plan, Sample};
use crate::page;
use crate::scenario::Scenario;
use crate::variants::{Kind, LIMITS, Layout};
use crate::world::World;

/// Everything that goes into `benchmarks.json`: always one run.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Report {
    /// Where.
    pub machine: Machine,
    /// How.
    pub measured: Measured,
    /// What came out.
    pub rows: Vec<Row>,
}

/// How it was measured.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Measured {
    /// When a client hears of the end.
    pub ack: String,
    /// Runs per row.
    pub repetitions: usize,
    /// Seconds of each.
    pub seconds: f64,
    /// Seconds before, not counted.
    pub warm_up_seconds: f64,
    /// Accounts on each shard.
    pub accounts_per_shard: i64,
    /// Gavel's limits that differ from the defaults.
    pub gavel_limits: String,
}

/// One variant in one scenario at one number of clients: medians over the repetitions.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Row {
    /// The variant.
    pub variant: Kind,
    /// What clients did.
    pub scenario: Scenario,
    /// Clients in a closed loop; 0 in an open one.
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
    /// Healthy transfers that came to nothing, in all repetitions.
    pub aborts: u64,
    /// Transactions per batch.
    pub batch_mean: Option<f64>,
    /// Transfers that were meant to fail and did, in all repetitions.
    #[serde(default)]
    pub failures: u64,
    /// Transfers whose clients were told of the commit before all shards showed it, warm-up
    /// included; they count in no rate.
    #[serde(default)]
    pub late: u64,
    /// Arrivals per second in an open loop.
    #[serde(default)]
    pub offered_tps: Option<f64>,
    /// Rows that a transfer returned to its client.
    #[serde(default)]
    pub rows_per_transfer: f64,
    /// Layout of the connections, for the hand-written pipelined variants.
    pub layout: Option<Layout>,
    /// CPU time per transfer by process, in microseconds.
    #[serde(default)]
    pub cpu_us_by_process: BTreeMap<String, f64>,
    /// The highest peak of resident memory by process, in MiB.
    #[serde(default)]
    pub peak_rss_mib: BTreeMap<String, f64>,
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
            gavel_limits: LIMITS.trim().replace('\n', ", "),
        }
    }
}

impl Row {
    /// Medians of at least one sample.
    pub fn of(case: &Case, samples: &[Sample]) -> Self {
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
        let highest = |values: Vec<f64>| values.into_iter().fold(0.0, f64::max);
        Self {
            variant: case.kind,
            scenario: case.scenario,
            clients: case.clients,
            tps_min: rounded(tps.iter().copied().fold(f64::INFINITY, f64::min), 1),
            tps_max: rounded(tps.iter().copied().fold(0.0, f64::max), 1),
            tps_median: rounded(median(tps), 1),
            p50_ms: latency(0),
            p95_ms: latency(1),
            p99_ms: latency(2),
            cpu_us_client: option(&|sample| sample.cpu_of(Party::Client)),
            cpu_us_gavel: option(&|sample| sample.cpu_of(Party::Gavel)),
            cpu_us_postgres: option(&|sample| sample.cpu_of(Party::Postgres)),
            aborts: samples.iter().map(|sample| sample.aborts).sum(),
            batch_mean: option(&|sample| sample.batch_mean),
            failures: samples.iter().map(|sample| sample.failures).sum(),
            late: samples.iter().map(|sample| sample.late).sum(),
            offered_tps: option(&|sample| sample.offered_tps),
            rows_per_transfer: rounded(median(each(&Sample::rows_per_transfer)), 1),
            layout: case.kind.has_layouts().then_some(case.layout),
            cpu_us_by_process: by_process(samples, |sample| &sample.cpu_us, median),
            peak_rss_mib: by_process(samples, |sample| &sample.peak_mib, highest),
        }
    }
}

fn by_process(
    samples: &[Sample],
    values: impl Fn(&Sample) -> &Vec<(String, Option<f64>)>,
    summary: impl Fn(Vec<f64>) -> f64,
) -> BTreeMap<String, f64> {
    let mut all = BTreeMap::<String, Vec<f64>>::new();
    for (name, value) in samples.iter().flat_map(values) {
        all.entry(name.clone()).or_default().extend(value);
    }
    all.into_iter()
        .filter(|(_, values)| !values.is_empty())
        .map(|(name, values)| (name, rounded(summary(values), 1)))
        .collect()
}

impl Report {
    /// Writes `benchmarks.json`, `benchmarks.md` and its plots into `folder`.
    pub fn write(&self, folder: &Path) -> anyhow::Result<()> {
        fs::create_dir_all(folder)?;
        let json = serde_json::to_string_pretty(self)? + "\n";
        fs::write(folder.join("benchmarks.json"), json)?;
        let page = page::Page::of(self)?;
        let mut text = page.text();
        if folder.join(page::steady::PAGE).exists() {
            text.push_str(page::steady::LINK);
        }
        fs::write(folder.join("benchmarks.md"), text)?;
        for (name, svg) in page.plots {
            fs::write(folder.join(name), svg)?;
        }
        self.write_headline(&folder.join("../README.md"))
    }

    /// Puts the headline numbers where the README has a place for them, if there is one.
    fn write_headline(&self, readme: &Path) -> anyhow::Result<()> {
        let Ok(text) = fs::read_to_string(readme) else {
            return Ok(());
        };
        match page::headline::put_into(&text, self) {
            Some(text) => Ok(fs::write(readme, text)?),
            None => Ok(()),
        }
    }
}

/// The middle of the values; 0 if there are none.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => 0.0,
        length if length % 2 == 1 => values[middle],
        _ => f64::midpoint(values[middle - 1], values[middle]),
    }
}

/// To so many digits behind the point.
pub fn rounded(value: f64, digits: i32) -> f64 {
    let factor = 10_f64.powi(digits);
    (value * factor).round() / factor
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(tps: f64, aborts: u64) -> Sample {
        let cpu = [
            ("client", 10.0),
            ("coordinator", 2.0),
            ("postgres one", tps),
        ];
        Sample {
            tps,
            offered_tps: None,
            latency_us: [1000, 2000, 3000],
            cpu_us: cpu
                .map(|(name, time)| (name.to_owned(), Some(time)))
                .to_vec(),
            peak_mib: vec![("client".to_owned(), Some(tps))],
            aborts,
            failures: 1,
            late: 2,
            rows: 0,
            committed: 1,
            batch_mean: None,
        }
    }

    #[test]
    fn medians_and_extremes() {
        assert!((median(vec![9.0, 1.0, 5.0]) - 5.0).abs() < f64::EPSILON);
        assert!((median(vec![4.0, 1.0]) - 2.5).abs() < f64::EPSILON);
        let samples = [sample(100.0, 1), sample(300.0, 2), sample(200.0, 4)];
        let case = Case {
            scenario: Scenario::SlowFlush,
            kind: Kind::Fleet,
            clients: 8,
            rate: None,
            layout: Layout {
                connections: 4,
                group: 1,
                sessions: 0,
            },
        };
        let found = serde_json::to_value(Row::of(&case, &samples)).unwrap();
        let wanted = serde_json::json!({
            "variant": "gavel-fleet", "scenario": "slow-flush", "clients": 8,
            "tps_median": 200.0, "tps_min": 100.0, "tps_max": 300.0,
            "p50_ms": 1.0, "p95_ms": 2.0, "p99_ms": 3.0,
            "cpu_us_client": 10.0, "cpu_us_gavel": 2.0, "cpu_us_postgres": 200.0,
            "aborts": 7, "batch_mean": null, "failures": 3, "late": 6, "offered_tps": null,
            "rows_per_transfer": 0.0,
            "layout": null,
            "cpu_us_by_process": {"client": 10.0, "coordinator": 2.0, "postgres one": 200.0},
            "peak_rss_mib": {"client": 300.0},
        });
        assert_eq!(found, wanted);
    }
}
