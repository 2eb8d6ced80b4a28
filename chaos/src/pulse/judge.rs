//! Whether those who were not touched by a fault have kept their rate (I7).
//!
//! # What is compared
//! A *stretch* is the time of one blow in the life of one stream that it cannot touch: from the
//! moment at which it had found its transaction until it was healed, and [`STRETCH_MIN`] at least,
//! because what follows from a short fault takes a moment. It ends early where another blow touches
//! the stream. A stream that an earlier blow has touched counts again when it has committed again, or
//! [`BACK_WITHIN`] later: what keeps it down then is not what that blow has left behind.
//!
//! What is expected in a stretch is what the same stream has done in calm time: all the time in which
//! nothing was struck, before the first fault and between two of them, apart from the time that it
//! needed to come back. So what else the machine has to do counts on both sides. What a stream has
//! *kept* is the share of what was expected.
//!
//! # Thresholds
//! One stretch says little: it has room for a few beats, and on two cores the restart of a server
//! alone costs one. So shares are those of many stretches together: of all streams for each fault,
//! and of all faults for each stream. A stream that is held up while faults last keeps next to
//! nothing; one that is not keeps about everything, since it waits for its next beat most of the
//! time. [`KEPT_MIN`] lies in the middle. A share hides what happens seldom, so no single silence
//! may be longer than [`SILENCE_MAX`], either, or than twice the longest in calm time. A beat has two
//! seconds: that is longer than it takes to lose two in a row, and than the second that a statement
//! waits for a lock and the two in which the branches of a dead process are resolved, one after the
//! other. What lets go in time does not explain it, on a busy machine neither.

use std::collections::BTreeMap;

use serde::Serialize;

use super::Beats;
use crate::nemesis::Blow;
use crate::verdict::{Invariant, Violation};

/// In milliseconds.
const STRETCH_MIN: u64 = 1_500;
/// In milliseconds. What is in doubt is resolved in less, and nobody waits for a lock that long.
const BACK_WITHIN: u64 = 5_000;
/// Calm time after a fault that touched the stream begins at a whole one of these, in milliseconds.
const STEP: u64 = 1_000;
/// Of what was expected.
const KEPT_MIN: f64 = 0.5;
/// In milliseconds, while a fault lasts.
const SILENCE_MAX: u64 = 6_000;
/// Nor longer than this, whatever calm time was like.
const SILENCE_MAX_EVER: u64 = 12_000;
/// A share of less says nothing: fewer beats than this were expected.
const EXPECTED_MIN: f64 = 12.0;
/// One fault or stream among many is judged from this: of twenty or thirty shares, the worst must not
/// be bad by chance, on a machine where beats come in bursts.
const EXPECTED_EACH_MIN: f64 = 30.0;
/// Nor is one of fewer stretches.
const STRETCHES_MIN: usize = 6;
/// All in all, fewer faults are no evidence.
const BLOWS_MIN: usize = 3;

/// What was found.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Kept {
    /// Blows that left somebody untouched whose rate was known.
    pub blows: usize,
    /// All stretches together.
    pub all: Group,
    /// By fault.
    pub faults: BTreeMap<&'static str, Group>,
    /// By stream.
    pub streams: BTreeMap<String, Group>,
    /// Those who *were* touched, for comparison: it shows that a fault can be seen this way.
    pub touched: Group,
    /// The longest time without a commit in calm time, in milliseconds.
    pub calm_silence_ms: u64,
    /// What was wrong.
    #[serde(skip)]
    pub violations: Vec<Violation>,
}

/// Stretches that are looked at together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Group {
    /// How many.
    pub stretches: usize,
    /// Beats in them.
    pub beats: usize,
    /// Beats that there would have been in calm time.
    pub expected: f64,
    /// The longest time without one, in milliseconds.
    pub silence_ms: u64,
}

impl Group {
    /// The share of what was expected, if that is enough to say anything.
    #[must_use]
    pub fn kept(&self) -> Option<f64> {
        let is_enough = self.expected >= EXPECTED_MIN && self.stretches >= STRETCHES_MIN;
        is_enough.then(|| self.beats as f64 / self.expected)
    }

