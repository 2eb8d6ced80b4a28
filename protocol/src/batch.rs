//! One two-phase commit of one batch, seen from its coordinator.
//!
//! [`Batch::start`] and [`Batch::on`] are the whole of it: an event goes in, effects come out.
//! The driver's obligations:
//!
//! 1. Execute every effect, in any order and at the same time, unless it says otherwise.
//! 2. Feed back exactly one event for each effect that asks for one. An answer that did not
//!    come is fed back as its `Unknown` value.
//! 3. Repeat [`Effect::Commit`], [`Effect::Rollback`] and [`Effect::AskRegister`] with backoff
//!    for as long as this machine emits them again.
//! 4. Tell a client only what [`Effect::Answer`] carries: it is emitted when what it says is
//!    durable, and there is no other way to express an answer (I2, I4).
//!
//! The rule that shapes it: before a decide was sent, the coordinator may abort by itself, since
//! nobody else can commit the batch (I3, I8). After that, only home's answer or its register
//! ends the doubt (R5).

use std::collections::{BTreeMap, BTreeSet};

use crate::digest::MembersDigest;
use crate::digest::RequestHash;
use crate::id::Txid;
use crate::message::{
    Decided, Decision, FailedMember, Finished, KnownTxid, MemberFailure, MemberReport, NoVote,
    RecordAnswer, Recorded, RegisterAnswer, Vote, WhyAborted,
};
use crate::names::ShardTag;
use crate::outcome::{AbortReason, Refusal, RefusalCode};

/// A member's place in its batch.
pub type MemberIndex = usize;

/// What a batch is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BatchSpec {
    /// The members, in the order in which every branch runs them.
    pub members: Vec<(Txid, RequestHash)>,
    /// The shards whose branches are prepared: every writing shard but home.
    pub prepared: Vec<ShardTag>,
    /// The shards whose branches only read (R18).
    pub read_only: Vec<ShardTag>,
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A branch has voted.
    Voted {
        /// Which.
        shard: ShardTag,
        /// How.
        vote: Vote,
    },
    /// Home has answered the decide.
    Decided(Decided),
    /// Home's register has been read.
    Register(RegisterAnswer),
    /// A branch has been finished, or not.
    Finished {
        /// Which.
        shard: ShardTag,
        /// How it went.
        finished: Finished,
    },
    /// Aborts have been recorded, or not.
    Recorded(RecordAnswer),
}

/// Something to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Prepare the branch on this shard; answered by [`Event::Voted`].
    Prepare(ShardTag),
    /// Decide at home; answered by [`Event::Decided`]. Sent at most once per batch.
    Decide {
        /// The members that every branch executed; home runs exactly these (R2).
        members: Vec<MemberIndex>,
        /// The members that were left out, whose aborts ride along.
        failed: Vec<FailedMember>,
    },
    /// Force and read home's register (R5, R7); answered by [`Event::Register`].
    AskRegister,
    /// `COMMIT PREPARED` on this shard; answered by [`Event::Finished`].
    Commit(ShardTag),
    /// `ROLLBACK PREPARED` on this shard; answered by [`Event::Finished`].
    Rollback(ShardTag),
    /// Record these aborts at home; answered by [`Event::Recorded`].
    RecordAborts(Vec<FailedMember>),
    /// Tell this member.
    Answer(MemberIndex, Verdict),
    /// Every shard shows what was told (for `ack = applied`).
    Applied,
    /// Run these members again, each group as a batch of its own, under new batch ids.
    RunAgain(Vec<Rerun>),
    /// A person must look: the shards contradict a decision, or the register cannot tell.
    Alarm(String),
    /// This batch is over.
    Rest,
}

/// Members to be run again together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rerun {
    /// Who.
    pub members: Vec<MemberIndex>,
    /// They must not share a batch with anybody else (R10).
    pub alone: bool,
    /// What kept them from being decided, should this have been the last try.
    pub because: Refusal,
}

/// What a member's client may be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Committed.
    Committed,
    /// Aborted, and recorded.
    Aborted(AbortReason),
    /// This submission did nothing.
    Refused(Refusal),
    /// Its txid has a recorded outcome already (R8).
    Recorded(Recorded),
    /// Nobody can know now: a person must act.
    InDoubt(String),
}

