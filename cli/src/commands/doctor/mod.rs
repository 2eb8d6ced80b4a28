//! `gavel doctor`: what is wrong, or soon will be, with the reason and the fix.
//!
//! Asks databases, files and coordinators at once, and changes nothing. What is looked at and what
//! is made of it are apart: the first asks, the second is pure and says from which value on
//! something is a finding.
//!
//! Failure model: what cannot be asked is a finding itself, and hides nobody else's.

mod certificates;
mod database;
mod finding;
mod judge;
mod services;
mod shard;

use futures::future::join_all;
use serde_json::json;

use self::finding::{Finding, Severity};
use crate::args::ClientArgs;
use crate::config::Config;
use crate::exit::Exit;
use crate::output::Output;

/// Prints all findings, the worst first. Ends with 1 if any is critical.
pub(crate) async fn run(
    config: &Config,
    client: &ClientArgs,
    output: Output,
) -> anyhow::Result<Exit> {
    let shards = join_all(config.shard.iter().map(|shard| shard::look(config, shard)));
    let (shards, mut findings) = futures::join!(shards, services::look(config, client));
    findings.extend(shards.into_iter().flatten());
    findings.extend(certificates::look(config));
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    let is_critical = findings.first().map(|worst| worst.severity) == Some(Severity::Critical);
    let documents: Vec<_> = findings.iter().map(Finding::to_json).collect();
    output.result(
        text(config, &findings),
        &json!({"healthy": !is_critical, "findings": documents}),
    );
    Ok(if is_critical { Exit::Failure } else { Exit::Ok })
}

fn text(config: &Config, findings: &[Finding]) -> String {
    let mut lines: Vec<String> = findings.iter().map(ToString::to_string).collect();
    let count = |severity| {
        let of = findings.iter().filter(|one| one.severity == severity);
        of.count()
    };
    let [critical, warnings, notes] =
        [Severity::Critical, Severity::Warning, Severity::Note].map(count);
    let shards = config.shard.len();
    lines.push(match findings {
        [] => format!("{shards} shards, the services and their certificates: nothing to mend"),
        _ => format!("{critical} critical, {warnings} warnings, {notes} notes"),
    });
    lines.join("\n\n")
}
