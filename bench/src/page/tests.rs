//! The page and the numbers in it, from given rows.

use std::collections::BTreeMap;

use super::*;
use crate::machine::Machine;
use crate::report::Measured;
use crate::variants::Kind;

fn row(scenario: Scenario, variant: Kind, clients: usize, tps: f64) -> Row {
    Row {
        variant,
        scenario,
        clients,
        tps_median: tps,
        tps_min: tps * 0.9,
        tps_max: tps * 1.1,
        p50_ms: 1.5,
        p95_ms: 2.5,
        p99_ms: 4.5,
        cpu_us_client: Some(10.0),
        cpu_us_gavel: None,
        cpu_us_postgres: Some(100.0),
        aborts: 3,
        batch_mean: None,
        failures: 0,
        late: u64::from(scenario == Scenario::Memory),
        offered_tps: (scenario == Scenario::Latency).then_some(tps),
        rows_per_transfer: 0.0,
        layout: None,
        cpu_us_by_process: BTreeMap::from([("client".to_owned(), 10.0)]),
        peak_rss_mib: BTreeMap::from([("coordinator".to_owned(), 321.4)]),
    }
}

/// Some machine that was not busy.
pub fn machine() -> Machine {
    Machine {
        cores: 2,
        memory_gib: Some(8.0),
        cpu_model: None,
        kernel: "linux".to_owned(),
        postgres: "15".to_owned(),
        fdatasync_us: [100, 200],
        busy_before: Some(0.1),
        settings: vec![("fsync".to_owned(), "on".to_owned())],
    }
}

fn report(rows: Vec<Row>) -> Report {
    Report {
        machine: machine(),
        measured: Measured {
            ack: "applied".to_owned(),
            repetitions: 3,
            seconds: 5.0,
            warm_up_seconds: 1.0,
            accounts_per_shard: 10,
            gavel_limits: "in_flight_max = 1".to_owned(),
        },
        rows,
    }
}

#[test]
fn a_page_shows_ratios_targets_and_plots() {
    let rows = vec![
        row(Scenario::Uniform, Kind::LocalNaive, 32, 300.0),
        row(Scenario::Uniform, Kind::Best, 1, 100.0),
        row(Scenario::Uniform, Kind::Best, 32, 200.0),
        row(Scenario::Uniform, Kind::Embedded, 1, 31.0),
        row(Scenario::Uniform, Kind::Fleet, 32, 400.0),
        row(Scenario::Latency, Kind::Fleet, 0, 200.0),
        row(Scenario::GuardFailures, Kind::Fleet, 32, 300.0),
        row(Scenario::Memory, Kind::Fleet, 10_000, 500.0),
    ];
    let page = Page::of(&report(rows)).unwrap();
    let text = page.text();
    for wanted in [
        "| `gavel-embedded` in `uniform`, 1 clients | 1 × `2pc-best` | not reached: 0.31 |",
        "| `gavel-fleet` in `uniform`, 32 clients | 2 × `2pc-best` | reached: 2.00 |",
        "| `gavel-fleet` in `uniform`, 32 clients | 1 × `local-naive` | reached: 1.33 |",
        "| 0.7 × `gavel-fleet` in `uniform` | reached: 0.75 |",
        "| 32 | gavel-fleet | 400 | 360 to 440 | 1.50 | 2.50 | 4.50 | 10 | – | 100 | 3 | 0 | – | 2.00 |",
        "| gavel-fleet | 200 | 200 | 1.50 | 2.50 | 4.50 | 3 |",
        "| coordinator 321 |",
        "- `gavel-fleet` at 10000 clients: 1 answers came before all shards showed the transfer",
        "![Transfers per second by clients](benchmarks-rate.svg)",
    ] {
        assert!(text.contains(wanted), "{wanted}\n\n{text}");
    }
    assert!(
        !page.text().contains("## hot"),
        "what was not measured is not there"
    );
    assert!(!page.text().contains("Something else was at work"));
    assert_eq!(page.plots.len(), 3);
    for (name, svg) in &page.plots {
        assert!(
            svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"),
            "{name}"
        );
        assert!(
            svg.contains("gavel-fleet") && svg.contains("<text"),
            "{name}: {svg}"
        );
    }
}

#[test]
fn json_is_read_as_it_was_written() {
    let written = report(vec![row(Scenario::SlowFlush, Kind::Serve, 8, 10.0)]);
    let text = serde_json::to_string(&written).unwrap();
    assert!(
        text.contains(r#""variant":"gavel-serve","scenario":"slow-flush""#),
        "{text}"
    );
    let read: Report = serde_json::from_str(&text).unwrap();
    assert_eq!(serde_json::to_string(&read).unwrap(), text);
}

#[test]
fn every_target_is_measured_by_default() {
    for target in targets::all() {
        for rate in [target.of, target.to] {
            assert!(rate.scenario.variants().contains(&rate.variant), "{rate:?}");
            assert!(rate.scenario.clients().contains(&rate.clients), "{rate:?}");
        }
    }
}

#[test]
fn a_busy_machine_is_told() {
    let mut busy = report(Vec::new());
    busy.machine.busy_before = Some(1.5);
    let page = Page::of(&busy).unwrap();
    assert!(page.text().contains("Something else was at work"));
}

#[test]
fn the_readme_gets_rates_ratios_and_the_machine() {
    let report = report(vec![
        row(Scenario::Uniform, Kind::Best, 32, 200.0),
        row(Scenario::Uniform, Kind::Embedded, 32, 700.0),
        row(Scenario::Hot, Kind::Fleet, 32, 900.0),
    ]);
    let readme = "before\n<!-- measured: written by `make bench` -->\nold\n\
                  <!-- end of what was measured -->\nafter\n";
    let text = headline::put_into(readme, &report).expect("there is a place");
    assert!(
        text.contains("| 32 | 200 | 700 (3.5 ×) | – | – |"),
        "{text}"
    );
    assert!(
        text.contains("2 cores") && text.contains("3 runs of 5 s"),
        "{text}"
    );
    assert!(
        text.starts_with("before\n") && text.ends_with("-->\nafter\n"),
        "{text}"
    );
    assert!(!text.contains("old"), "{text}");
    assert_eq!(headline::put_into(&text, &report), Some(text));
    assert_eq!(headline::put_into("no place\n", &report), None);
}

/// What the README and the page show is what was measured last.
#[test]
fn readme_and_page_show_the_same_run() {
    let read = |path: &str| {
        let path = format!("{}/../{path}", env!("CARGO_MANIFEST_DIR"));
        std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
    };
    let report: Report = serde_json::from_str(&read("docs/benchmarks.json")).expect("a report");
    let readme = read("README.md");
    assert_eq!(headline::put_into(&readme, &report).as_ref(), Some(&readme));
    let page = Page::of(&report).expect("a page").text();
    assert!(
        read("docs/benchmarks.md").starts_with(&page),
        "docs/benchmarks.md was not made of docs/benchmarks.json: run `make bench`"
    );
}
