//! Exponential backoff with jitter.

use std::time::Duration;

use gavel_protocol::Limits;

/// The pause before try number `attempt` (0 is the first, and waits not at all): doubling from
/// `retry_first_ms` up to `retry_max_ms`, of which a random half is taken, so that many waiters
/// do not come back at once.
pub fn pause(attempt: u32, limits: &Limits) -> Duration {
    if attempt == 0 {
        return Duration::ZERO;
    }
    let doubled = limits
        .retry_first_ms
        .saturating_mul(1 << (attempt - 1).min(20));
    let full = doubled.min(limits.retry_max_ms);
    Duration::from_millis(full / 2 + rand::random_range(0..=full.div_ceil(2)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_are_bounded() {
        let limits = Limits {
            retry_first_ms: 10,
            retry_max_ms: 100,
            ..Limits::default()
        };
        assert_eq!(pause(0, &limits), Duration::ZERO);
        for attempt in 1..100 {
            let pause = pause(attempt, &limits);
            assert!(pause <= Duration::from_millis(100), "{attempt}: {pause:?}");
            assert!(pause >= Duration::from_millis(5), "{attempt}: {pause:?}");
        }
    }
}
