//! Following home: from the decide to what is known about it (R5), and what follows.

use std::collections::BTreeSet;

use super::aftermath::{Fate, Others, contended, groups};
use super::{Batch, Effect, MemberIndex, State, Survivors, Verdict};
use crate::message::{
    Decided, Decision, KnownTxid, MemberFailure, MemberReport, RegisterAnswer, WhyAborted,
};
use crate::names::ShardTag;
use crate::outcome::{Refusal, RefusalCode};

impl Batch {
    /// The one decide of this batch.
    pub(super) fn decide(&mut self, survivors: Survivors) -> Vec<Effect> {
        let members = survivors.executed.clone();
        let failed = survivors
            .left_out
            .iter()
            .filter_map(|(index, report)| match report {
                MemberReport::Failed(reason) => Some(self.failed(*index, reason.clone())),
                MemberReport::Executed | MemberReport::Refused(_) | MemberReport::NotRun => None,
            })
            .collect();
        self.state = State::Deciding { survivors };
        vec![Effect::Decide { members, failed }]
    }

    pub(super) fn on_decided(&mut self, decided: Decided) -> Vec<Effect> {
        let State::Deciding { survivors } = &self.state else {
            return Vec::new();
        };
        let survivors = survivors.clone();
        match decided {
            Decided::Committed => self.commit(survivors),
            Decided::Aborted(why) => self.after_abort(&survivors, why),
            Decided::Unknown { .. } => {
                self.state = State::Resolving { survivors };
                vec![Effect::AskRegister]
            }
        }
    }

    pub(super) fn on_register(&mut self, answer: RegisterAnswer) -> Vec<Effect> {
        let State::Resolving { survivors } = &self.state else {
            return Vec::new();
        };
        let survivors = survivors.clone();
        match answer {
            RegisterAnswer::Decision(Decision::Commit { prepared }) => {
                if as_set(&prepared) == as_set(&self.spec.prepared) {
                    return self.commit(survivors);
                }
                // The participants follow the recovery table; whatever this batch did now could
                // only contradict them, and no member can be told that it is on all shards.
                self.give_up(format!(
                    "the decision names shards {prepared:?}, the batch has {:?}",
                    self.spec.prepared
                ))
            }
            RegisterAnswer::Decision(Decision::Abort) => {
                let why = Refusal::new(
                    RefusalCode::Contended,
                    "home was lost sight of while deciding, and the batch was aborted",
                );
                self.after_abort(&survivors, WhyAborted::Refused(why))
            }
            // R7: no row after the insert means try again.
            RegisterAnswer::NoRow | RegisterAnswer::Unreachable { .. } => vec![Effect::AskRegister],
            RegisterAnswer::BelowFloor => self
                .give_up("home has dropped rows of this age: the outcome is not known".to_owned()),
            // To ask on would keep this lane from everybody, and no answer would ever come (R13).
            RegisterAnswer::OtherIncarnation { detail } => {
                self.give_up(format!("the outcome is not known: {detail}"))
            }
        }
    }

    /// Only a person can tell what happened.
    fn give_up(&mut self, detail: String) -> Vec<Effect> {
        self.state = State::Stuck;
        let mut effects = vec![Effect::Alarm(detail.clone())];
        let everybody = 0..self.spec.members.len();
        effects
            .extend(everybody.map(|index| Effect::Answer(index, Verdict::InDoubt(detail.clone()))));
        effects.push(Effect::Rest);
        effects
    }

    /// I8: the decision is durable; only now may anything be committed or told. R10: the
    /// failures that rode along are told too, since all that they saw has committed.
    fn commit(&mut self, survivors: Survivors) -> Vec<Effect> {
        let prepared = self.spec.prepared.iter();
        let mut effects: Vec<Effect> = prepared.map(|shard| Effect::Commit(*shard)).collect();
        let executed = survivors.executed.into_iter();
        effects.extend(executed.map(|index| Effect::Answer(index, Verdict::Committed)));
        let mut not_run = Vec::new();
        for (index, report) in survivors.left_out {
            match report {
                MemberReport::Failed(reason) => {
                    effects.push(Effect::Answer(index, Verdict::Aborted(reason)));
                }
                MemberReport::Refused(why) => {
                    effects.push(Effect::Answer(index, Verdict::Refused(why)));
                }
                MemberReport::NotRun | MemberReport::Executed => not_run.push(index),
            }
        }
        self.state = State::Committing {
            left: as_set(&self.spec.prepared),
            damaged: false,
            again: groups(not_run, false),
        };
        self.when_committed(effects)
    }

    /// An abort row for this batch has been committed and read back (R5).
    fn after_abort(&mut self, survivors: &Survivors, why: WhyAborted) -> Vec<Effect> {
        let mut fates = self.fates(survivors);
        let mut others = Others::RunAgain;
        let mut effects = Vec::new();
        match why {
            WhyAborted::Member {
                index,
                failure,
                recorded,
                also,
            } => {
                let rehearsed = also
                    .iter()
                    .filter_map(|index| survivors.executed.get(*index));
                rehearsed.for_each(|member| fates[*member] = Fate::Alone);
                match survivors.executed.get(index) {
                    Some(&member) => fates[member] = at_home(failure, index == 0, recorded),
                    None => {
                        let count = survivors.executed.len();
                        let detail = format!("home blames member {index} of {count}");
                        effects.push(Effect::Alarm(detail));
                        others.refuse(contended());
                    }
                }
            }
            WhyAborted::Known(known) => {
                for KnownTxid { txid, record } in known {
                    if let Some(member) = self.index(txid) {
                        fates[member] = Fate::Told(Verdict::Recorded(record));
                    }
                }
            }
            WhyAborted::NoCulprit { failure, recorded } => match survivors.executed[..] {
                [only] => fates[only] = at_home(failure, true, recorded),
                _ => others.split(),
            },
            WhyAborted::Refused(why) => others.refuse(why),
        }
        let left = as_set(&self.spec.prepared);
        effects.extend(self.abort(left, fates, others));
        effects
    }

    /// What a branch said of a member's failure holds only if what the member saw committed
    /// (R10); it did not, so the member runs again alone.
    fn fates(&self, survivors: &Survivors) -> Vec<Fate> {
        let mut fates = vec![Fate::Again; self.spec.members.len()];
        for (index, report) in &survivors.left_out {
            fates[*index] = match report {
                MemberReport::Failed(_) => Fate::Alone,
                MemberReport::Refused(why) => Fate::Told(Verdict::Refused(why.clone())),
                MemberReport::NotRun => Fate::NotRun,
                MemberReport::Executed => Fate::Again,
            };
        }
        fates
    }

    fn index(&self, txid: crate::id::Txid) -> Option<MemberIndex> {
        let mut members = self.spec.members.iter();
        members.position(|(member, _)| *member == txid)
    }
}

/// R10 at home: a member that failed `first` has seen nobody's work.
fn at_home(failure: MemberFailure, first: bool, recorded: bool) -> Fate {
    match failure {
        MemberFailure::Failed(reason) if recorded => Fate::Told(Verdict::Aborted(reason)),
        MemberFailure::Failed(reason) if first => Fate::Failed(reason),
        MemberFailure::Failed(_) => Fate::Alone,
        MemberFailure::Refused(why) => Fate::Told(Verdict::Refused(why)),
    }
}

fn as_set(shards: &[ShardTag]) -> BTreeSet<ShardTag> {
    shards.iter().copied().collect()
}