    fn add(&mut self, stretch: &Stretch) {
        self.stretches += 1;
        self.beats += stretch.beats;
        self.expected += stretch.expected;
        self.silence_ms = self.silence_ms.max(stretch.silence_ms);
    }
}

impl Kept {
    /// What was compared, if it was enough to say anything.
    #[must_use]
    pub fn evidence(&self) -> Option<String> {
        let kept = self.all.kept().filter(|_| self.blows >= BLOWS_MIN)?;
        let percent = |kept: f64| format!("{:.0} %", kept * 100.0);
        let touched = self.touched.kept();
        Some(format!(
            "{} faults, {} stretches of streams that they did not touch: {} of the calm rate, {:.1} s \
             the longest silence (touched: {}, {:.1} s)",
            self.blows,
            self.all.stretches,
            percent(kept),
            self.all.silence_ms as f64 / 1e3,
            touched.map_or_else(|| "too few".to_owned(), percent),
            self.touched.silence_ms as f64 / 1e3,
        ))
    }

    /// What would have to be compared, and was not.
    #[must_use]
    pub fn lacking(&self) -> String {
        format!(
            "no evidence about those whom faults do not touch: {} faults, {} stretches, {:.0} commits \
             expected in them; it takes {BLOWS_MIN}, {STRETCHES_MIN} and {EXPECTED_MIN:.0}",
            self.blows, self.all.stretches, self.all.expected
        )
    }

    /// No silence may be longer.
    fn silence_max_ms(&self) -> u64 {
        (self.calm_silence_ms * 2).clamp(SILENCE_MAX, SILENCE_MAX_EVER)
    }
}

/// One stream during one blow.
#[derive(Debug, Clone)]
struct Stretch {
    blow: usize,
    stream: usize,
    beats: usize,
    expected: f64,
    silence_ms: u64,
}

/// Judges the streams under these blows, which are in order.
#[must_use]
pub fn judge(beats: &Beats, blows: &[Blow]) -> Kept {
    let lives: Vec<Life<'_>> = (0..beats.streams.len())
        .map(|number| Life::of(beats, number, blows))
        .collect();
    let mut kept = Kept {
        calm_silence_ms: lives
            .iter()
            .map(|life| life.calm_silence_ms)
            .max()
            .unwrap_or(0),
        ..Kept::default()
    };
    let mut spared = Vec::new();
    for (index, blow) in blows.iter().enumerate().filter(|(_, blow)| blow.hit) {
        for (number, life) in lives.iter().enumerate() {
            let is_touched = |blow: &Blow| blow.reach.touches(&beats.streams[number]);
            if is_touched(blow) {
                let end = end(blow);
                kept.touched
                    .add(&life.stretch(index, number, blow.struck_ms, end));
                continue;
            }
            let next = blows[index + 1..].iter().find(|next| is_touched(next));
            let end = next.map_or(end(blow), |next| next.struck_ms.min(end(blow)));
            let before = blows[..index]
                .iter()
                .rev()
                .find(|before| is_touched(before));
            let is_well =
                before.is_none_or(|before| back(life.at_ms, before.until_ms) < blow.struck_ms);
            if is_well && end >= blow.struck_ms + STRETCH_MIN {
                spared.push(life.stretch(index, number, blow.struck_ms, end));
            }
        }
    }
    for stretch in &spared {
        kept.all.add(stretch);
        let fault = blows[stretch.blow].nemesis;
        kept.faults.entry(fault).or_default().add(stretch);
        let stream = beats.names[stretch.stream].clone();
        kept.streams.entry(stream).or_default().add(stretch);
    }
    let mut struck: Vec<usize> = spared.iter().map(|stretch| stretch.blow).collect();
    struck.dedup();
    kept.blows = struck.len();
    kept.violations = violations(&kept, &spared, beats, blows);
    kept
}

