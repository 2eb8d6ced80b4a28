//! Draws transfers.
//!
//! Amounts of a transfer cancel out, and healthy ones never lack funds: balances begin far above
//! what a run can take from any account.

use std::time::{SystemTime, UNIX_EPOCH};

use rand::Rng;
use rand::seq::index;
use rand_distr::{Distribution as _, Zipf};

use super::{Scenario, Styles};
use crate::work::{Entry, Form, Style, Work};

/// What every account begins with.
pub const INITIAL_BALANCE: i64 = 1_000_000;
/// The most that a healthy transfer moves.
const AMOUNT_MAX: i64 = 100;
/// More than any account has.
const UNAFFORDABLE: i64 = 1_000 * INITIAL_BALANCE;
/// Every so many transfers one lacks funds.
const LACKS_FUNDS_ONE_IN: u32 = 20;
/// Every so many transfers one raises an error.
const RAISES_ONE_IN: u32 = 100;
const ZIPF_EXPONENT: f64 = 0.99;
/// Every so many clients one is interactive.
const INTERACTIVE_ONE_IN: usize = 4;

/// Where a transfer's accounts are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Each side on a shard of its own.
    Spread,
    /// All on the first shard.
    FirstShard,
}

/// Draws the transfers of one scenario.
#[derive(Debug)]
pub struct Draw {
    scenario: Scenario,
    place: Place,
    accounts: i64,
    skew: Option<Zipf<f64>>,
}

impl Draw {
    /// Over so many accounts per shard.
    pub fn new(scenario: Scenario, place: Place, accounts: i64) -> anyhow::Result<Self> {
        let skew = (scenario == Scenario::Skewed)
            .then(|| Zipf::new(accounts as f64, ZIPF_EXPONENT))
            .transpose()?;
        Ok(Self {
            scenario,
            place,
            accounts,
            skew,
        })
    }

    /// What the client of this number does next.
    pub fn next(&self, client: usize) -> Work {
        let mut random = rand::rng();
        let lacks_funds =
            self.scenario == Scenario::GuardFailures && random.random_ratio(1, LACKS_FUNDS_ONE_IN);
        let raises =
            self.scenario == Scenario::SqlFailures && random.random_ratio(1, RAISES_ONE_IN);
        let mut entries = self.entries(&mut random, lacks_funds);
        if self.place == Place::FirstShard {
            entries.iter_mut().for_each(|entry| entry.shard = 0);
        }
        let broken = raises.then(|| entries[random.random_range(0..entries.len())].shard);
        let form = Form {
            wide: self.scenario == Scenario::Wide,
            broken_mark: broken,
            healthy: !lacks_funds && !raises,
            style: self.style(client),
        };
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH);
        let unix_ms = since_epoch.map_or(0, |time| time.as_millis() as u64);
        Work::transfer(&entries, form, unix_ms, random.random())
    }

    fn style(&self, client: usize) -> Style {
        let interactive = match self.scenario.styles() {
            Styles::Declared => false,
            Styles::Interactive => true,
            Styles::Mixed => client.is_multiple_of(INTERACTIVE_ONE_IN),
        };
        if interactive {
            Style::Interactive
        } else {
            Style::Declared
        }
    }

    fn entries(&self, random: &mut impl Rng, lacks_funds: bool) -> Vec<Entry> {
        let shards = self.shards(random);
        let per_shard = if self.scenario == Scenario::Wide {
            2
        } else {
            1
        };
        let mut entries = Vec::with_capacity(shards.len() * per_shard);
        for _ in 0..per_shard {
            let amounts = amounts(random, shards.len(), lacks_funds);
            for (shard, amount) in shards.iter().zip(amounts) {
                entries.push(Entry {
                    shard: *shard,
                    account: self.account(random, *shard),
                    amount,
                });
            }
        }
        entries
    }

    fn shards(&self, random: &mut impl Rng) -> Vec<usize> {
        let count = match self.scenario {
            Scenario::ThreeShards => 3,
            _ => 2,
        };
        let mut shards = index::sample(random, self.scenario.shards(), count).into_vec();
        shards.sort_unstable();
        shards
    }

    fn account(&self, random: &mut impl Rng, shard: usize) -> i64 {
        if self.scenario == Scenario::Hot && shard == 0 {
            return 1;
        }
        match &self.skew {
            Some(skew) => (skew.sample(random) as i64).clamp(1, self.accounts),
            None => random.random_range(1..=self.accounts),
        }
    }
}

