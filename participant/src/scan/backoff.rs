//! Pauses between tries.

use std::time::Duration;

use gavel_protocol::Limits;

/// The pause before the next try after `attempt` tries: doubles from `retry_first_ms` up to
/// `retry_max_ms`, less up to half of it, so that branches which failed together do not come
/// back together.
pub(crate) fn pause(limits: &Limits, attempt: u32) -> Duration {
    let longest = longest_ms(limits, attempt);
    Duration::from_millis(rand::random_range(longest.div_ceil(2)..=longest))
}

fn longest_ms(limits: &Limits, attempt: u32) -> u64 {
    let doublings = attempt.saturating_sub(1).min(32);
    limits
        .retry_first_ms
        .saturating_mul(1 << doublings)
        .min(limits.retry_max_ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_limit() {
        let limits = Limits {
            retry_first_ms: 20,
            retry_max_ms: 500,
            ..Limits::default()
        };
        let longest: Vec<u64> = (0..8).map(|n| longest_ms(&limits, n)).collect();
        assert_eq!(longest, [20, 20, 40, 80, 160, 320, 500, 500]);
        assert_eq!(longest_ms(&limits, u32::MAX), 500);
        for attempt in 0..8 {
            let pause = pause(&limits, attempt).as_millis() as u64;
            let longest = longest_ms(&limits, attempt);
            assert!((longest / 2..=longest).contains(&pause), "{pause}");
        }
    }
}
