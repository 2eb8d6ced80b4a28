//! Drives batches over the fake shards, loses, doubles and delays messages, and checks every
//! effect when it is emitted.

use std::collections::{BTreeMap, BTreeSet};

use super::super::*;
use super::shards::{BatchNumber, Branch, Row, Shards, Tape, Who};

/// More than any draw needs: a world that is not over by then never will be.
const STEPS_MAX: usize = 50_000;

#[derive(Debug)]
struct Run {
    machine: Batch,
    members: Vec<Who>,
    to_do: Vec<Effect>,
    fates: BTreeSet<MemberIndex>,
    rested: bool,
}

#[derive(Debug)]
pub(super) struct World {
    pub(super) shards: Shards,
    /// What every submission of a transaction heard, and in which batch.
    pub(super) heard: BTreeMap<Who, Vec<(BatchNumber, Verdict)>>,
    prepared: Vec<ShardTag>,
    read_only: Vec<ShardTag>,
    home_first: bool,
    tape: Tape,
    runs: Vec<Run>,
    waiting: Vec<Vec<Who>>,
    zombies: Vec<(BatchNumber, Effect)>,
    late: Vec<(BatchNumber, Event)>,
}

impl World {
    pub(super) fn new(
        shards: Shards,
        prepared: Vec<ShardTag>,
        read_only: Vec<ShardTag>,
        submissions: Vec<Vec<Who>>,
        home_first: bool,
        tape: Tape,
    ) -> Self {
        Self {
            shards,
            heard: BTreeMap::new(),
            prepared,
            read_only,
            home_first,
            tape,
            runs: Vec::new(),
            waiting: submissions,
            zombies: Vec::new(),
            late: Vec::new(),
        }
    }

    /// To the end: every batch rests, whatever was late has arrived, and no branch is prepared.
    pub(super) fn run(&mut self) {
        let mut steps = 0;
        while self.step() {
            steps += 1;
            assert!(steps < STEPS_MAX, "I7: it does not end: {self:?}");
        }
        for (batch, effect) in std::mem::take(&mut self.zombies) {
            self.execute(batch, &effect, true);
        }
        for (batch, event) in std::mem::take(&mut self.late) {
            assert_eq!(self.runs[batch].machine.on(event), [], "it is over");
        }
        for (batch, shard) in self.prepared_branches() {
            self.shards.scan(batch, shard);
        }
        assert!(self.runs.iter().all(|run| run.rested), "I7: {self:?}");
    }

    fn step(&mut self) -> bool {
        self.background();
        let busy: Vec<BatchNumber> = (0..self.runs.len())
            .filter(|batch| !self.runs[*batch].to_do.is_empty())
            .collect();
        if !self.waiting.is_empty() && (busy.is_empty() || self.tape.one_in(3)) {
            let members = self.waiting.remove(0);
            self.start(members);
            return true;
        }
        if busy.is_empty() {
            return false;
        }
        let batch = busy[self.tape.pick(busy.len())];
        let choices = self.runs[batch].to_do.len();
        let chosen = self.tape.pick(choices);
        let effect = self.runs[batch].to_do.remove(chosen);
        self.send(batch, effect);
        true
    }

    /// What others do meanwhile.
    fn background(&mut self) {
        if self.tape.one_in(12) && !self.runs.is_empty() {
            let batch = self.tape.pick(self.runs.len());
            self.shards.resolve(batch);
        }
        let branches = self.prepared_branches();
        if self.tape.one_in(12) && !branches.is_empty() {
            let (batch, shard) = branches[self.tape.pick(branches.len())];
            self.shards.scan(batch, shard);
        }
        if self.tape.one_in(6) && !self.zombies.is_empty() {
            let chosen = self.tape.pick(self.zombies.len());
            let (batch, effect) = self.zombies.remove(chosen);
            self.execute(batch, &effect, true);
        }
        if self.tape.one_in(6) && !self.late.is_empty() {
            let chosen = self.tape.pick(self.late.len());
            let (batch, event) = self.late.remove(chosen);
            self.feed(batch, event);
        }
    }

