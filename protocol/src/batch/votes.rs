//! Counting votes: whether a batch may be decided (I3), and what becomes of its members if not.

use std::collections::BTreeMap;

use super::aftermath::{Fate, Others};
use super::{Batch, Effect, MemberIndex, State, Survivors, Verdict};
use crate::digest::MembersDigest;
use crate::message::{MemberFailure, MemberReport, NoVote, Vote};
use crate::names::ShardTag;
use crate::outcome::{Refusal, RefusalCode};

impl Batch {
    /// The first vote of a shard counts; later ones are duplicates.
    pub(super) fn on_voted(&mut self, shard: ShardTag, vote: Vote) -> Vec<Effect> {
        let State::Preparing { votes } = &mut self.state else {
            return Vec::new();
        };
        // A vote of a shard that was not asked must not stand in for a missing one.
        if !self.spec.branches().any(|asked| asked == shard) {
            return Vec::new();
        }
        votes.entry(shard).or_insert(vote);
        if votes.len() < self.spec.branches().count() {
            return Vec::new();
        }
        let votes = std::mem::take(votes);
        self.count_votes(&votes)
    }

    /// I3: a decide needs a yes from every prepared branch, and one executed set (R2).
    fn count_votes(&mut self, votes: &BTreeMap<ShardTag, Vote>) -> Vec<Effect> {
        let breaches: BTreeMap<ShardTag, String> = votes
            .iter()
            .filter_map(|(shard, vote)| Some((*shard, self.breach(*shard, vote)?)))
            .collect();
        if breaches.is_empty()
            && let Some(survivors) = self.agreement(votes)
            && !survivors.executed.is_empty()
        {
            return self.decide(survivors);
        }
        let left = votes
            .iter()
            .filter(|(shard, vote)| self.may_be_prepared(**shard, vote))
            .map(|(shard, _)| *shard)
            .collect();
        let (fates, others) = self.after_no(votes, &breaches);
        let mut effects: Vec<Effect> = breaches.into_values().map(Effect::Alarm).collect();
        effects.extend(self.abort(left, fates, others));
        effects
    }

    /// How a vote contradicts itself or the batch, if it does. Such a vote is no vote at all.
    fn breach(&self, shard: ShardTag, vote: &Vote) -> Option<String> {
        let asked = self.asked().count();
        let is_read_only = self.spec.read_only.contains(&shard);
        let reports = match vote {
            Vote::Yes { .. } if is_read_only => {
                return Some(format!("shard {shard} prepared a branch that only reads"));
            }
            Vote::ReadOnly { .. } if !is_read_only => {
                return Some(format!(
                    "shard {shard} did not prepare a branch that writes"
                ));
            }
            Vote::Yes { reports, .. }
            | Vote::ReadOnly { reports }
            | Vote::No(NoVote::NoneExecuted { reports }) => reports,
            Vote::No(NoVote::NoCulprit(_) | NoVote::Refused(_)) | Vote::Unknown { .. } => {
                return None;
            }
        };
        if reports.len() != asked {
            let count = reports.len();
            return Some(format!("shard {shard} reports {count} members of {asked}"));
        }
        match vote {
            Vote::Yes { digest, .. } if *digest != self.digest(reports) => Some(format!(
                "shard {shard} executed other members than it reports"
            )),
            Vote::Yes { .. } | Vote::ReadOnly { .. } | Vote::No(_) | Vote::Unknown { .. } => None,
        }
    }

    fn digest(&self, reports: &[MemberReport]) -> MembersDigest {
        let executed = self.executed(reports);
        MembersDigest::of(executed.map(|index| self.spec.members[index].0))
    }

    /// The set that every branch executed, if they all executed the same one (R2).
    fn agreement(&self, votes: &BTreeMap<ShardTag, Vote>) -> Option<Survivors> {
        let mut agreed: Option<Survivors> = None;
        for vote in votes.values() {
            let reports = match vote {
                Vote::Yes { reports, .. } | Vote::ReadOnly { reports } => reports,
                Vote::No(_) | Vote::Unknown { .. } => return None,
            };
            let executed: Vec<MemberIndex> = self.executed(reports).collect();
            let survivors = agreed.get_or_insert_with(|| Survivors {
                executed: executed.clone(),
                left_out: BTreeMap::new(),
            });
            if survivors.executed != executed {
                return None;
            }
            survivors.leave_out(self.asked().zip(reports));
        }
        agreed.map(|survivors| self.with_left_out_at_home(survivors))
    }

