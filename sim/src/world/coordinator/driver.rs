//! Drives one batch: carries out the effects of the real machine, and feeds it events;
//! `coordinator/src/driver.rs`.

use std::collections::{BTreeMap, BTreeSet};

use gavel_protocol::batch::{Batch, BatchSpec, Effect, Event, MemberIndex, Rerun, Verdict};
use gavel_protocol::message::{
    Decided, FailedMember, FinishKind, MemberReport, Recorded, Vote, WhyAborted,
};
use gavel_protocol::{
    BatchId, DeploymentName, Gid, MembersDigest, Outcome, Refusal, RefusalCode, RequestHash,
    ShardTag, Turn,
};

use super::{AtHome, LaneKey, Run, TicketId};
use crate::world::World;
use crate::world::hole::Hole;
use crate::world::ids;
use crate::world::network::{
    Asker, Decide, Key, LeftOut, Member, Prepare, Question, Record, Reply,
};
use crate::world::setup::{Approach, place};
use crate::world::shard::{Change, Rows, TransactionRow};

impl World {
    pub(super) fn start_batch(
        &mut self,
        at: usize,
        lane: &LaneKey,
        turn: Turn,
        members: Vec<TicketId>,
    ) {
        let id = u8::try_from(at).expect("few coordinators");
        let now = self.now;
        let planned = self.setup.approach;
        let coordinator = &mut self.coordinators[at];
        let at_ms = now + coordinator.clock_ahead_ms;
        let batch = ids::batch(id, coordinator.life, coordinator.batches, at_ms);
        let approach = match lane.has_branches() {
            true => planned.of_batch(coordinator.batches),
            false => Approach::BranchesFirst,
        };
        coordinator.batches += 1;
        let hashes: Vec<RequestHash> = members
            .iter()
            .map(|id| coordinator.tickets[&id.txid].submit.hash())
            .collect();
        let away = |shards: &[ShardTag]| -> Vec<ShardTag> {
            let away = shards.iter().filter(|shard| **shard != lane.home);
            away.copied().collect()
        };
        let txids = members.iter().map(|id| id.txid);
        let (machine, effects) = Batch::start(BatchSpec {
            members: txids.zip(hashes.iter().copied()).collect(),
            prepared: away(&lane.writes),
            read_only: away(&lane.reads),
            home_first: approach == Approach::HomeFirst,
        });
        let run = Run {
            machine,
            lane: lane.clone(),
            turn,
            at_home: AtHome::Nothing,
            waiting_decide: None,
            left_out: LeftOut::new(),
            members,
            hashes,
            known: coordinator.known.clone(),
            pending: BTreeMap::new(),
            reruns: Vec::new(),
            asked: BTreeSet::new(),
            first_vote: None,
            failures: BTreeMap::new(),
        };
        self.coordinators[at].runs.insert(batch, run);
        if approach == Approach::Together {
            self.give_head_start(at, batch, Key::HeadStart);
        }
        self.carry_out_all(at, batch, effects);
    }

    /// An answer arrives, perhaps late or twice; or it did not come.
    pub(crate) fn on_batch_event(&mut self, at: usize, batch: BatchId, key: Key, event: Event) {
        let planted = self.plant_in_event(at, batch, event);
        let Some(run) = self.coordinators[at].runs.get_mut(&batch) else {
            return;
        };
        run.pending.remove(&key);
        let effects = run.machine.on(planted);
        self.settle_session(at, batch, &effects);
        self.carry_out_all(at, batch, effects);
        self.move_lane(at, batch);
    }

    fn carry_out_all(&mut self, at: usize, batch: BatchId, effects: Vec<Effect>) {
        for effect in effects {
            self.carry_out_effect(at, batch, effect);
        }
    }

    pub(super) fn carry_out_effect(&mut self, at: usize, batch: BatchId, effect: Effect) {
        match effect {
            Effect::WorkFirst => self.give_head_start(at, batch, Key::WorkFirst),
            Effect::Prepare(shard) => self.ask_prepare(at, batch, shard),
            Effect::Decide { members, failed } => self.decide_now(at, batch, members, failed),
            Effect::AskRegister => {
                let home = self.run(at, batch).lane.home;
                let incarnation = self.run(at, batch).known[place(home)];
                let question = Question::Resolve { batch, incarnation };
                self.ask(at, batch, home, Key::Register, question);
            }
            Effect::Commit(shard) => self.ask_finish(at, batch, shard, FinishKind::Commit),
            Effect::Rollback(shard) => self.ask_finish(at, batch, shard, FinishKind::Rollback),
            Effect::RecordAborts(aborts) => self.ask_record(at, batch, aborts),
            Effect::Answer(member, verdict) => {
                let ticket = self.run(at, batch).members[member];
                self.tell(at, ticket, Some(batch), outcome(verdict));
            }
            Effect::Applied => self.observe_applied(batch),
            Effect::RunAgain(groups) => self.keep_reruns(at, batch, groups),
            Effect::Alarm(detail) => {
                // Where retention is shorter than a batch may last, rows can be dropped under it.
                let may_be_dropped = self.shards.iter().any(|shard| shard.tables.dropped_ms > 0);
                if !may_be_dropped {
                    self.observer.on_alarm(&detail);
                }
            }
            Effect::Rest => self.rest(at, batch),
        }
    }

