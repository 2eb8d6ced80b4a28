//! What clients were told in the last minutes, second by second. Kept here, so that whoever watches
//! a coordinator needs nothing but the coordinator.

use std::collections::VecDeque;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use gavel_protocol::Outcome;
use gavel_protocol::standing::Second;
use hdrhistogram::Histogram;
use parking_lot::Mutex;

/// Seconds that are kept.
pub(crate) const SECONDS_MAX: usize = 300;
/// The longest wait that is told apart, in microseconds.
const WAIT_MAX_US: u64 = 60_000_000;

/// The last minutes.
pub(crate) struct Recent(Mutex<Seconds>);

struct Seconds {
    done: VecDeque<Second>,
    going_on: Second,
    waits: Histogram<u32>,
}

impl Recent {
    pub(crate) fn new() -> Self {
        let waits = Histogram::new_with_max(WAIT_MAX_US, 2);
        Self(Mutex::new(Seconds {
            done: VecDeque::with_capacity(SECONDS_MAX),
            going_on: Second {
                unix_s: unix_seconds(),
                ..Second::default()
            },
            waits: waits.expect("the bounds are constants"),
        }))
    }

    /// A client was told this, after so long.
    pub(crate) fn told(&self, outcome: &Outcome, waited: Duration) {
        let mut seconds = self.0.lock();
        seconds.advance(unix_seconds());
        let now = &mut seconds.going_on;
        match outcome {
            Outcome::Committed { .. } => {
                now.committed += 1;
                let micros = u64::try_from(waited.as_micros()).unwrap_or(u64::MAX);
                seconds.waits.saturating_record(micros.max(1));
            }
            Outcome::Aborted(_) => now.aborted += 1,
            Outcome::Refused(_) => now.refused += 1,
            Outcome::InDoubt { .. } => now.in_doubt += 1,
        }
    }

    /// All seconds that are over, oldest first.
    pub(crate) fn seconds(&self) -> Vec<Second> {
        let mut seconds = self.0.lock();
        seconds.advance(unix_seconds());
        seconds.done.iter().copied().collect()
    }
}

impl Seconds {
    /// A clock that goes backwards makes a long second.
    fn advance(&mut self, now: u64) {
        if now <= self.going_on.unix_s {
            return;
        }
        let mut done = self.going_on;
        if !self.waits.is_empty() {
            done.p50_us = self.waits.value_at_quantile(0.5);
            done.p99_us = self.waits.value_at_quantile(0.99);
            done.max_us = self.waits.max();
            self.waits.reset();
        }
        self.keep(done);
        let quiet = (done.unix_s + 1).max(now.saturating_sub(SECONDS_MAX as u64))..now;
        for unix_s in quiet {
            self.keep(Second {
                unix_s,
                ..Second::default()
            });
        }
        self.going_on = Second {
            unix_s: now,
            ..Second::default()
        };
    }

    fn keep(&mut self, second: Second) {
        if self.done.len() == SECONDS_MAX {
            self.done.pop_front();
        }
        self.done.push_back(second);
    }
}

/// Now, in seconds since 1970.
pub(crate) fn unix_seconds() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(unix_s: u64) -> Seconds {
        let Recent(seconds) = Recent::new();
        let mut seconds = seconds.into_inner();
        seconds.going_on.unix_s = unix_s;
        seconds
    }

    #[test]
    fn seconds_follow_each_other_without_gaps() {
        let mut seconds = at(100);
        seconds.going_on.committed = 3;
        for wait in [1_000, 2_000, 90_000] {
            seconds.waits.record(wait).unwrap();
        }
        seconds.advance(100);
        assert!(seconds.done.is_empty(), "it goes on");
        seconds.advance(103);
        let told: Vec<_> = seconds
            .done
            .iter()
            .map(|one| (one.unix_s, one.committed))
            .collect();
        assert_eq!(told, [(100, 3), (101, 0), (102, 0)]);
        let first = seconds.done[0];
        assert!((1_900..=2_100).contains(&first.p50_us), "{first:?}");
        assert!(
            first.p99_us >= 89_000 && first.max_us >= 89_000,
            "{first:?}"
        );
        assert_eq!(seconds.done[1].p99_us, 0);
        // The clock is set back, and comes again.
        seconds.advance(50);
        assert_eq!(seconds.going_on.unix_s, 103);
    }

    #[test]
    fn a_long_pause_takes_no_longer_than_what_is_kept() {
        let mut seconds = at(100);
        seconds.advance(1_000_000_000);
        assert_eq!(seconds.done.len(), SECONDS_MAX);
        assert_eq!(seconds.done[SECONDS_MAX - 1].unix_s, 999_999_999);
        let before = seconds.done.iter();
        let after = seconds.done.iter().skip(1);
        assert!(
            before
                .zip(after)
                .all(|(one, next)| one.unix_s + 1 == next.unix_s)
        );
    }

    #[test]
    fn answers_are_counted_by_outcome() {
        let recent = Recent::new();
        recent.told(
            &Outcome::Committed { applied: true },
            Duration::from_millis(2),
        );
        let detail = String::new();
        recent.told(&Outcome::InDoubt { detail }, Duration::ZERO);
        let mut seconds = recent.0.lock();
        let next = seconds.going_on.unix_s + 1;
        seconds.advance(next);
        let all = seconds.done.iter();
        let sums = all.fold((0, 0), |sums, one| {
            (sums.0 + one.committed, sums.1 + one.in_doubt)
        });
        assert_eq!(sums, (1, 1));
    }
}
