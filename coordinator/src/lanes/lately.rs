//! Where members of a lane have failed lately, and what that means for its next batch.
//!
//! A matter of speed only: every approach gives every member the same outcome.

/// Who works first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Approach {
    /// Home and the branches at the same time: the fastest, if nobody fails.
    Together,
    /// Home first, which leaves out who fails there before anybody has prepared (R2). Otherwise
    /// the branches would be prepared and rolled back for nothing.
    HomeFirst,
    /// The branches first, which leave out who fails there. Home's work would have to be undone.
    BranchesFirst,
}

/// A side of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// Its home.
    Home,
    /// Its other shards.
    Branches,
}

/// Where members have failed lately: sums to which a failure adds, and that fade from batch to
/// batch.
#[derive(Debug, Default)]
pub struct Lately {
    at_home: Fading,
    at_branches: Fading,
}

impl Lately {
    /// Somebody has failed there.
    pub fn on_failure(&mut self, side: Side) {
        match side {
            Side::Home => self.at_home.add(),
            Side::Branches => self.at_branches.add(),
        }
    }

    /// How the batch that begins now goes to work.
    pub fn next_approach(&mut self) -> Approach {
        self.at_home.fade();
        self.at_branches.fade();
        if self.at_home.is_high() {
            Approach::HomeFirst
        } else if self.at_branches.is_high() {
            Approach::BranchesFirst
        } else {
            Approach::Together
        }
    }

    /// Whether members of the batch that begins now are likely to fail on its branches.
    pub fn branches_fail(&self) -> bool {
        self.at_branches.is_high()
    }
}

#[derive(Debug, Default)]
struct Fading(u32);

impl Fading {
    const FAILURE: u32 = 100;
    /// More than one failure, and not long ago. A single one is no reason to go slower.
    const HIGH: u32 = 150;
    /// The part that is lost with every batch: a tenth. So it is high where more than about
    /// every seventh batch has a failure, which is where the slower approach pays.
    const LOST: u32 = 10;

    fn add(&mut self) {
        self.0 = self.0.saturating_add(Self::FAILURE);
    }

    fn fade(&mut self) {
        self.0 -= self.0.div_ceil(Self::LOST);
    }

    fn is_high(&self) -> bool {
        self.0 > Self::HIGH
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batches(lately: &mut Lately, count: usize) -> Vec<Approach> {
        (0..count).map(|_| lately.next_approach()).collect()
    }

    #[test]
    fn one_failure_is_no_reason_to_go_slower() {
        let mut lately = Lately::default();
        lately.on_failure(Side::Home);
        lately.on_failure(Side::Branches);
        assert_eq!(batches(&mut lately, 3), [Approach::Together; 3]);
    }

    #[test]
    fn whoever_fails_often_works_first_until_it_is_forgotten() {
        for (side, approach) in [
            (Side::Home, Approach::HomeFirst),
            (Side::Branches, Approach::BranchesFirst),
        ] {
            let mut lately = Lately::default();
            for _ in 0..100 {
                lately.on_failure(side);
                lately.next_approach();
            }
            assert_eq!(lately.next_approach(), approach);
            assert_eq!(lately.branches_fail(), side == Side::Branches);
            let after = batches(&mut lately, 40);
            assert_eq!(after.first(), Some(&approach));
            assert_eq!(after.last(), Some(&Approach::Together));
        }
    }

    #[test]
    fn home_goes_first_where_both_fail() {
        let mut lately = Lately::default();
        for side in [Side::Home, Side::Branches, Side::Home, Side::Branches] {
            lately.on_failure(side);
        }
        assert_eq!(lately.next_approach(), Approach::HomeFirst);
    }
}