/// Where a batch stands.
#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    Preparing {
        votes: BTreeMap<ShardTag, Vote>,
    },
    Deciding {
        survivors: Survivors,
    },
    Resolving {
        survivors: Survivors,
    },
    Committing {
        left: BTreeSet<ShardTag>,
        again: Vec<Rerun>,
    },
    RollingBack {
        left: BTreeSet<ShardTag>,
        then: Afterwards,
    },
    Recording {
        failed: Vec<MemberIndex>,
        then: Afterwards,
    },
    Stuck,
    Rest,
}

/// What remains to be said and done once nothing is prepared any more.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Afterwards {
    answers: Vec<(MemberIndex, Verdict)>,
    record: Vec<FailedMember>,
    again: Vec<Rerun>,
}

/// What the branches agreed on.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Survivors {
    executed: Vec<MemberIndex>,
    failed: Vec<(MemberIndex, AbortReason)>,
    refused: Vec<(MemberIndex, Refusal)>,
    not_run: Vec<MemberIndex>,
}

/// One batch on its way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    spec: BatchSpec,
    state: State,
}

impl Batch {
    /// Begins: prepares every branch but home's, or decides at once if there is none.
    pub fn start(spec: BatchSpec) -> (Self, Vec<Effect>) {
        assert!(!spec.members.is_empty(), "a batch has members");
        let effects: Vec<Effect> = spec
            .prepared
            .iter()
            .chain(&spec.read_only)
            .map(|shard| Effect::Prepare(*shard))
            .collect();
        let mut batch = Self {
            spec,
            state: State::Preparing {
                votes: BTreeMap::new(),
            },
        };
        if effects.is_empty() {
            let decide = batch.decide(batch.everybody());
            return (batch, decide);
        }
        (batch, effects)
    }

    /// Takes an event. An event that the state does not wait for (a late duplicate) changes
    /// nothing.
    pub fn on(&mut self, event: Event) -> Vec<Effect> {
        match (&mut self.state, event) {
            (State::Preparing { votes }, Event::Voted { shard, vote }) => {
                votes.entry(shard).or_insert(vote);
                self.count_votes()
            }
            (State::Deciding { .. }, Event::Decided(decided)) => self.on_decided(decided),
            (State::Resolving { .. }, Event::Register(answer)) => self.on_register(answer),
            (State::Committing { left, .. }, Event::Finished { shard, finished }) => match finished
            {
                Finished::Done => {
                    left.remove(&shard);
                    self.when_committed(Vec::new())
                }
                Finished::Damaged { detail } => {
                    left.remove(&shard);
                    self.when_committed(vec![Effect::Alarm(detail)])
                }
                Finished::Busy | Finished::Unknown { .. } => vec![Effect::Commit(shard)],
            },
            (State::RollingBack { left, .. }, Event::Finished { shard, finished }) => {
                match finished {
                    Finished::Done => {
                        left.remove(&shard);
                        self.when_rolled_back(Vec::new())
                    }
                    Finished::Damaged { detail } => {
                        left.remove(&shard);
                        self.when_rolled_back(vec![Effect::Alarm(detail)])
                    }
                    Finished::Busy | Finished::Unknown { .. } => vec![Effect::Rollback(shard)],
                }
            }
            (State::Recording { .. }, Event::Recorded(answer)) => self.on_recorded(answer),
            (
                State::Preparing { .. }
                | State::Deciding { .. }
                | State::Resolving { .. }
                | State::Committing { .. }
                | State::RollingBack { .. }
                | State::Recording { .. }
                | State::Stuck
                | State::Rest,
                Event::Voted { .. }
                | Event::Decided(_)
                | Event::Register(_)
                | Event::Finished { .. }
                | Event::Recorded(_),
            ) => Vec::new(),
        }
    }

    /// Whether a decide may have been sent and its outcome is not known: the client's answer at
    /// this moment would be "in doubt".
    pub fn is_in_doubt(&self) -> bool {
        matches!(
            self.state,
            State::Deciding { .. } | State::Resolving { .. } | State::Stuck
        )
    }