    fn prepared_branches(&self) -> Vec<(BatchNumber, ShardTag)> {
        let branches = self.shards.branches.iter();
        branches
            .filter(|(_, branch)| matches!(branch, Branch::Prepared { .. }))
            .map(|(key, _)| *key)
            .collect()
    }

    fn start(&mut self, members: Vec<Who>) {
        let spec = BatchSpec {
            members: members
                .iter()
                .map(|who| (txid(*who), RequestHash([7; 32])))
                .collect(),
            prepared: self.prepared.clone(),
            read_only: self.read_only.clone(),
            home_first: self.home_first,
        };
        let (machine, effects) = Batch::start(spec);
        self.runs.push(Run {
            machine,
            members,
            to_do: Vec::new(),
            fates: BTreeSet::new(),
            rested: false,
        });
        self.take(self.runs.len() - 1, effects);
    }

    /// Sends a message, which may meet with a fault.
    fn send(&mut self, batch: BatchNumber, effect: Effect) {
        let unknown = unknown(&effect);
        match self.tape.pick(12) {
            8 => self.feed(batch, unknown),
            9 => {
                let event = self.execute(batch, &effect, false);
                self.late.push((batch, event));
                self.feed(batch, unknown);
            }
            10 => {
                self.zombies.push((batch, effect));
                self.feed(batch, unknown);
            }
            11 => {
                let event = self.execute(batch, &effect, false);
                self.execute(batch, &effect, true);
                self.late.push((batch, event.clone()));
                self.feed(batch, event);
            }
            _ => {
                let event = self.execute(batch, &effect, false);
                self.feed(batch, event);
            }
        }
    }

    fn feed(&mut self, batch: BatchNumber, event: Event) {
        let effects = self.runs[batch].machine.on(event);
        self.take(batch, effects);
    }

    /// What the shards do with a message.
    fn execute(&mut self, batch: BatchNumber, effect: &Effect, zombie: bool) -> Event {
        let members = &self.runs[batch].members;
        let who = |failed: &[FailedMember]| -> Vec<Who> {
            let each = failed.iter().map(|failed| failed.txid);
            each.map(|failed| (0..).find(|who| txid(*who) == failed).expect("known"))
                .collect()
        };
        match effect {
            Effect::WorkFirst => Event::WorkedFirst {
                left_out: self.shards.work_first(members, &mut self.tape),
            },
            Effect::Prepare(shard) => {
                let key = (batch, *shard);
                let asked = self.runs[batch].machine.asked();
                let asked: Vec<Who> = asked.map(|index| members[index]).collect();
                let vote = self.shards.prepare(key, &asked, zombie, &mut self.tape);
                voted(*shard, vote)
            }
            Effect::Decide {
                members: executed,
                failed,
            } => {
                let executed: Vec<Who> = executed.iter().map(|index| members[*index]).collect();
                let tape = &mut self.tape;
                let failed = who(failed);
                let prepared = &self.prepared;
                let decided = self
                    .shards
                    .decide(batch, prepared, &executed, &failed, tape);
                Event::Decided(decided)
            }
            Effect::AskRegister => Event::Register(self.shards.resolve(batch)),
            Effect::Commit(shard) => finished(*shard, self.shards.commit(batch, *shard)),
            Effect::Rollback(shard) => finished(*shard, self.shards.roll_back(batch, *shard)),
            Effect::RecordAborts(failed) => {
                Event::Recorded(self.shards.record_aborts(&who(failed)))
            }
            Effect::Answer(..)
            | Effect::Applied
            | Effect::RunAgain(_)
            | Effect::Alarm(_)
            | Effect::Rest => panic!("not a message: {effect:?}"),
        }
    }

    // ---- checks at the moment of an effect ----

