//! What became of a run.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::arena::COORDINATORS;
use crate::history::{Event, Told};
use crate::monitor::Sample;
use crate::nemesis::Blow;
use crate::proxy::Step;
use crate::pulse::Kept;
use crate::verdict::Verdict;

/// What became of one round.
#[derive(Debug, Clone, Serialize)]
pub struct Round {
    /// How many members the batches of each coordinator might have.
    pub batch_members: [usize; COORDINATORS],
    /// How many the largest batch had.
    pub largest_batch: u64,
    /// How long there were faults.
    pub seconds: f64,
    /// Every blow.
    pub blows: Vec<Blow>,
    /// How often transactions passed each step.
    pub steps: BTreeMap<String, u64>,
    /// What was seen over time.
    pub samples: Vec<Sample>,
    /// Latencies of commits, by second.
    pub latencies: Vec<Latency>,
    /// How those fared whom faults do not touch; `None` if each fault touches everybody.
    pub kept: Option<Kept>,
    /// One per invariant.
    pub verdicts: Vec<Verdict>,
}

/// How long commits took, in one second of the run.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Latency {
    /// Which second, since the history began.
    pub second: u64,
    /// How many.
    pub commits: u64,
    /// Half of them were faster, in milliseconds.
    pub p50_ms: f64,
    /// 99 of 100 were faster.
    pub p99_ms: f64,
}

/// What became of a run.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// Names of the faults.
    pub nemeses: Vec<&'static str>,
    /// Faults that cannot be made on this machine, and why.
    pub skipped: Vec<(&'static str, String)>,
    /// The rounds.
    pub rounds: Vec<Round>,
}

/// The result of a run, in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Conclusion {
    /// Every fault struck, and every invariant holds.
    Held,
    /// An invariant is broken.
    Violated,
    /// Nothing is broken, but some fault never struck, or some invariant was not compared: it
    /// proves nothing.
    NotRun,
}

impl Report {
    /// What the run has shown.
    #[must_use]
    pub fn conclusion(&self) -> Conclusion {
        let mut verdicts = self.rounds.iter().flat_map(|round| &round.verdicts);
        if verdicts
            .clone()
            .any(|verdict| !verdict.violations.is_empty())
        {
            return Conclusion::Violated;
        }
        let all_compared = verdicts.all(Verdict::holds);
        let is_something = !self.rounds.is_empty() && !self.nemeses.is_empty();
        if all_compared && self.missed().is_empty() && is_something {
            Conclusion::Held
        } else {
            Conclusion::NotRun
        }
    }

    /// The nemeses that never struck.
    #[must_use]
    pub fn missed(&self) -> Vec<&'static str> {
        let struck = |name: &&&str| self.hits().keys().any(|(nemesis, _)| nemesis == *name);
        self.nemeses
            .iter()
            .filter(|name| !struck(name))
            .copied()
            .collect()
    }

    /// How often each nemesis struck at each step.
    #[must_use]
    pub fn hits(&self) -> BTreeMap<(&'static str, Step), u64> {
        let mut hits = BTreeMap::new();
        let blows = self.rounds.iter().flat_map(|round| &round.blows);
        for blow in blows.filter(|blow| blow.hit) {
            *hits.entry((blow.nemesis, blow.step)).or_default() += 1;
        }
        hits
    }
}

/// Latencies of commits by the second in which they ended.
pub(super) fn latencies(events: &[Event]) -> Vec<Latency> {
    let mut open = BTreeMap::new();
    let mut seconds: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
    for event in events {
        match &event.told {
            None => drop(open.insert(event.process, event.time)),
            Some(told) => {
                let began = open.remove(&event.process);
                if let (Some(began), Told::Committed) = (began, told) {
                    let second = event.time / 1_000_000_000;
                    seconds.entry(second).or_default().push(event.time - began);
                }
            }
        }
    }
    let quantile = |sorted: &[u64], part: usize| {
        let index = (sorted.len() * part / 100).min(sorted.len() - 1);
        sorted[index] as f64 / 1e6
    };
    seconds
        .into_iter()
        .map(|(second, mut times)| {
            times.sort_unstable();
            Latency {
                second,
                commits: times.len() as u64,
                p50_ms: quantile(&times, 50),
                p99_ms: quantile(&times, 99),
            }
        })
        .collect()
}