    fn everybody(&self) -> Survivors {
        Survivors {
            executed: (0..self.spec.members.len()).collect(),
            failed: Vec::new(),
            refused: Vec::new(),
            not_run: Vec::new(),
        }
    }

    // ---- votes ----

    fn count_votes(&mut self) -> Vec<Effect> {
        let State::Preparing { votes } = &self.state else {
            return Vec::new();
        };
        let expected = self.spec.prepared.len() + self.spec.read_only.len();
        if votes.len() < expected {
            return Vec::new();
        }
        let votes = votes.clone();
        // I3: a decide needs a yes from every prepared branch, and one executed set (R2).
        match self.agreement(&votes) {
            Some(survivors) if !survivors.executed.is_empty() => self.decide(survivors),
            _ => {
                let then = self.after_no(&votes);
                let left = votes
                    .iter()
                    .filter(|(_, vote)| matches!(vote, Vote::Yes { .. } | Vote::Unknown { .. }))
                    .map(|(shard, _)| *shard)
                    .filter(|shard| self.spec.prepared.contains(shard))
                    .collect();
                self.roll_back(left, then)
            }
        }
    }

    /// The set that every branch executed, if they all executed the same one.
    fn agreement(&self, votes: &BTreeMap<ShardTag, Vote>) -> Option<Survivors> {
        let mut agreed: Option<Vec<MemberIndex>> = None;
        let mut survivors = Survivors {
            executed: vec![],
            failed: vec![],
            refused: vec![],
            not_run: vec![],
        };
        for (shard, vote) in votes {
            let reports = match vote {
                Vote::Yes {
                    digest, reports, ..
                } if self.spec.prepared.contains(shard) => {
                    (self.digest(reports) == Some(*digest)).then_some(reports)?
                }
                Vote::ReadOnly { reports } if self.spec.read_only.contains(shard) => reports,
                Vote::Yes { .. } | Vote::ReadOnly { .. } | Vote::No(_) | Vote::Unknown { .. } => {
                    return None;
                }
            };
            if reports.len() != self.spec.members.len() {
                return None;
            }
            let executed = executed(reports);
            match &agreed {
                None => agreed = Some(executed),
                Some(other) if *other == executed => continue,
                Some(_) => return None,
            }
            survivors.take_left_out(reports);
        }
        survivors.executed = agreed?;
        Some(survivors)
    }

    fn digest(&self, reports: &[MemberReport]) -> Option<MembersDigest> {
        (reports.len() == self.spec.members.len()).then(|| {
            MembersDigest::of(
                executed(reports)
                    .into_iter()
                    .map(|index| self.spec.members[index].0),
            )
        })
    }

    /// Nothing will be committed: who is told what, and who runs again.
    fn after_no(&self, votes: &BTreeMap<ShardTag, Vote>) -> Afterwards {
        let count = self.spec.members.len();
        let mut fates: Vec<Fate> = vec![Fate::Again; count];
        let mut refusal = None;
        let mut split = false;
        for vote in votes.values() {
            match vote {
                Vote::Yes { reports, .. }
                | Vote::ReadOnly { reports }
                | Vote::No(NoVote::NoneExecuted { reports }) => judge(&mut fates, reports),
                Vote::No(NoVote::NoCulprit(MemberFailure::Failed(reason))) if count == 1 => {
                    fates[0] = Fate::Failed(reason.clone());
                }
                Vote::No(NoVote::NoCulprit(_)) if count > 1 => split = true,
                Vote::No(NoVote::NoCulprit(MemberFailure::Failed(_))) => split = true,
                Vote::No(NoVote::NoCulprit(MemberFailure::Refused(why)) | NoVote::Refused(why)) => {
                    refusal = Some(why.clone())
                }
                Vote::Unknown { detail } => {
                    let message = format!("a vote did not arrive: {detail}");
                    refusal = Some(Refusal::new(RefusalCode::ShardUnavailable, message));
                }
            }
        }
        self.afterwards(fates, refusal, split)
    }