fn violations(kept: &Kept, spared: &[Stretch], beats: &Beats, blows: &[Blow]) -> Vec<Violation> {
    let faults = kept.faults.iter().map(|(name, group)| {
        let who = format!("streams that `{name}` did not touch");
        (who, group)
    });
    let streams = kept.streams.iter().map(|(name, group)| {
        let who = format!("{name}, under faults that did not touch it");
        (who, group)
    });
    let each = faults.chain(streams);
    let each = each.filter(|(_, group)| group.expected >= EXPECTED_EACH_MIN);
    let all = std::iter::once(("streams that faults did not touch".to_owned(), &kept.all));
    let slow = all.chain(each).filter_map(|(who, group)| {
        let share = group.kept().filter(|share| *share < KEPT_MIN)?;
        let (percent, stretches) = (share * 100.0, group.stretches);
        Some(format!(
            "{who}: {percent:.0} % of the calm rate in {stretches} stretches"
        ))
    });
    let is_silent = |stretch: &&Stretch| stretch.silence_ms > kept.silence_max_ms();
    let silent = spared.iter().filter(is_silent).map(|stretch| {
        let (name, blow) = (&beats.names[stretch.stream], &blows[stretch.blow]);
        let seconds = stretch.silence_ms as f64 / 1e3;
        let (fault, target) = (blow.nemesis, &blow.target);
        format!("{name}: no commit for {seconds:.1} s while {fault} struck {target}")
    });
    let violation = |what| Violation {
        invariant: Invariant::Progress,
        what,
    };
    slow.chain(silent).map(violation).collect()
}

/// When the stretch of a blow ends, unless another one ends it.
fn end(blow: &Blow) -> u64 {
    blow.until_ms.max(blow.struck_ms + STRETCH_MIN)
}

/// When a stream has beaten.
struct Life<'a> {
    at_ms: &'a [u64],
    /// Beats per millisecond.
    calm_rate: f64,
    calm_silence_ms: u64,
}

impl<'a> Life<'a> {
    fn of(beats: &'a Beats, number: usize, blows: &[Blow]) -> Self {
        let (stream, at_ms) = (&beats.streams[number], &beats.at_ms[number][..]);
        let (mut time, mut count, mut silence_ms) = (0, 0, 0);
        let mut calm = |from: u64, until: u64| {
            if from < until {
                let (beats, silence) = look(at_ms, from, until);
                time += until - from;
                count += beats;
                silence_ms = silence_ms.max(silence);
            }
        };
        let mut well_since = beats.from_ms;
        for blow in blows {
            calm(well_since, blow.struck_ms);
            let mut since = end(blow);
            if blow.reach.touches(stream) {
                // Not from the beat itself: short times that begin with one have too many.
                since += (back(at_ms, since) - since).next_multiple_of(STEP);
            }
            well_since = well_since.max(since);
        }
        calm(well_since, beats.until_ms);
        Self {
            at_ms,
            calm_rate: count as f64 / f64::max(time as f64, 1.0),
            calm_silence_ms: silence_ms,
        }
    }

    fn stretch(&self, blow: usize, stream: usize, from: u64, until: u64) -> Stretch {
        let (beats, silence_ms) = look(self.at_ms, from, until);
        Stretch {
            blow,
            stream,
            beats,
            expected: self.calm_rate * (until - from) as f64,
            silence_ms,
        }
    }
}

/// When a stream that was touched until then counts again.
fn back(at_ms: &[u64], since: u64) -> u64 {
    let beat = at_ms.iter().copied().find(|at| *at >= since);
    beat.map_or(since + BACK_WITHIN, |beat| beat.min(since + BACK_WITHIN))
}

/// How many beats there are in this time, and the longest time without one.
fn look(at_ms: &[u64], from: u64, until: u64) -> (usize, u64) {
    let inside = at_ms
        .iter()
        .copied()
        .filter(|at| (from..until).contains(at));
    let (mut count, mut silence_ms, mut last) = (0, 0, from);
    for at in inside {
        count += 1;
        silence_ms = silence_ms.max(at - last);
        last = at;
    }
    (count, silence_ms.max(until - last))
}

#[cfg(test)]
mod tests;
