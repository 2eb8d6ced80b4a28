//! Once it is certain how a batch ends: finishing its branches, recording failures, telling
//! members, and running some of them again.
//!
//! After an abort nobody waits for the rollbacks to be told: nothing of the batch can commit any
//! more, and a shard that is down could keep everybody waiting. Members run again only when
//! their old branches hold no locks (R12), since they would wait for themselves.

use std::collections::BTreeSet;

use super::{Batch, Effect, MemberIndex, Rerun, State, Verdict};
use crate::message::{Finished, RecordAnswer, Recorded};
use crate::names::ShardTag;
use crate::outcome::{AbortReason, Refusal, RefusalCode};

/// What becomes of a member of a batch that does not commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fate {
    /// It was executed: goes the way of [`Others`].
    Again,
    /// Some branch had no time for it: runs again, behind those that it would hold up.
    NotRun,
    /// Runs again without company: its failure may be its neighbours' doing.
    Alone,
    /// Its failure is its own: record and tell it.
    Failed(AbortReason),
    /// This is known already.
    Told(Verdict),
}

/// What becomes of those who have no fate of their own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Others {
    /// They run again.
    RunAgain,
    /// They run again in halves: somebody failed, and nobody knows who (R10).
    Split,
    /// They hear this.
    Refused(Refusal),
}

impl Others {
    /// The first refusal is told, and goes before everything else.
    pub(super) fn refuse(&mut self, why: Refusal) {
        match self {
            Self::RunAgain | Self::Split => *self = Self::Refused(why),
            Self::Refused(_) => {}
        }
    }

    pub(super) fn split(&mut self) {
        match self {
            Self::RunAgain => *self = Self::Split,
            Self::Split | Self::Refused(_) => {}
        }
    }
}

impl Batch {
    /// This batch will never commit: rolls back what may be prepared, and sees to the members.
    pub(super) fn abort(
        &mut self,
        left: BTreeSet<ShardTag>,
        fates: Vec<Fate>,
        others: Others,
    ) -> Vec<Effect> {
        let plan = Plan::of(fates, others);
        let mut effects: Vec<Effect> = left.iter().map(|shard| Effect::Rollback(*shard)).collect();
        let answers = plan.answers.into_iter();
        effects.extend(answers.map(|(index, verdict)| Effect::Answer(index, verdict)));
        let recording = plan.record.iter().map(|(index, _)| *index).collect();
        if !plan.record.is_empty() {
            let each = plan.record.into_iter();
            let record = each.map(|(index, reason)| self.failed(index, reason));
            effects.push(Effect::RecordAborts(record.collect()));
        }
        self.state = State::Aborting {
            left,
            recording,
            again: plan.again,
        };
        self.when_aborted(effects)
    }

    pub(super) fn on_committed(&mut self, shard: ShardTag, finished: Finished) -> Vec<Effect> {
        let State::Committing { left, damaged, .. } = &mut self.state else {
            return Vec::new();
        };
        if !left.contains(&shard) {
            return Vec::new();
        }
        match finished {
            Finished::Done => {
                left.remove(&shard);
                self.when_committed(Vec::new())
            }
            Finished::Damaged { detail } => {
                left.remove(&shard);
                *damaged = true;
                self.when_committed(vec![Effect::Alarm(detail)])
            }
            Finished::Busy | Finished::Unknown { .. } => vec![Effect::Commit(shard)],
        }
    }

    pub(super) fn on_rolled_back(&mut self, shard: ShardTag, finished: Finished) -> Vec<Effect> {
        let State::Aborting { left, .. } = &mut self.state else {
            return Vec::new();
        };
        if !left.contains(&shard) {
            return Vec::new();
        }
        match finished {
            Finished::Done => {
                left.remove(&shard);
                self.when_aborted(Vec::new())
            }
            Finished::Damaged { detail } => {
                left.remove(&shard);
                self.when_aborted(vec![Effect::Alarm(detail)])
            }
            Finished::Busy | Finished::Unknown { .. } => vec![Effect::Rollback(shard)],
        }
    }

