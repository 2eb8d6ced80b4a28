//! The run as a timeline of lines: for a terminal with a line at the bottom that shows how it goes
//! right now, for a file without.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::monitor::Sample;
use crate::nemesis::Blow;
use crate::run::{Conclusion, Progress, Report, Round};

const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
/// Seconds of throughput that the bottom line shows.
const SHOWN: usize = 30;
const SECOND: Duration = Duration::from_secs(1);

/// Turns progress into text.
#[derive(Debug)]
pub struct Timeline {
    began: Instant,
    rates: VecDeque<u64>,
    last: Sample,
    last_at: Instant,
}

impl Default for Timeline {
    fn default() -> Self {
        let now = Instant::now();
        Self {
            began: now,
            rates: VecDeque::new(),
            last: Sample::default(),
            last_at: now,
        }
    }
}

impl Timeline {
    /// The lines for what has happened; none for what only changes the bottom line.
    pub fn lines(&mut self, progress: &Progress) -> Vec<String> {
        match progress {
            Progress::Skipped { nemesis, why } => {
                vec![format!("SKIPPED {nemesis}: {why}")]
            }
            Progress::Round {
                number,
                of,
                batch_members: [first, second],
            } => {
                self.rates.clear();
                self.last = Sample::default();
                let round = if *of > 1 {
                    format!("Round {number} of {of}: s")
                } else {
                    "S".to_owned()
                };
                vec![format!(
                    "{round}tarting servers, participants, coordinators and proxies; batches have \
                     at most {first} members through the first coordinator, {second} through the \
                     second …"
                )]
            }
            Progress::Ready => {
                self.began = Instant::now();
                vec!["Everything runs. The faults begin.".to_owned()]
            }
            Progress::Blow(blow) => vec![line_of(blow)],
            Progress::Sample(sample) => {
                self.note(*sample);
                Vec::new()
            }
            Progress::Judging => vec!["The faults are over. Healing, then judging …".to_owned()],
            Progress::Judged(round) => verdicts(round),
        }
    }

    /// How it goes right now.
    #[must_use]
    pub fn bottom(&self) -> String {
        let max = self.rates.iter().copied().max().unwrap_or(0).max(1);
        let bar = |rate: &u64| {
            let level = rate * (BARS.len() as u64 - 1) / max;
            BARS[usize::try_from(level).unwrap_or(0)]
        };
        let bars: String = self.rates.iter().map(bar).collect();
        let Sample {
            committed,
            refused,
            in_doubt,
            prepared,
            oldest_ms,
            ..
        } = self.last;
        let rate = self.rates.back().copied().unwrap_or(0);
        let seconds = self.began.elapsed().as_secs();
        format!(
            "{seconds:>4} s  {bars} {rate}/s  {committed} committed, {refused} refused, \
             {in_doubt} in doubt; prepared {prepared}, oldest {:.1} s",
            oldest_ms as f64 / 1e3
        )
    }

    fn note(&mut self, sample: Sample) {
        let passed = self.last_at.elapsed();
        if passed >= SECOND {
            let new = sample.committed.saturating_sub(self.last.committed);
            let rate = new as f64 / passed.as_secs_f64();
            self.rates.push_back(rate as u64);
            if self.rates.len() > SHOWN {
                self.rates.pop_front();
            }
            self.last_at = Instant::now();
            self.last = sample;
        } else {
            // The count stays that of the last full second, for the next rate.
            let committed = self.last.committed;
            self.last = Sample {
                committed,
                ..sample
            };
        }
    }
}

fn line_of(blow: &Blow) -> String {
    let Blow {
        nemesis,
        step,
        target,
        from_ms,
        ..
    } = blow;
    let at = *from_ms as f64 / 1e3;
    let what = if blow.hit { "" } else { "missed: " };
    format!("{at:>7.1} s  {nemesis:<18} {step:<4} {what}{target}")
}

fn verdicts(round: &Round) -> Vec<String> {
    let [first, second] = round.batch_members;
    let largest = round.largest_batch;
    let batches =
        format!("The largest batch had {largest} members; {first} and {second} were allowed.");
    let mut lines = vec![String::new(), batches];
    for verdict in &round.verdicts {
        let state = match (verdict.violations.len(), verdict.holds()) {
            (0, true) => "holds",
            (0, false) => "NOT COMPARED",
            _ => "BROKEN",
        };
        let (id, name) = (verdict.invariant.to_string(), verdict.invariant.name());
        lines.push(format!(
            "{id:<4} {name:<24} {state:<6} {}",
            verdict.evidence
        ));
        if !verdict.lacking.is_empty() {
            lines.push(format!("       {}", verdict.lacking));
        }
        for violation in &verdict.violations {
            lines.push(format!("       {}", violation.what));
        }
    }
    lines
}

/// The end of the story.
#[must_use]
pub fn conclusion(report: &Report) -> String {
    let hits: u64 = report.hits().values().sum();
    match report.conclusion() {
        Conclusion::Held => format!("Every invariant held: {hits} faults struck at their steps."),
        Conclusion::Violated => format!("AN INVARIANT IS BROKEN after {hits} faults."),
        Conclusion::NotRun => {
            let missed = report.missed();
            let why = if report.nemeses.is_empty() {
                "no fault can be made here".to_owned()
            } else if missed.is_empty() {
                "something was not compared".to_owned()
            } else {
                format!("never struck: {}", missed.join(", "))
            };
            format!(
                "NOT RUN: nothing is broken, but this proves nothing ({why}). Give it more --seconds."
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxy::Step;

    #[test]
    fn a_miss_says_so() {
        let blow = |hit| Blow {
            nemesis: "cut",
            step: Step::Decided,
            hit,
            target: "server of alpha".to_owned(),
            from_ms: 1500,
            struck_ms: 1550,
            until_ms: 1600,
            reach: Default::default(),
        };
        let mut timeline = Timeline::default();
        let hit = timeline.lines(&Progress::Blow(blow(true)));
        assert_eq!(hit, ["    1.5 s  cut                S4b  server of alpha"]);
        let miss = timeline.lines(&Progress::Blow(blow(false)));
        assert!(miss[0].contains("missed: server of alpha"));
        assert!(timeline.bottom().contains("0 committed"));
    }
}