    fn take(&mut self, batch: BatchNumber, effects: Vec<Effect>) {
        for effect in effects {
            assert!(!self.runs[batch].rested, "after rest: {effect:?}");
            match effect {
                Effect::Answer(index, verdict) => self.on_answer(batch, index, verdict),
                Effect::RunAgain(groups) => {
                    for group in groups {
                        self.on_rerun(batch, &group.members);
                    }
                }
                Effect::Applied => {
                    for shard in &self.prepared {
                        let branch = self.shards.branches.get(&(batch, *shard));
                        let applied = matches!(branch, Some(Branch::Applied { .. }));
                        assert!(applied, "{batch} is not applied on {shard}");
                    }
                }
                Effect::Rest => {
                    let run = &mut self.runs[batch];
                    run.rested = true;
                    assert_eq!(run.fates.len(), run.members.len(), "nobody is forgotten");
                }
                Effect::Alarm(detail) => panic!("nothing is wrong, but: {detail}"),
                Effect::WorkFirst
                | Effect::Prepare(_)
                | Effect::Decide { .. }
                | Effect::AskRegister
                | Effect::Commit(_)
                | Effect::Rollback(_)
                | Effect::RecordAborts(_) => self.runs[batch].to_do.push(effect),
            }
        }
    }

    fn on_answer(&mut self, batch: BatchNumber, index: MemberIndex, verdict: Verdict) {
        let first = self.runs[batch].fates.insert(index);
        assert!(first, "{batch}: member {index} has its fate already");
        let who = self.runs[batch].members[index];
        let row = self.shards.transactions.get(&who);
        let by_this_batch = match self.shards.register.get(&batch) {
            Some(Row::Commit { executed, .. }) => executed.contains(&who),
            Some(Row::Abort) | None => false,
        };
        let durable = match &verdict {
            Verdict::Committed => by_this_batch,
            Verdict::Aborted(reason) => row == Some(&Recorded::Aborted(reason.clone())),
            Verdict::Recorded(record) => row == Some(record),
            Verdict::Refused(_) => !by_this_batch,
            Verdict::InDoubt(_) => false,
        };
        assert!(
            durable,
            "I4: {who} in {batch} is told {verdict:?}: {self:?}"
        );
        self.heard.entry(who).or_default().push((batch, verdict));
    }

    fn on_rerun(&mut self, batch: BatchNumber, group: &[MemberIndex]) {
        let run = &mut self.runs[batch];
        assert!(
            group.len() < run.members.len() || group.len() == 1,
            "running the same batch again comes to the same end"
        );
        for index in group {
            assert!(run.fates.insert(*index), "member {index} has its fate");
        }
        let members = group.iter().map(|index| run.members[*index]).collect();
        let branches = self
            .shards
            .branches
            .range((batch, ShardTag(0))..=(batch, HOME));
        for (key, branch) in branches {
            let gone = matches!(
                branch,
                Branch::Applied { .. } | Branch::Prepared { zombie: true, .. }
            );
            assert!(gone, "R12: {key:?} still holds locks");
        }
        self.waiting.push(members);
    }
}

/// The answer that stands for an answer that did not come.
fn unknown(effect: &Effect) -> Event {
    let detail = "cut".to_owned();
    match effect {
        Effect::WorkFirst => Event::WorkedFirst {
            left_out: BTreeMap::new(),
        },
        Effect::Prepare(shard) => voted(*shard, Vote::Unknown { detail }),
        Effect::Decide { .. } => Event::Decided(Decided::Unknown { detail }),
        Effect::AskRegister => Event::Register(RegisterAnswer::Unreachable { detail }),
        Effect::Commit(shard) => finished(*shard, Finished::Unknown { detail }),
        Effect::Rollback(shard) => finished(*shard, Finished::Busy),
        Effect::RecordAborts(_) => Event::Recorded(RecordAnswer::Unknown { detail }),
        Effect::Answer(..)
        | Effect::Applied
        | Effect::RunAgain(_)
        | Effect::Alarm(_)
        | Effect::Rest => panic!("not a message: {effect:?}"),
    }
}
