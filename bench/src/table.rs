//! Tables for people: on the terminal, and as the page `benchmarks.md`.

use std::fmt::Write as _;

use crate::machine::Machine;
use crate::report::{Report, Row};
use crate::variants::Kind;

const HEAD: &str = "\
| clients | variant | transfers/s | min to max | p50 ms | p95 ms | p99 ms | CPU client µs \
| CPU gavel µs | CPU postgres µs | aborts | batch | × 2pc-best |
|--:|:--|--:|:-:|--:|--:|--:|--:|--:|--:|--:|--:|--:|
";

/// All rows, as one table.
pub fn results(rows: &[Row]) -> String {
    let mut text = String::from(HEAD);
    for row in rows {
        let _ = writeln!(
            text,
            "| {} | {} | {:.0} | {:.0} to {:.0} | {:.2} | {:.2} | {:.2} | {} | {} | {} | {} | {} | {} |",
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
            number(row.batch_mean, 1),
            number(ratio(row, rows), 2),
        );
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
         - PostgreSQL {}, two servers\n\
         - write of 8 KiB and fdatasync: median {} µs, 99 % within {} µs\n\
         - load before the measurement: {}\n\
         - {}",
        machine.cores,
        machine.cpu_model.clone().unwrap_or_else(unknown),
        number(machine.memory_gib, 1),
        machine.kernel,
        machine.postgres,
        machine.fdatasync_us[0],
        machine.fdatasync_us[1],
        number(machine.load_before, 2),
        settings.join(", "),
    )
}

/// The page.
pub fn page(report: &Report) -> String {
    let measured = &report.measured;
    let busy = match report.machine.load_before {
        Some(load) if load > 1.0 => {
            "**Something else was at work on this machine before the measurement began: take these \
             numbers as a sketch, and repeat the run.**\n\n"
        }
        _ => "",
    };
    format!(
        "{INTRODUCTION}\n{busy}{}\n{}\n## How it was measured\n\n\
         Two shards with {} accounts each; ack mode `{}`. {} repetitions of {} s after {} s of \
         warm-up, interleaved over the variants; the table shows medians, and the slowest and the \
         fastest repetition. {REPEAT}\n## The machine\n\n{}\n\n{CAVEATS}",
        results(&report.rows),
        layouts(&report.rows),
        measured.accounts_per_shard,
        measured.ack,
        measured.repetitions,
        measured.seconds,
        measured.warm_up_seconds,
        machine(&report.machine),
    )
}

const INTRODUCTION: &str = "\
# Benchmarks

This page is written by `make bench`, with `benchmarks.json` beside it; changes by hand are lost.

Clients in a closed loop move money between random accounts on two shards. A transfer updates one
balance on each shard, which must exist, and inserts a mark on each. All variants run the same
statements against the same servers, one after the other in the same run, and a client sends its
next transfer when both shards show the last one (ack mode `applied`).

| variant | what it is | survives the death of its client |
|:--|:--|:--|
| `2pc-naive` | hand-written: a connection per client and shard, one statement after the other | no |
| `2pc-best` | hand-written: work and PREPARE in one pipeline, both shards at once, few connections shared by all clients | no |
| `gavel-embedded` | coordinator and participants inside the client's process | yes |
| `gavel-fleet` | client, coordinator and two participants, each a process of its own, gRPC between them | yes |

The two hand-written ones keep no log: when their process dies between PREPARE and COMMIT PREPARED,
what is left cannot be resolved. They also keep no record of outcomes, so a lost answer cannot be
asked for again. They are yardsticks for the price of getting this right, not alternatives.

## Results
";

const REPEAT: &str = "Repeat it with

    make bench          # about eight minutes after the build; writes this page
    make bench-quick    # about two minutes; writes nothing

After every run the servers are asked by SQL: nothing may be prepared, no money made or lost,
every balance must equal its marks, both shards must have the same marks, and exactly as many as
clients were told of commits. A run that fails this fails the whole measurement.
";

const CAVEATS: &str = "\
## How to read it

- *CPU* is CPU time per committed transfer, from `/proc`. For `gavel-embedded`, client and Gavel are
  one process, and their time stands under the client.
- *batch* is the mean number of transactions that went through one two-phase commit together.
  Transactions wait for company only while another batch is under way; a single client never
  waits, and never has company.
- *aborts* are transfers that ended without effect: lock waits of more than a second, such as
  deadlocks across shards. Clients go on with the next transfer.
- Clients, servers and Gavel share the cores of one machine, so a variant that burns more CPU leaves
  less for PostgreSQL. On separate machines throughput moves, and network round trips add to
  latency: compare ratios, not absolute numbers.
- With one client the price of recoverability shows best: Gavel writes a decision, an outcome and a
  branch row that the hand-written variants do not write, though it needs fewer flushes.
- Random accounts hardly ever collide. Hot rows, unequal shards, more than two shards, replication
  and network latency are not measured here.
- The layout of `2pc-best` is searched at every number of clients, in short runs before the measured
  ones, among 4, 8, 16 and 32 connections per shard and groups of 1 and 8 transactions per exchange.
- The other products that offer atomic writes over several PostgreSQL servers are not compared here.
";

fn layouts(rows: &[Row]) -> String {
    let mut text = String::new();
    for row in rows {
        if let Some(layout) = row.layout {
            let _ = writeln!(
                text,
                "- `2pc-best` at {} clients: {} connections per shard, up to {} per exchange",
                row.clients, layout.connections, layout.group
            );
        }
    }
    text
}

fn gavel_cpu(row: &Row) -> String {
    match row.variant {
        Kind::Embedded => "(client)".to_owned(),
        Kind::Naive | Kind::Best | Kind::Fleet => number(row.cpu_us_gavel, 0),
    }
}

fn ratio(row: &Row, rows: &[Row]) -> Option<f64> {
    let best = rows
        .iter()
        .find(|other| other.variant == Kind::Best && other.clients == row.clients)?;
    (best.tps_median > 0.0).then(|| row.tps_median / best.tps_median)
}

fn number(value: Option<f64>, digits: usize) -> String {
    value.map_or_else(|| "–".to_owned(), |value| format!("{value:.digits$}"))
}