    /// Turns fates into answers and reruns. With `refusal`, those without a fate of their own
    /// hear it; else they run again, in halves if no culprit could be found (R10).
    fn afterwards(&self, fates: Vec<Fate>, refusal: Option<Refusal>, split: bool) -> Afterwards {
        let mut then = Afterwards::default();
        let mut again = Vec::new();
        for (index, fate) in fates.into_iter().enumerate() {
            match (fate, &refusal) {
                (Fate::Failed(reason), _) => then.record.push(self.failed(index, reason)),
                (Fate::Alone, _) => then.again.push(Rerun {
                    members: vec![index],
                    alone: true,
                    because: contended(),
                }),
                (Fate::Refused(why), _) => then.answers.push((index, Verdict::Refused(why))),
                (Fate::Again, Some(why)) => {
                    then.answers.push((index, Verdict::Refused(why.clone())));
                }
                (Fate::Again, None) => again.push(index),
            }
        }
        then.again.extend(groups(again, split));
        then
    }

    // ---- decision ----

    fn decide(&mut self, survivors: Survivors) -> Vec<Effect> {
        let members = survivors.executed.clone();
        let failed = survivors
            .failed
            .iter()
            .map(|(index, reason)| self.failed(*index, reason.clone()))
            .collect();
        self.state = State::Deciding { survivors };
        vec![Effect::Decide { members, failed }]
    }