    /// An abort that could not be recorded is not told: the txid is still open.
    pub(super) fn on_recorded(&mut self, answer: RecordAnswer) -> Vec<Effect> {
        let State::Aborting { recording, .. } = &mut self.state else {
            return Vec::new();
        };
        let recording = std::mem::take(recording);
        let unrecorded = |why: Refusal| vec![Verdict::Refused(why); recording.len()];
        let verdicts = match answer {
            RecordAnswer::Recorded(records) if records.len() == recording.len() => {
                records.into_iter().map(verdict).collect()
            }
            RecordAnswer::Recorded(_) | RecordAnswer::Unknown { .. } => unrecorded(Refusal::new(
                RefusalCode::ShardUnavailable,
                "the transaction failed, and home could not record that",
            )),
            RecordAnswer::Refused(why) => unrecorded(why),
        };
        let answers = recording.into_iter().zip(verdicts);
        let effects = answers.map(|(index, verdict)| Effect::Answer(index, verdict));
        let effects = effects.collect();
        self.when_aborted(effects)
    }

    /// Rests if every branch is finished.
    pub(super) fn when_committed(&mut self, mut effects: Vec<Effect>) -> Vec<Effect> {
        let State::Committing {
            left,
            damaged,
            again,
        } = &mut self.state
        else {
            return effects;
        };
        if !left.is_empty() {
            return effects;
        }
        if !*damaged {
            effects.push(Effect::Applied);
        }
        let again = std::mem::take(again);
        self.rest(effects, again)
    }

    /// Rests if every branch is finished and every failure recorded.
    fn when_aborted(&mut self, effects: Vec<Effect>) -> Vec<Effect> {
        let State::Aborting {
            left,
            recording,
            again,
        } = &mut self.state
        else {
            return effects;
        };
        if !left.is_empty() || !recording.is_empty() {
            return effects;
        }
        let again = std::mem::take(again);
        self.rest(effects, again)
    }

    fn rest(&mut self, mut effects: Vec<Effect>, again: Vec<Rerun>) -> Vec<Effect> {
        self.state = State::Rest;
        if !again.is_empty() {
            effects.push(Effect::RunAgain(again));
        }
        effects.push(Effect::Rest);
        effects
    }
}

fn verdict(record: Recorded) -> Verdict {
    match record {
        Recorded::Aborted(reason) => Verdict::Aborted(reason),
        Recorded::Committed | Recorded::OtherContent | Recorded::OtherPrincipal => {
            Verdict::Recorded(record)
        }
    }
}

/// Every member is in exactly one of these.
#[derive(Default)]
struct Plan {
    answers: Vec<(MemberIndex, Verdict)>,
    record: Vec<(MemberIndex, AbortReason)>,
    again: Vec<Rerun>,
}

impl Plan {
    fn of(fates: Vec<Fate>, others: Others) -> Self {
        let mut plan = Self::default();
        let (mut executed, mut not_run) = (Vec::new(), Vec::new());
        let count = fates.len();
        for (index, fate) in fates.into_iter().enumerate() {
            match (fate, &others) {
                (Fate::Told(verdict), _) => plan.answers.push((index, verdict)),
                (Fate::Failed(reason), _) => plan.record.push((index, reason)),
                (Fate::Alone, _) => plan.again.extend(groups(vec![index], true)),
                (Fate::Again | Fate::NotRun, Others::Refused(why)) => {
                    plan.answers.push((index, Verdict::Refused(why.clone())));
                }
                (Fate::Again, Others::RunAgain | Others::Split) => executed.push(index),
                (Fate::NotRun, Others::RunAgain | Others::Split) => not_run.push(index),
            }
        }
        // Running the same members again in the same way would come to the same end.
        let split = others == Others::Split || executed.len() == count;
        plan.again.extend(groups(executed, split));
        let split = not_run.len() == count;
        plan.again.extend(groups(not_run, split));
        plan
    }
}

/// One group, or, without company, two halves (R10: what has no culprit is split and run again).
pub(super) fn groups(members: Vec<MemberIndex>, split: bool) -> Vec<Rerun> {
    let half = if split {
        members.len().div_ceil(2)
    } else {
        members.len()
    };
    members
        .chunks(half.max(1))
        .map(|group| Rerun {
            members: group.to_vec(),
            alone: split,
            because: contended(),
        })
        .collect()
}

pub(super) fn contended() -> Refusal {
    Refusal::new(
        RefusalCode::Contended,
        "it was run again too often: submit it again",
    )
}
