//! Tables.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use crate::machine::Machine;
use crate::report::Row;
use crate::variants::Kind;

const HEAD: &str = "\
| clients | variant | transfers/s | min to max | p50 ms | p95 ms | p99 ms | CPU client µs \
| CPU gavel µs | CPU postgres µs | aborts | failures | batch | × 2pc-best |
|--:|:--|--:|:-:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|
";

/// The rows of one scenario.
pub fn results(rows: &[&Row]) -> String {
    let mut text = String::from(HEAD);
    for row in rows {
        let _ = writeln!(
            text,
            "| {} | {} | {:.0} | {:.0} to {:.0} | {:.2} | {:.2} | {:.2} | {} | {} | {} | {} | {} | {} | {} |",
            row.clients,
            row.variant,
            row.tps_median,
            row.tps_min,
            row.tps_max,
            row.p50_ms,
            row.p95_ms,
            row.p99_ms,
            number(row.cpu_us_client, 0),
            gavel_cpu(row),
            number(row.cpu_us_postgres, 0),
            row.aborts,
            row.failures,
            number(row.batch_mean, 1),
            number(ratio(row, rows), 2),
        );
    }
    text
}

/// The rows of the open loop.
pub fn latency(rows: &[&Row]) -> String {
    let mut text = String::from(
        "| variant | arrivals/s | transfers/s | p50 ms | p95 ms | p99 ms | aborts |\n\
         |:--|--:|--:|--:|--:|--:|--:|\n",
    );
    for row in rows {
        let _ = writeln!(
            text,
            "| {} | {} | {:.0} | {:.2} | {:.2} | {:.2} | {} |",
            row.variant,
            number(row.offered_tps, 0),
            row.tps_median,
            row.p50_ms,
            row.p95_ms,
            row.p99_ms,
            row.aborts
        );
    }
    text
}

/// Peaks of resident memory.
pub fn memory(rows: &[&Row]) -> String {
    let mut text = String::from(
        "| variant | clients | transfers/s | p99 ms | aborts | peak of resident memory, MiB |\n\
         |:--|--:|--:|--:|--:|:--|\n",
    );
    for row in rows {
        let peaks = row.peak_rss_mib.iter();
        let peaks: Vec<String> = peaks
            .map(|(name, mib)| format!("{name} {mib:.0}"))
            .collect();
        let _ = writeln!(
            text,
            "| {} | {} | {:.0} | {:.0} | {} | {} |",
            row.variant,
            row.clients,
            row.tps_median,
            row.p99_ms,
            row.aborts,
            peaks.join(", ")
        );
    }
    text
}

/// CPU time per transfer of each process.
pub fn cpu_by_process(rows: &[&Row]) -> String {
    let names: BTreeSet<&String> = rows
        .iter()
        .flat_map(|row| row.cpu_us_by_process.keys())
        .collect();
    if names.is_empty() {
        return String::new();
    }
    let mut text =
        String::from("\nCPU time per transfer by process, in µs:\n\n| clients | variant |");
    let mut line = String::from("|--:|:--|");
    for name in &names {
        let _ = write!(text, " {name} |");
        line.push_str("--:|");
    }
    let _ = write!(text, "\n{line}\n");
    for row in rows {
        let _ = write!(text, "| {} | {} |", row.clients, row.variant);
        for name in &names {
            let time = row.cpu_us_by_process.get(*name).copied();
            let _ = write!(text, " {} |", number(time, 0));
        }
        text.push('\n');
    }
    text
}

/// Which layouts of connections won, and what was late.
pub fn notes(rows: &[&Row]) -> String {
    let mut text = String::new();
    for row in rows {
        if row.late > 0 {
            let _ = writeln!(
                text,
                "- `{}` at {} clients: {} answers came before all shards showed the transfer",
                row.variant, row.clients, row.late
            );
        }
        let Some(layout) = row.layout else { continue };
        let mut parts = Vec::new();
        if layout.connections > 0 {
            parts.push(format!(
                "{} connections per shard, up to {} per exchange",
                layout.connections, layout.group
            ));
        }
        if layout.sessions > 0 {
            let sessions = layout.sessions;
            parts.push(format!("{sessions} sessions for interactive transactions"));
        }
        let _ = writeln!(
            text,
            "- `{}` at {} clients: {}",
            row.variant,
            row.clients,
            parts.join(", ")
        );
    }
    if !text.is_empty() {
        text.insert(0, '\n');
    }
    text
}

/// The machine, as a list.
pub fn machine(machine: &Machine) -> String {
    let unknown = || "unknown".to_owned();
    let settings: Vec<String> = machine
        .settings
        .iter()
        .map(|(name, value)| format!("`{name} = {value}`"))
        .collect();
    format!(
        "- {} cores ({}), {} GiB of memory, {}; everything on this one machine\n\
         - PostgreSQL {}, a server per shard\n\
         - write of 8 KiB and fdatasync: median {} µs, 99 % within {} µs\n\
         - cores that others kept busy right before the measurement: {}\n\
         - {}",
        machine.cores,
        machine.cpu_model.clone().unwrap_or_else(unknown),
        number(machine.memory_gib, 1),
        machine.kernel,
        machine.postgres,
        machine.fdatasync_us[0],
        machine.fdatasync_us[1],
        number(machine.busy_before, 2),
        settings.join(", "),
    )
}

fn gavel_cpu(row: &Row) -> String {
    match row.variant {
        Kind::Embedded => "(client)".to_owned(),
        _ => number(row.cpu_us_gavel, 0),
    }
}

fn ratio(row: &Row, rows: &[&Row]) -> Option<f64> {
    let best = rows
        .iter()
        .find(|other| other.variant == Kind::Best && other.clients == row.clients)?;
    (best.tps_median > 0.0).then(|| row.tps_median / best.tps_median)
}

fn number(value: Option<f64>, digits: usize) -> String {
    value.map_or_else(|| "–".to_owned(), |value| format!("{value:.digits$}"))
}