    fn run(&self, at: usize, batch: BatchId) -> &Run {
        &self.coordinators[at].runs[&batch]
    }

    // ---- questions ----

    pub(super) fn ask(
        &mut self,
        at: usize,
        batch: BatchId,
        to: ShardTag,
        key: Key,
        question: Question,
    ) {
        let now = self.now;
        let coordinator = &mut self.coordinators[at];
        let asker = Asker::Batch {
            coordinator: u8::try_from(at).expect("few coordinators"),
            life: coordinator.life,
            batch,
            key,
        };
        let mut not_before = 0;
        if let Some(run) = coordinator.runs.get_mut(&batch) {
            run.pending.insert(key, now);
            if let Some(timers) = &self.setup.timers
                && !run.asked.insert(key)
            {
                not_before = now + timers.retry_ms;
            }
        }
        self.ask_from_coordinator(at, to, asker, question, not_before);
    }

    fn ask_prepare(&mut self, at: usize, batch: BatchId, shard: ShardTag) {
        let run = self.run(at, batch);
        let coordinator = &self.coordinators[at];
        let id = u8::try_from(at).expect("few coordinators");
        let prepares = self.setup.has(Hole::ReadersPrepare);
        let prepare = Prepare {
            gid: self.gid(at, batch, shard),
            incarnation: run.known[place(shard)],
            driver: ids::driver(id, coordinator.life),
            writes: run.lane.writes.contains(&shard) || prepares,
            members: run
                .machine
                .asked()
                .map(|member| run.member(member))
                .collect(),
        };
        self.ask(
            at,
            batch,
            shard,
            Key::Prepare(shard),
            Question::Prepare(prepare),
        );
    }

    pub(super) fn decide_message(
        &self,
        at: usize,
        batch: BatchId,
        members: &[MemberIndex],
        failed: Vec<FailedMember>,
    ) -> Decide {
        let run = self.run(at, batch);
        Decide {
            batch,
            incarnation: run.known[place(run.lane.home)],
            prepared: run.prepared(),
            principal: run.lane.principal,
            members: members.iter().map(|member| run.member(*member)).collect(),
            failed,
        }
    }

    pub(super) fn ask_decide(
        &mut self,
        at: usize,
        batch: BatchId,
        members: &[MemberIndex],
        failed: Vec<FailedMember>,
    ) {
        let decide = self.decide_message(at, batch, members, failed);
        let run = self.run(at, batch);
        let (home, prepared) = (run.lane.home, run.prepared());
        if self.setup.has(Hole::ToldBeforeDecision) {
            let told: Vec<TicketId> = members.iter().map(|member| run.members[*member]).collect();
            for ticket in told {
                let outcome = Outcome::Committed { applied: false };
                self.tell(at, ticket, Some(batch), outcome);
            }
        }
        if self.setup.has(Hole::CommitBeforeDecision) {
            for shard in prepared {
                self.ask_finish(at, batch, shard, FinishKind::Commit);
            }
        }
        self.ask(at, batch, home, Key::Decide, Question::Decide(decide));
    }

    fn ask_finish(&mut self, at: usize, batch: BatchId, shard: ShardTag, kind: FinishKind) {
        let gid = self.gid(at, batch, shard);
        let key = match kind {
            FinishKind::Commit => Key::Commit(shard),
            FinishKind::Rollback => Key::Rollback(shard),
        };
        self.ask(at, batch, shard, key, Question::Finish { gid, kind });
    }

    fn ask_record(&mut self, at: usize, batch: BatchId, aborts: Vec<FailedMember>) {
        let run = self.run(at, batch);
        let (home, principal) = (run.lane.home, run.lane.principal);
        let record = Record {
            batch: Some(batch),
            incarnation: self.run(at, batch).known[place(home)],
            principal,
            aborts,
        };
        self.ask(at, batch, home, Key::Record, Question::Record(record));
    }

    fn gid(&self, at: usize, batch: BatchId, shard: ShardTag) -> Gid {
        let home = self.run(at, batch).lane.home;
        Gid {
            deployment: deployment(),
            home,
            home_incarnation: self.run(at, batch).known[place(home)],
            batch,
            shard,
        }
    }

    // ---- holes around the machine ----

