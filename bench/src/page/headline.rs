//! The numbers that the README shows: the rates of `uniform`, made of the same rows as the page.

use std::fmt::Write as _;

use crate::machine::Machine;
use crate::report::{Report, Row};
use crate::scenario::Scenario;
use crate::variants::Kind;

/// The line before the numbers in the README.
const BEGIN: &str = "<!-- measured: written by `make bench` -->\n";
/// The line behind them.
const END: &str = "<!-- end of what was measured -->\n";

/// Against whom, and then who.
const SHOWN: [Kind; 4] = [Kind::Best, Kind::Embedded, Kind::Fleet, Kind::LocalNaive];

/// Transfers per second by clients, with the machine beside them.
pub fn table(report: &Report) -> String {
    let mut text = String::from("| clients |");
    for kind in SHOWN {
        let _ = write!(text, " `{kind}` |");
    }
    text.push_str("\n|--:|");
    text.push_str(&"--:|".repeat(SHOWN.len()));
    text.push('\n');
    for clients in Scenario::Uniform.clients() {
        let rate = |kind| rate(&report.rows, kind, *clients);
        let _ = write!(text, "| {clients} |");
        for kind in SHOWN {
            let _ = write!(text, " {} |", cell(kind, rate(kind), rate(Kind::Best)));
        }
        text.push('\n');
    }
    let _ = write!(text, "\n{}\n", circumstances(report));
    text
}

/// A README with the numbers of this report; `None` if it has no place for them.
pub fn put_into(readme: &str, report: &Report) -> Option<String> {
    let begin = readme.find(BEGIN)? + BEGIN.len();
    let end = begin + readme[begin..].find(END)?;
    Some([&readme[..begin], &table(report), &readme[end..]].concat())
}

fn rate(rows: &[Row], kind: Kind, clients: usize) -> Option<f64> {
    let row = rows.iter().find(|row| {
        row.scenario == Scenario::Uniform && row.variant == kind && row.clients == clients
    })?;
    Some(row.tps_median)
}

fn cell(kind: Kind, rate: Option<f64>, best: Option<f64>) -> String {
    match (rate, best) {
        (None, _) => "–".to_owned(),
        (Some(rate), Some(best)) if kind != Kind::Best && best > 0.0 => {
            format!("{rate:.0} ({:.1} ×)", rate / best)
        }
        (Some(rate), _) => format!("{rate:.0}"),
    }
}

fn circumstances(report: &Report) -> String {
    let Machine {
        cores,
        cpu_model,
        postgres,
        fdatasync_us: [flush, _],
        ..
    } = &report.machine;
    let model = cpu_model.as_deref().unwrap_or("unknown model");
    format!(
        "Medians of {} runs of {} s. Everything on one machine with {cores} cores ({model}); PostgreSQL {postgres}, \
         a server per shard; 8 KiB are durable in {flush} µs (median).",
        report.measured.repetitions, report.measured.seconds,
    )
}
