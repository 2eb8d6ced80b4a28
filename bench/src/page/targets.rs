//! What Gavel aims at, and whether these rows reach it.
//!
//! Every target compares two rates of the same run, so that it means the same on every machine.

use std::fmt::Write as _;

use crate::report::Row;
use crate::scenario::Scenario;
use crate::variants::Kind;

/// One rate, over another.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Target {
    /// Whose rate.
    pub of: Rate,
    /// Compared with.
    pub to: Rate,
    /// At least this often.
    pub at_least: f64,
}

/// A rate in the rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// What clients do.
    pub scenario: Scenario,
    /// How.
    pub variant: Kind,
    /// How many they are.
    pub clients: usize,
}

const CLIENTS: [usize; 5] = [1, 8, 32, 128, 1024];
const EMBEDDED: [f64; 5] = [1.0, 1.3, 3.0, 8.0, 10.0];
const FLEET: [f64; 5] = [0.6, 1.0, 2.0, 3.5, 5.0];

/// All of them.
pub fn all() -> Vec<Target> {
    let rate = |scenario, variant, clients| Rate {
        scenario,
        variant,
        clients,
    };
    let mut targets = Vec::new();
    let mut add = |of, to, at_least| targets.push(Target { of, to, at_least });
    for (variant, factors) in [(Kind::Embedded, EMBEDDED), (Kind::Fleet, FLEET)] {
        for (clients, factor) in CLIENTS.into_iter().zip(factors) {
            let of = rate(Scenario::Uniform, variant, clients);
            add(of, rate(Scenario::Uniform, Kind::Best, clients), factor);
        }
    }
    for clients in [32, 128, 1024] {
        let of = rate(Scenario::Uniform, Kind::Fleet, clients);
        add(of, rate(Scenario::Uniform, Kind::LocalNaive, clients), 1.0);
    }
    for variant in [Kind::Embedded, Kind::Fleet] {
        let of = rate(Scenario::Hot, variant, 128);
        add(of, rate(Scenario::Hot, Kind::Best, 128), 20.0);
    }
    for variant in [Kind::Embedded, Kind::Fleet] {
        for clients in [32, 128] {
            let of = rate(Scenario::GuardFailures, variant, clients);
            add(of, rate(Scenario::Uniform, variant, clients), 0.7);
        }
    }
    let of = rate(Scenario::Interactive, Kind::Fleet, 32);
    add(of, rate(Scenario::Interactive, Kind::Best, 32), 0.9);
    targets
}

impl Target {
    /// What the rows say; `None` if they do not say.
    pub fn ratio(&self, rows: &[Row]) -> Option<f64> {
        let to = self.to.find(rows)?;
        (to > 0.0).then_some(self.of.find(rows)? / to)
    }
}

impl Rate {
    fn find(&self, rows: &[Row]) -> Option<f64> {
        let row = rows.iter().find(|row| {
            row.scenario == self.scenario
                && row.variant == self.variant
                && row.clients == self.clients
        })?;
        Some(row.tps_median)
    }
}

/// The targets as a table, those that were not measured left out.
pub fn section(rows: &[Row]) -> String {
    let mut table = String::new();
    for target in all() {
        let Some(ratio) = target.ratio(rows) else {
            continue;
        };
        let verdict = if ratio >= target.at_least {
            format!("reached: {ratio:.2}")
        } else {
            format!("not reached: {ratio:.2}")
        };
        let Target { of, to, at_least } = target;
        let _ = writeln!(
            table,
            "| `{}` in `{}`, {} clients | {at_least} × `{}`{} | {verdict} |",
            of.variant,
            of.scenario,
            of.clients,
            to.variant,
            if to.scenario == of.scenario {
                String::new()
            } else {
                format!(" in `{}`", to.scenario)
            },
        );
    }
    if table.is_empty() {
        return table;
    }
    format!(
        "## Targets\n\nRates that Gavel aims at, as multiples of others in the same run. What stands in the way of those that \
         are not reached, and what was tried: [performance](performance.md).\n\n\
         | what | at least | |\n|:--|:--|:--|\n{table}\n"
    )
}