    /// What the machine is made to believe.
    fn plant_in_event(&mut self, at: usize, batch: BatchId, event: Event) -> Event {
        let (Some(run), Some(hole)) = (self.coordinators[at].runs.get_mut(&batch), self.setup.hole)
        else {
            return event;
        };
        match (hole, event) {
            (Hole::UnknownIsAborted, Event::Decided(Decided::Unknown { .. })) => {
                let why = Refusal::new(RefusalCode::Contended, "planted");
                Event::Decided(Decided::Aborted(WhyAborted::Refused(why)))
            }
            (
                Hole::SilenceIsYes,
                Event::Voted {
                    shard,
                    vote: Vote::Unknown { .. },
                },
            ) => Event::Voted {
                shard,
                vote: run.everybody_executed(),
            },
            (
                Hole::UnequalSets,
                Event::Voted {
                    shard,
                    vote: vote @ Vote::Yes { .. },
                },
            ) => {
                let vote = run.first_vote.get_or_insert(vote).clone();
                Event::Voted { shard, vote }
            }
            (Hole::TellsInCompany, Event::Voted { shard, vote }) => {
                run.note_failures(&vote);
                Event::Voted { shard, vote }
            }
            (_, event) => event,
        }
    }

    /// R10 switched off: the failure is recorded at once, as if home had been asked to.
    fn tells_in_company(&self, home: usize) -> bool {
        let records_at_once = self.shards[home].up && !self.setup.standby;
        self.setup.has(Hole::TellsInCompany) && records_at_once
    }

    fn keep_reruns(&mut self, at: usize, batch: BatchId, groups: Vec<Rerun>) {
        for group in groups {
            let home = place(self.run(at, batch).lane.home);
            let alone = match &group.members[..] {
                [only] if self.tells_in_company(home) => {
                    self.run(at, batch).failures.get(only).cloned()
                }
                _ => None,
            };
            let Some(reason) = alone else {
                if let Some(run) = self.coordinators[at].runs.get_mut(&batch) {
                    run.reruns.push(group);
                }
                continue;
            };
            let run = self.run(at, batch);
            let ticket = run.members[group.members[0]];
            let row = TransactionRow {
                aborted: Some(reason.clone()),
                hash: run.hashes[group.members[0]],
                principal: run.lane.principal,
            };
            self.write(
                home,
                Change::Rows(Rows {
                    batch: Some(batch),
                    decision: None,
                    transactions: vec![(ticket.txid, row)],
                    marks: Vec::new(),
                }),
            );
            self.tell(at, ticket, Some(batch), Outcome::Aborted(reason));
        }
    }
}

impl Run {
    fn member(&self, member: MemberIndex) -> Member {
        Member {
            txid: self.members[member].txid,
            hash: self.hashes[member],
        }
    }

    fn prepared(&self) -> Vec<ShardTag> {
        let away = self.lane.writes.iter();
        away.filter(|shard| **shard != self.lane.home)
            .copied()
            .collect()
    }

    fn everybody_executed(&self) -> Vote {
        let asked = || self.machine.asked();
        Vote::Yes {
            digest: MembersDigest::of(asked().map(|member| self.members[member].txid)),
            xid: 1,
            reports: vec![MemberReport::Executed; asked().count()],
        }
    }

    fn note_failures(&mut self, vote: &Vote) {
        let Vote::Yes { reports, .. } = vote else {
            return;
        };
        let asked: Vec<MemberIndex> = self.machine.asked().collect();
        for (member, report) in asked.into_iter().zip(reports) {
            if let MemberReport::Failed(reason) = report {
                self.failures.insert(member, reason.clone());
            }
        }
    }
}

/// `coordinator/src/verdict.rs`.
fn outcome(verdict: Verdict) -> Outcome {
    match verdict {
        Verdict::Committed => Outcome::Committed { applied: false },
        Verdict::Aborted(reason) => Outcome::Aborted(reason),
        Verdict::Refused(why) => Outcome::Refused(why),
        Verdict::Recorded(recorded) => recorded_outcome(recorded),
        Verdict::InDoubt(detail) => Outcome::InDoubt { detail },
    }
}

/// What a repeated submit hears (R8).
pub(crate) fn recorded_outcome(recorded: Recorded) -> Outcome {
    let refused = |code| Outcome::Refused(Refusal::new(code, "recorded"));
    match recorded {
        Recorded::Committed => Outcome::Committed { applied: false },
        Recorded::Aborted(reason) => Outcome::Aborted(reason),
        Recorded::OtherContent => refused(RefusalCode::TxidReused),
        Recorded::OtherPrincipal => refused(RefusalCode::NotYours),
    }
}

/// The installation of every world.
pub(crate) fn deployment() -> DeploymentName {
    "bank".parse().expect("a name")
}

impl World {
    /// A reply arrives at the coordinator that asked, if it is still the same process.
    pub(crate) fn on_batch_reply(&mut self, asker: &Asker, reply: Reply) {
        let Asker::Batch {
            coordinator,
            life,
            batch,
            key,
        } = asker
        else {
            return;
        };
        let at = usize::from(*coordinator);
        let is_same = self.coordinators[at].up && self.coordinators[at].life == *life;
        if !is_same {
            return;
        }
        match reply {
            Reply::HeadStarted(left_out) => self.on_head_started(at, *batch, *key, left_out),
            Reply::SessionEnded => self.on_head_started(at, *batch, *key, None),
            reply => {
                if let Some(event) = reply.event(*key) {
                    self.on_batch_event(at, *batch, *key, event);
                }
            }
        }
    }
}
