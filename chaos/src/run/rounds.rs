//! How a run is cut into rounds, and how many members batches have in each.

use std::time::Duration;

use crate::arena::COORDINATORS;

/// How many members batches have at most, unless somebody says it: a coordinator takes one, the
/// next coordinator the next, and so on in the next round. The largest comes first, for runs that
/// are too short for a second round.
pub const BATCH_MEMBERS: [usize; 4] = [500, 1, 60, 2];

/// A round's evidence is judged in memory: longer runs have more rounds.
const ROUND_MAX: Duration = Duration::from_secs(300);
/// In less than this a round shows too little to be judged.
const ROUND_MIN: Duration = Duration::from_secs(30);

/// How many rounds a run of this time has: enough for every size of batches, if it is long enough.
pub(super) fn count(time: Duration, sizes: &[usize]) -> usize {
    let by_time = time.as_secs().div_ceil(ROUND_MAX.as_secs());
    let by_sizes = or_default(sizes).len().div_ceil(COORDINATORS);
    let by_sizes = u64::try_from(by_sizes).unwrap_or(u64::MAX);
    let possible = time.as_secs() / ROUND_MIN.as_secs();
    let rounds = by_time.max(by_sizes.min(possible)).max(1);
    usize::try_from(rounds).unwrap_or(usize::MAX)
}

/// What each coordinator's batches have at most in this round, the first being 1.
pub(super) fn batch_members(sizes: &[usize], round: usize) -> [usize; COORDINATORS] {
    let sizes = or_default(sizes);
    std::array::from_fn(|coordinator| {
        let turn = (round - 1) * COORDINATORS + coordinator;
        sizes[turn % sizes.len()]
    })
}

fn or_default(sizes: &[usize]) -> &[usize] {
    match sizes {
        [] => &BATCH_MEMBERS,
        _ => sizes,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minute_has_every_size_and_so_has_an_hour() {
        for (seconds, rounds) in [(20, 1), (59, 1), (60, 2), (300, 2), (301, 2), (3600, 12)] {
            let found = count(Duration::from_secs(seconds), &BATCH_MEMBERS);
            assert_eq!(found, rounds, "{seconds} s");
        }
        assert_eq!(count(Duration::from_secs(60), &[60]), 1);
        let each: Vec<usize> = (1..=2)
            .flat_map(|round| batch_members(&BATCH_MEMBERS, round))
            .collect();
        assert_eq!(each, BATCH_MEMBERS);
        assert_eq!(batch_members(&BATCH_MEMBERS, 3), [500, 1]);
        assert_eq!(batch_members(&[60], 7), [60, 60]);
    }
}