    fn on_decided(&mut self, decided: Decided) -> Vec<Effect> {
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

    fn on_register(&mut self, answer: RegisterAnswer) -> Vec<Effect> {
        let State::Resolving { survivors } = &self.state else {
            return Vec::new();
        };
        let survivors = survivors.clone();
        match answer {
            RegisterAnswer::Decision(Decision::Commit { prepared }) => {
                let mut effects = Vec::new();
                if !self
                    .spec
                    .prepared
                    .iter()
                    .all(|shard| prepared.contains(shard))
                {
                    effects.push(Effect::Alarm(format!(
                        "the decision names shards {prepared:?}, the batch has {:?}",
                        self.spec.prepared
                    )));
                }
                effects.extend(self.commit(survivors));
                effects
            }
            RegisterAnswer::Decision(Decision::Abort) => {
                let why = Refusal::new(
                    RefusalCode::Contended,
                    "home was lost sight of while deciding, and the batch was aborted",
                );
                self.after_abort(&survivors, WhyAborted::Refused(why))
            }
            RegisterAnswer::NoRow | RegisterAnswer::Unreachable { .. } => vec![Effect::AskRegister],
            RegisterAnswer::BelowFloor => {
                self.state = State::Stuck;
                let detail = "home has dropped rows of this age: the outcome is not known";
                let mut effects = vec![Effect::Alarm(detail.to_owned())];
                let everybody = 0..self.spec.members.len();
                effects.extend(
                    everybody.map(|index| Effect::Answer(index, Verdict::InDoubt(detail.into()))),
                );
                effects.push(Effect::Rest);
                effects
            }
        }
    }

    /// I8: the decision is durable; only now may anything be committed or told.
    fn commit(&mut self, survivors: Survivors) -> Vec<Effect> {
        let Survivors {
            executed,
            failed,
            refused,
            not_run,
        } = survivors;
        let mut effects: Vec<Effect> = self
            .spec
            .prepared
            .iter()
            .map(|shard| Effect::Commit(*shard))
            .collect();
        let answer = |(index, verdict)| Effect::Answer(index, verdict);
        effects.extend(
            executed
                .into_iter()
                .map(|index| answer((index, Verdict::Committed))),
        );
        effects.extend(
            failed
                .into_iter()
                .map(|(index, why)| answer((index, Verdict::Aborted(why)))),
        );
        effects.extend(
            refused
                .into_iter()
                .map(|(index, why)| answer((index, Verdict::Refused(why)))),
        );
        let left = self.spec.prepared.iter().copied().collect();
        self.state = State::Committing {
            left,
            again: groups(not_run, false),
        };
        self.when_committed(effects)
    }

    fn when_committed(&mut self, mut effects: Vec<Effect>) -> Vec<Effect> {
        let State::Committing { left, again } = &mut self.state else {
            return effects;
        };
        if left.is_empty() {
            effects.push(Effect::Applied);
            if !again.is_empty() {
                effects.push(Effect::RunAgain(std::mem::take(again)));
            }
            effects.push(Effect::Rest);
            self.state = State::Rest;
        }
        effects
    }

    /// An abort row for this batch has been committed and read back (R5).
    fn after_abort(&mut self, survivors: &Survivors, why: WhyAborted) -> Vec<Effect> {
        let mut fates = vec![Fate::Again; self.spec.members.len()];
        let (mut refusal, mut split) = (None, false);
        let mut answers = Vec::new();
        match why {
            WhyAborted::Member {
                index,
                failure,
                recorded,
            } => {
                let Some(member) = survivors.executed.get(index).copied() else {
                    return self.after_abort(survivors, WhyAborted::Refused(contended()));
                };
                let is_first = index == 0;
                match failure {
                    MemberFailure::Failed(reason) if recorded => {
                        answers.push((member, Verdict::Aborted(reason)));
                    }
                    MemberFailure::Failed(reason) if is_first => {
                        fates[member] = Fate::Failed(reason);
                    }
                    MemberFailure::Failed(_) => fates[member] = Fate::Alone,
                    MemberFailure::Refused(why) => fates[member] = Fate::Refused(why),
                }
            }
            WhyAborted::Known(known) => answers.extend(self.known(known)),
            WhyAborted::NoCulprit { failure, recorded } => match (failure, &survivors.executed[..])
            {
                (MemberFailure::Failed(reason), [only]) if recorded => {
                    answers.push((*only, Verdict::Aborted(reason)));
                }
                (MemberFailure::Failed(reason), [only]) => fates[*only] = Fate::Failed(reason),
                (MemberFailure::Refused(why), [only]) => fates[*only] = Fate::Refused(why),
                (_, _) => split = true,
            },
            WhyAborted::Refused(why) => refusal = Some(why),
        }
        // What a branch said of those it left out holds only if what they saw committed (R10);
        // it did not, so they run again alone.
        for (index, _) in &survivors.failed {
            fates[*index] = Fate::Alone;
        }
        let mut then = self.afterwards(fates, refusal, split);
        for (index, verdict) in answers {
            then.forget(index);
            then.answers.push((index, verdict));
        }
        let left = self.spec.prepared.iter().copied().collect();
        self.roll_back(left, then)
    }

    fn known(&self, known: Vec<KnownTxid>) -> Vec<(MemberIndex, Verdict)> {
        known
            .into_iter()
            .filter_map(|KnownTxid { txid, record }| {
                let index = self
                    .spec
                    .members
                    .iter()
                    .position(|(member, _)| *member == txid)?;
                Some((index, Verdict::Recorded(record)))
            })
            .collect()
    }

    // ---- nothing is committed ----

    fn roll_back(&mut self, left: BTreeSet<ShardTag>, then: Afterwards) -> Vec<Effect> {
        let effects = left.iter().map(|shard| Effect::Rollback(*shard)).collect();
        self.state = State::RollingBack { left, then };
        self.when_rolled_back(effects)
    }

    /// Members run again only when their old branches hold no locks any more (R12).
    fn when_rolled_back(&mut self, mut effects: Vec<Effect>) -> Vec<Effect> {
        let State::RollingBack { left, then } = &mut self.state else {
            return effects;
        };
        if !left.is_empty() {
            return effects;
        }
        let then = std::mem::take(then);
        if then.record.is_empty() {
            effects.extend(self.rest(then));
            return effects;
        }
        let record = then.record.clone();
        let failed = record
            .iter()
            .filter_map(|failed| self.index(failed.txid))
            .collect();
        self.state = State::Recording { failed, then };
        effects.push(Effect::RecordAborts(record));
        effects
    }

    /// An abort that could not be recorded was not told: the txid is still open.
    fn on_recorded(&mut self, answer: RecordAnswer) -> Vec<Effect> {
        let State::Recording { failed, then } = &mut self.state else {
            return Vec::new();
        };
        let (failed, mut then) = (std::mem::take(failed), std::mem::take(then));
        match answer {
            RecordAnswer::Recorded(records) if records.len() == failed.len() => {
                let each = failed.into_iter().zip(records);
                then.answers
                    .extend(each.map(|(index, record)| match record {
                        Recorded::Aborted(reason) => (index, Verdict::Aborted(reason)),
                        other => (index, Verdict::Recorded(other)),
                    }));
            }
            RecordAnswer::Recorded(_) | RecordAnswer::Unknown { .. } => {
                let why = Refusal::new(
                    RefusalCode::ShardUnavailable,
                    "the transaction failed, and home could not record that",
                );
                let refused = |index| (index, Verdict::Refused(why.clone()));
                then.answers.extend(failed.into_iter().map(refused));
            }
            RecordAnswer::Refused(why) => {
                let refused = |index| (index, Verdict::Refused(why.clone()));
                then.answers.extend(failed.into_iter().map(refused));
            }
        }
        self.rest(then)
    }

    fn rest(&mut self, then: Afterwards) -> Vec<Effect> {
        self.state = State::Rest;
        let answers = then.answers.into_iter();
        let mut effects: Vec<Effect> = answers
            .map(|(index, verdict)| Effect::Answer(index, verdict))
            .collect();
        if !then.again.is_empty() {
            effects.push(Effect::RunAgain(then.again));
        }
        effects.push(Effect::Rest);
        effects
    }

    fn index(&self, txid: Txid) -> Option<MemberIndex> {
        self.spec
            .members
            .iter()
            .position(|(member, _)| *member == txid)
    }

    fn failed(&self, index: MemberIndex, reason: AbortReason) -> FailedMember {
        let (txid, request_hash) = self.spec.members[index];
        FailedMember {
            txid,
            request_hash,
            reason,
        }
    }
}

/// What becomes of a member of a batch that does not commit.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Fate {
    /// Runs again.
    Again,
    /// Runs again without company: its failure may be its neighbours' doing.
    Alone,
    /// Its failure is its own: record and tell it.
    Failed(AbortReason),
    /// May be submitted again.
    Refused(Refusal),
}