/// One amount per shard, the sum of which is 0. Any shard may be the one that pays.
fn amounts(random: &mut impl Rng, shards: usize, lacks_funds: bool) -> Vec<i64> {
    let mut amounts: Vec<i64> = (1..shards)
        .map(|_| match lacks_funds {
            true => UNAFFORDABLE,
            false => random.random_range(1..=AMOUNT_MAX),
        })
        .collect();
    amounts.push(-amounts.iter().sum::<i64>());
    if random.random() {
        amounts.iter_mut().for_each(|amount| *amount = -*amount);
    }
    amounts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::work::MARK;

    const DRAWN: usize = 10_000;

    fn drawn(scenario: Scenario, place: Place, count: usize) -> Vec<Work> {
        let draw = Draw::new(scenario, place, 1000).unwrap();
        (0..count).map(|client| draw.next(client)).collect()
    }

    fn share(works: &[Work], chosen: impl Fn(&Work) -> bool) -> f64 {
        works.iter().filter(|work| chosen(work)).count() as f64 / works.len() as f64
    }

    #[test]
    fn failures_have_the_promised_share() {
        for scenario in Scenario::ALL {
            let (promised, tolerance, count) = match scenario {
                // More than four standard deviations.
                Scenario::GuardFailures => (0.05, 0.01, DRAWN),
                Scenario::SqlFailures => (0.01, 0.005, DRAWN),
                _ => (0.0, 0.0, 200),
            };
            let works = drawn(scenario, Place::Spread, count);
            let failing = share(&works, |work| !work.healthy);
            assert!(
                (failing - promised).abs() <= tolerance,
                "{scenario}: {failing}"
            );
        }
    }

    #[test]
    fn amounts_cancel_out_and_every_shard_knows_the_others() {
        for scenario in Scenario::ALL {
            for place in [Place::Spread, Place::FirstShard] {
                for work in drawn(scenario, place, 200) {
                    let mask: u32 = work.branches.iter().map(|branch| 1 << branch.shard).sum();
                    let steps = work.branches.iter().flat_map(|branch| &branch.steps);
                    let marks: Vec<_> = steps.filter(|step| step.sql.starts_with(MARK)).collect();
                    let value =
                        |text: &Option<String>| text.as_ref().unwrap().parse::<i64>().unwrap();
                    let sum: i64 = marks.iter().map(|mark| value(&mark.params[3])).sum();
                    assert_eq!(sum, 0, "{work:?}");
                    for mark in marks {
                        assert_eq!(value(&mark.params[1]), i64::from(mask), "{work:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn who_is_interactive_and_what_is_hot_or_skewed() {
        let interactive = |work: &Work| work.style == Style::Interactive;
        let mixed = share(&drawn(Scenario::Mixed, Place::Spread, DRAWN), interactive);
        assert!((mixed - 0.25).abs() < f64::EPSILON, "{mixed}");
        let all = share(
            &drawn(Scenario::Interactive, Place::Spread, DRAWN),
            interactive,
        );
        assert!((all - 1.0).abs() < f64::EPSILON, "{all}");
        let first = |work: &Work| work.branches[0].steps[0].params[1].as_deref() == Some("1");
        let hot = share(&drawn(Scenario::Hot, Place::Spread, DRAWN), first);
        assert!((hot - 1.0).abs() < f64::EPSILON, "{hot}");
        // 1 / (sum of k^-0.99 for k up to 1000) is about 0.13.
        let skewed = share(&drawn(Scenario::Skewed, Place::Spread, DRAWN), first);
        assert!((0.10..0.16).contains(&skewed), "{skewed}");
    }

    #[test]
    fn shards_are_drawn_evenly() {
        let works = drawn(Scenario::ThreeShards, Place::Spread, DRAWN);
        assert!(works.iter().all(|work| work.branches.len() == 3));
        for shard in 0..4 {
            let with = share(&works, |work| {
                work.branches.iter().any(|branch| branch.shard == shard)
            });
            assert!((with - 0.75).abs() < 0.03, "{shard}: {with}");
        }
    }
}
