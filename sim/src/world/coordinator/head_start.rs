//! A batch's session at home; `coordinator/src/driver.rs`.

use gavel_protocol::BatchId;
use gavel_protocol::batch::{Effect, Event, Verdict};
use gavel_protocol::message::FailedMember;

use super::AtHome;
use crate::world::World;
use crate::world::hole::Hole;
use crate::world::ids;
use crate::world::network::{Key, LeftOut, Question};

impl World {
    /// Home works at the same time as the branches, or before they are asked.
    pub(super) fn give_head_start(&mut self, at: usize, batch: BatchId, key: Key) {
        let Some(run) = self.coordinators[at].runs.get_mut(&batch) else {
            return;
        };
        run.at_home = AtHome::Working;
        let everybody: Vec<usize> = (0..run.members.len()).collect();
        let home = run.lane.home;
        let decide = self.decide_message(at, batch, &everybody, Vec::new());
        let id = u8::try_from(at).expect("few coordinators");
        let driver = ids::driver(id, self.coordinators[at].life);
        let first = key == Key::WorkFirst;
        let question = Question::HeadStart {
            decide,
            driver,
            first,
        };
        self.ask(at, batch, home, key, question);
    }

    /// Home is ready, without those whom it left out, or will not be, or has ended the session.
    pub(crate) fn on_head_started(
        &mut self,
        at: usize,
        batch: BatchId,
        key: Key,
        ready: Option<LeftOut>,
    ) {
        let Some(run) = self.coordinators[at].runs.get_mut(&batch) else {
            return;
        };
        run.pending.remove(&key);
        if key == Key::EndSession || run.at_home != AtHome::Working {
            return;
        }
        run.at_home = match ready {
            Some(_) => AtHome::Done,
            None => AtHome::Nothing,
        };
        run.left_out = ready.unwrap_or_default();
        if key == Key::WorkFirst {
            let left_out = run.left_out.clone();
            return self.on_batch_event(at, batch, key, Event::WorkedFirst { left_out });
        }
        if let Some(effect) = run.waiting_decide.take() {
            self.carry_out_effect(at, batch, effect);
        }
    }

    /// Decides, on top of what home has done already if that is what every branch did.
    pub(super) fn decide_now(
        &mut self,
        at: usize,
        batch: BatchId,
        members: Vec<usize>,
        failed: Vec<FailedMember>,
    ) {
        let Some(run) = self.coordinators[at].runs.get_mut(&batch) else {
            return;
        };
        let everybody = members.len() + run.left_out.len() == run.members.len();
        match std::mem::replace(&mut run.at_home, AtHome::Nothing) {
            AtHome::Working => {
                run.at_home = AtHome::Working;
                run.waiting_decide = Some(Effect::Decide { members, failed });
            }
            AtHome::Done if everybody || self.setup.has(Hole::HeadStartForSome) => {
                let (key, turn, home) = (run.lane.clone(), run.turn, run.lane.home);
                if let Some(lane) = self.coordinators[at].lanes.get_mut(&key) {
                    lane.on_executed(turn);
                }
                let question = Question::CommitSession { batch };
                self.ask(at, batch, home, Key::Decide, question);
                self.start_batches(at, &key);
            }
            AtHome::Done | AtHome::Nothing => self.ask_decide(at, batch, &members, failed),
        }
    }

    /// A batch that will not be committed ends its session: its rows stand in the way.
    pub(super) fn settle_session(&mut self, at: usize, batch: BatchId, effects: &[Effect]) {
        let Some(run) = self.coordinators[at].runs.get_mut(&batch) else {
            return;
        };
        let gives_up = !run.machine.is_in_doubt()
            && effects.iter().any(|effect| match effect {
                Effect::Rollback(_) | Effect::RecordAborts(_) | Effect::RunAgain(_) => true,
                Effect::Answer(_, verdict) => *verdict != Verdict::Committed,
                _ => false,
            });
        if run.at_home == AtHome::Nothing || !gives_up {
            return;
        }
        run.at_home = AtHome::Nothing;
        let home = run.lane.home;
        let question = Question::EndSession { batch };
        self.ask(at, batch, home, Key::EndSession, question);
    }
}