/// R10: a failure is told only if its member ran first or alone. The batch does not commit, so
/// a member that ran after others has seen what never was.
fn judge(fates: &mut [Fate], reports: &[MemberReport]) {
    let mut seen_others = false;
    for (fate, report) in fates.iter_mut().zip(reports) {
        match report {
            MemberReport::Executed => seen_others = true,
            MemberReport::Failed(_) if seen_others => *fate = Fate::Alone,
            MemberReport::Failed(reason) => *fate = Fate::Failed(reason.clone()),
            MemberReport::Refused(why) => {
                if *fate == Fate::Again {
                    *fate = Fate::Refused(why.clone());
                }
            }
            MemberReport::NotRun => {}
        }
    }
}

fn executed(reports: &[MemberReport]) -> Vec<MemberIndex> {
    let each = reports.iter().enumerate();
    each.filter(|(_, report)| **report == MemberReport::Executed)
        .map(|(index, _)| index)
        .collect()
}

/// One group, or two halves (R10: what has no culprit is split and run again).
fn groups(members: Vec<MemberIndex>, split: bool) -> Vec<Rerun> {
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

fn contended() -> Refusal {
    Refusal::new(
        RefusalCode::Contended,
        "it was run again too often: submit it again",
    )
}

impl Survivors {
    fn take_left_out(&mut self, reports: &[MemberReport]) {
        for (index, report) in reports.iter().enumerate() {
            match report {
                MemberReport::Executed => {}
                MemberReport::Failed(reason) => self.failed.push((index, reason.clone())),
                MemberReport::Refused(why) => self.refused.push((index, why.clone())),
                MemberReport::NotRun => self.not_run.push(index),
            }
        }
    }
}

impl Afterwards {
    /// Takes a member out of everything planned for it.
    fn forget(&mut self, member: MemberIndex) {
        self.answers.retain(|(index, _)| *index != member);
        for rerun in &mut self.again {
            rerun.members.retain(|index| *index != member);
        }
        self.again.retain(|rerun| !rerun.members.is_empty());
    }
}

#[cfg(test)]
#[path = "batch_tests.rs"]
mod tests;