    /// The members that a branch reports as executed.
    fn executed(&self, reports: &[MemberReport]) -> impl Iterator<Item = MemberIndex> {
        let asked = self.asked().zip(reports);
        asked
            .filter(|(_, report)| **report == MemberReport::Executed)
            .map(|(index, _)| index)
    }

    fn may_be_prepared(&self, shard: ShardTag, vote: &Vote) -> bool {
        match vote {
            Vote::Yes { .. } => true,
            Vote::Unknown { .. } => self.spec.prepared.contains(&shard),
            Vote::ReadOnly { .. } | Vote::No(_) => false,
        }
    }

    /// Nothing will be committed: who is told what, and who runs again.
    fn after_no(
        &self,
        votes: &BTreeMap<ShardTag, Vote>,
        breaches: &BTreeMap<ShardTag, String>,
    ) -> (Vec<Fate>, Others) {
        let mut asked = self.asked();
        let alone = asked.next().filter(|_| asked.next().is_none());
        let mut fates = vec![Fate::Again; self.spec.members.len()];
        judge(&mut fates, self.home_reports());
        let mut others = Others::RunAgain;
        for (shard, vote) in votes {
            if let Some(breach) = breaches.get(shard) {
                others.refuse(unavailable(breach.clone()));
                continue;
            }
            match vote {
                Vote::Yes { reports, .. }
                | Vote::ReadOnly { reports }
                | Vote::No(NoVote::NoneExecuted { reports }) => {
                    judge(&mut fates, self.asked().zip(reports));
                }
                Vote::No(NoVote::NoCulprit(failure)) => match (alone, failure) {
                    (Some(alone), MemberFailure::Failed(reason)) => {
                        fates[alone] = Fate::Failed(reason.clone());
                    }
                    (Some(_), MemberFailure::Refused(why)) => others.refuse(why.clone()),
                    (None, _) => others.split(),
                },
                Vote::No(NoVote::Refused(why)) => others.refuse(why.clone()),
                Vote::Unknown { detail } => {
                    others.refuse(unavailable(format!("a vote did not arrive: {detail}")));
                }
            }
        }
        (fates, others)
    }
}

fn unavailable(message: String) -> Refusal {
    Refusal::new(RefusalCode::ShardUnavailable, message)
}

impl Survivors {
    /// Branches may leave a member out for different reasons; what says most is kept: its own
    /// failure, then a refusal.
    fn leave_out<'a>(&mut self, reports: impl Iterator<Item = (MemberIndex, &'a MemberReport)>) {
        for (index, report) in reports {
            match (report, self.left_out.get(&index)) {
                (MemberReport::Executed, _)
                | (_, Some(MemberReport::Failed(_)))
                | (MemberReport::NotRun, Some(_))
                | (MemberReport::Refused(_), Some(MemberReport::Refused(_))) => {}
                (
                    MemberReport::Failed(_) | MemberReport::Refused(_) | MemberReport::NotRun,
                    None
                    | Some(MemberReport::Executed | MemberReport::Refused(_) | MemberReport::NotRun),
                ) => {
                    self.left_out.insert(index, report.clone());
                }
            }
        }
    }
}

/// R10: a failure is told only if its member ran first or alone. The batch does not commit, so
/// a member that ran after others has seen what never was. Across branches, the report that
/// says most counts: a failure of its own, a failure that may not be, a refusal.
pub(super) fn judge<'a>(
    fates: &mut [Fate],
    reports: impl Iterator<Item = (MemberIndex, &'a MemberReport)>,
) {
    let mut seen_others = false;
    for (index, report) in reports {
        let fate = &mut fates[index];
        match (report, &*fate) {
            (MemberReport::Executed, _) => seen_others = true,
            (_, Fate::Failed(_)) => {}
            (MemberReport::Failed(_), _) if seen_others => *fate = Fate::Alone,
            (MemberReport::Failed(reason), _) => *fate = Fate::Failed(reason.clone()),
            (MemberReport::Refused(why), Fate::Again | Fate::NotRun) => {
                *fate = Fate::Told(Verdict::Refused(why.clone()));
            }
            (MemberReport::NotRun, Fate::Again) => *fate = Fate::NotRun,
            (
                MemberReport::Refused(_) | MemberReport::NotRun,
                Fate::NotRun | Fate::Alone | Fate::Told(_),
            ) => {}
        }
    }
}
