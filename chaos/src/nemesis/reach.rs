//! Whom a blow can touch.
//!
//! Everybody else must keep its rate (I7), so what is not certain to be untouched counts as touched:
//! a fault of one connection counts as one of its whole shard.

use std::collections::BTreeSet;

use serde::Serialize;

use super::table::Deed;
use crate::pulse::Stream;

/// What a blow can touch.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Reach {
    /// Whoever needs one of these shards.
    pub shards: BTreeSet<usize>,
    /// Whoever goes to one of these coordinators.
    pub coordinators: BTreeSet<usize>,
    /// Whoever needs the shard, and goes to the coordinator.
    pub links: BTreeSet<(usize, usize)>,
    /// Everybody.
    pub everybody: bool,
}

impl Reach {
    /// Whether it touches this stream.
    #[must_use]
    pub fn touches(&self, stream: &Stream) -> bool {
        let coordinator = stream.coordinator;
        let is_on_link =
            |(end, shard): &(usize, usize)| *end == coordinator && stream.needs(*shard);
        self.everybody
            || self.coordinators.contains(&coordinator)
            || self.shards.iter().any(|shard| stream.needs(*shard))
            || self.links.iter().any(is_on_link)
    }
}

/// What a blow has taken aim at.
#[derive(Debug, Clone, Copy)]
pub(super) struct Target {
    pub(super) shard: Option<usize>,
    pub(super) coordinator: Option<usize>,
}

impl Deed {
    /// What a fault that was aimed at these can touch.
    pub(super) fn reach(self, targets: &[Target]) -> Reach {
        let mut reach = Reach::default();
        let shards = targets.iter().filter_map(|target| target.shard);
        let coordinators = targets.iter().filter_map(|target| target.coordinator);
        match self {
            Self::KillParticipant
            | Self::PauseParticipant
            | Self::KillPostgres
            | Self::StopPostgres
            | Self::PausePostgres
            | Self::KillBackend
            | Self::TerminateBackend
            | Self::Cut
            | Self::LoseTransaction
            | Self::Delay
            | Self::Zombie
            | Self::Duplicate
            | Self::CutDatabase
            | Self::NoSlots
            | Self::DiskFull
            | Self::FailOver => reach.shards.extend(shards),
            // The links between participants that some of these cut as well are for recovery only.
            Self::KillCoordinator
            | Self::PauseCoordinator
            | Self::CutRecovery
            | Self::CutClients
            | Self::FewDescriptors => reach.coordinators.extend(coordinators),
            Self::CutLink | Self::OneWay | Self::HalfOpen => {
                let ends = |target: &Target| Some((target.coordinator?, target.shard?));
                reach.links.extend(targets.iter().filter_map(ends));
            }
            // Either dies, by chance.
            Self::Clock => {
                reach.shards.extend(shards);
                reach.coordinators.extend(coordinators);
            }
            // A person's own transaction is on all shards.
            Self::NoCoordinator | Self::ByHand => reach.everybody = true,
        }
        reach
    }

    /// Whether it can leave anybody untouched.
    pub(super) fn spares_somebody(self) -> bool {
        let one = Target {
            shard: Some(0),
            coordinator: Some(0),
        };
        let reach = self.reach(&[one]);
        Stream::all().iter().any(|stream| !reach.touches(stream))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many streams a fault leaves alone that was aimed at one shard and coordinator.
    fn spared(deed: Deed, shard: usize, coordinator: usize) -> usize {
        let target = Target {
            shard: Some(shard),
            coordinator: Some(coordinator),
        };
        let reach = deed.reach(&[target]);
        let streams = Stream::all();
        streams
            .iter()
            .filter(|stream| !reach.touches(stream))
            .count()
    }

    #[test]
    fn who_needs_what_is_broken_is_touched() {
        // Through each coordinator: two data shards alone, two with the decision elsewhere, both.
        assert_eq!(Stream::all().len(), 10);
        assert_eq!(
            spared(Deed::KillPostgres, 0, 0),
            4,
            "the other data shard's"
        );
        assert_eq!(spared(Deed::KillPostgres, 2, 0), 6, "who decides elsewhere");
        assert_eq!(
            spared(Deed::KillCoordinator, 0, 1),
            5,
            "the other coordinator's"
        );
        assert_eq!(
            spared(Deed::CutLink, 0, 1),
            7,
            "the other coordinator's and the other shard's"
        );
        assert_eq!(spared(Deed::Clock, 0, 1), 2);
        assert_eq!(spared(Deed::NoCoordinator, 0, 1), 0);
        assert!(!Deed::ByHand.spares_somebody());
        assert!(Deed::Clock.spares_somebody());
    }

    #[test]
    fn every_target_of_a_blow_counts() {
        let at = |shard| Target {
            shard: Some(shard),
            coordinator: None,
        };
        let reach = Deed::Clock.reach(&[at(0), at(1)]);
        assert!(Stream::all().iter().all(|stream| reach.touches(stream)));
        let nothing = Deed::Cut.reach(&[]);
        assert!(!Stream::all().iter().any(|stream| nothing.touches(stream)));
    }
}
