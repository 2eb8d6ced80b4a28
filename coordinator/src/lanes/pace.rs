//! How fast a lane works, and so how long whoever comes now would wait.
//!
//! Without this a flood ends all useful work: whoever is taken from the head of a long queue has
//! waited for nearly as long as he may, and is told nothing of what is then done for him. Whoever
//! would wait for too long is better told at once (Little's law: the wait is what waits, divided
//! by how much of it is done per second).

use std::time::{Duration, Instant};

/// Over how long it is counted what gets done.
const WINDOW: Duration = Duration::from_millis(200);

/// How fast a lane works. It begins with its first batch, and ends when the lane is idle.
#[derive(Debug, Default)]
pub(super) struct Pace {
    window: Option<Window>,
    per_second: Option<f64>,
    /// From a batch's begin to its rest, lately.
    batch: Duration,
}

#[derive(Debug)]
struct Window {
    since: Instant,
    done: usize,
}

impl Pace {
    /// A batch of so many has come to rest now, after so long.
    pub(super) fn done(&mut self, members: usize, took: Duration, now: Instant) {
        self.batch = match self.batch {
            Duration::ZERO => took,
            before => (before * 7 + took) / 8,
        };
        // The first batch only says when it ended: not how many end per second.
        let Some(window) = &mut self.window else {
            self.window = Some(Window {
                since: now,
                done: 0,
            });
            return;
        };
        window.done += members;
        let length = now.saturating_duration_since(window.since);
        if length >= WINDOW {
            let lately = window.done as f64 / length.as_secs_f64();
            self.per_second = Some(match self.per_second {
                None => lately,
                Some(before) => f64::midpoint(before, lately),
            });
            self.window = Some(Window {
                since: now,
                done: 0,
            });
        }
    }

    /// How long it takes until the last one of so many that wait is done, if that is known. Where
    /// nobody waits, whoever comes is in the next batch: that is as soon as it gets.
    pub(super) fn wait(&self, waiting: usize) -> Option<Duration> {
        if waiting == 0 {
            return None;
        }
        let per_second = self.per_second.filter(|rate| *rate > 0.0)?;
        let queued = Duration::try_from_secs_f64(waiting as f64 / per_second).ok()?;
        // As long again as a batch takes: batches differ, and the answer has to travel.
        queued.checked_add(2 * self.batch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// A lane that does `members` every 10 ms, each batch in 20 ms.
    fn working(members: usize, length: Duration) -> Pace {
        let (mut pace, begun) = (Pace::default(), Instant::now());
        let batches = length.as_millis() / 10;
        for number in 1..=batches as u32 {
            pace.done(members, 20 * MS, begun + number * 10 * MS);
        }
        pace
    }

    #[test]
    fn the_wait_is_what_waits_divided_by_what_is_done() {
        // 50 every 10 ms are 5,000 a second.
        let pace = working(50, Duration::from_secs(2));
        let wait = pace.wait(1_000).expect("it is known");
        let expected = Duration::from_millis(200 + 40);
        assert!(wait.abs_diff(expected) < 5 * MS, "{wait:?}");
        assert_eq!(pace.wait(0), None, "nobody is in the way");
    }

    #[test]
    fn nothing_is_known_of_a_lane_that_has_just_begun() {
        assert_eq!(Pace::default().wait(5_000), None);
        assert_eq!(working(50, 150 * MS).wait(5_000), None);
        assert!(working(50, 300 * MS).wait(5_000).is_some());
    }

    #[test]
    fn a_lane_that_becomes_slower_is_believed_soon() {
        let mut pace = working(50, Duration::from_secs(2));
        let begun = Instant::now() + Duration::from_secs(2);
        for number in 1..=10 {
            pace.done(50, 200 * MS, begun + number * 200 * MS);
        }
        // 250 a second now.
        let wait = pace.wait(250).expect("it is known");
        assert!(wait > Duration::from_millis(900), "{wait:?}");
    }
}
