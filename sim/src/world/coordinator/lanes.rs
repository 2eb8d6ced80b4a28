//! Tickets and lanes; `coordinator/src/lanes.rs`, over the real [`Lane`].

use gavel_protocol::batch::Rerun;
use gavel_protocol::{BatchId, Lane, Outcome, Refusal, RefusalCode, ShardTag, Txid};

use super::{LaneKey, Ticket, TicketId};
use crate::world::World;
use crate::world::client::ClientMove;
use crate::world::hole::Hole;
use crate::world::ids;
use crate::world::network::{Body, Node, Submit};
use crate::world::setup::tag;

impl World {
    /// A submission is admitted, or joins the ticket of the same txid (R8).
    pub(super) fn on_submit(&mut self, at: usize, client: u16, submit: Submit) {
        if let Some(key) = self.admit(at, client, submit) {
            self.start_batches(at, &key);
        }
    }

    /// Everybody's first submission arrives here while the lanes are busy with something else, so
    /// that they form batches. For worlds that begin there.
    pub(crate) fn submit_together(&mut self, at: usize) {
        let to = u8::try_from(at).expect("few coordinators");
        for client in 0..self.clients.len() {
            self.client_moves(client, ClientMove::Submit { to });
        }
        for message in self.network.take_all() {
            if let (Node::Client(client), Body::Submit(submit)) = (message.from, message.body) {
                self.admit(at, client, submit);
            }
        }
        let keys: Vec<LaneKey> = self.coordinators[at].lanes.keys().cloned().collect();
        for key in keys {
            self.start_batches(at, &key);
        }
    }

    /// Puts a submission into its lane.
    fn admit(&mut self, at: usize, client: u16, submit: Submit) -> Option<LaneKey> {
        let Submit { txid, .. } = submit;
        if let Some(ticket) = self.coordinators[at].tickets.get_mut(&txid) {
            let refusal = if ticket.submit.principal != submit.principal {
                RefusalCode::NotYours
            } else if ticket.submit.content != submit.content {
                RefusalCode::TxidReused
            } else {
                ticket.waiters.push(client);
                return None;
            };
            let outcome = Outcome::Refused(Refusal::new(refusal, "joined"));
            self.observe_told(txid, None, &outcome);
            self.tell_client(at, client, txid, outcome);
            return None;
        }
        let now = self.now;
        let key = self.lane_of(at, &submit);
        let spec = self.setup.spec(ids::number(txid));
        let is_safe = spec.is_batch_safe() || self.setup.has(Hole::SharedSettings);
        let members_max = self.setup.batch_members_max;
        let coordinator = &mut self.coordinators[at];
        coordinator.serials += 1;
        let serial = coordinator.serials;
        let ticket = Ticket {
            submit,
            serial,
            waiters: vec![client],
            is_running: false,
            runs: 0,
            since: now,
        };
        coordinator.tickets.insert(txid, ticket);
        let lane = coordinator
            .lanes
            .entry(key.clone())
            .or_insert_with(|| Lane::new(members_max));
        let id = TicketId { txid, serial };
        match submit.is_retry || !is_safe {
            true => lane.on_submit_alone(id),
            false => lane.on_submit(id),
        }
        Some(key)
    }

    fn lane_of(&self, at: usize, submit: &Submit) -> LaneKey {
        let spec = self.setup.spec(ids::number(submit.txid));
        LaneKey {
            home: self.home_of(at, submit.txid),
            writes: spec.writes.clone(),
            reads: spec.reads.clone(),
            principal: submit.principal,
        }
    }

    /// R9: the txid says it.
    fn home_of(&self, at: usize, txid: Txid) -> ShardTag {
        if !self.setup.has(Hole::HomeByConfiguration) {
            return txid.home();
        }
        let at = u8::try_from(at).expect("few coordinators");
        tag(at % self.setup.shards)
    }

    pub(super) fn start_batches(&mut self, at: usize, key: &LaneKey) {
        while let Some(lane) = self.coordinators[at].lanes.get_mut(key) {
            let Some((turn, members)) = lane.poll_batch() else {
                break;
            };
            let members = self.take_tickets(at, members);
            let overtakes = self.setup.has(Hole::Overtaking);
            if (members.is_empty() || overtakes)
                && let Some(lane) = self.coordinators[at].lanes.get_mut(key)
            {
                lane.on_rest(turn);
            }
            if !members.is_empty() {
                self.start_batch(at, key, turn, members);
            }
        }
        let lanes = &mut self.coordinators[at].lanes;
        if lanes.get(key).is_some_and(Lane::is_idle) {
            lanes.remove(key);
        }
    }

    /// Those whose clients still wait for their turn.
    fn take_tickets(&mut self, at: usize, members: Vec<TicketId>) -> Vec<TicketId> {
        let tickets = &mut self.coordinators[at].tickets;
        let taken = members.into_iter().filter(|id| {
            let ticket = tickets.get_mut(&id.txid);
            let ticket = ticket.filter(|ticket| ticket.serial == id.serial && !ticket.is_running);
            ticket.is_some_and(|ticket| {
                ticket.is_running = true;
                true
            })
        });
        taken.collect()
    }

    /// The batch is over; `Lanes::rest`.
    pub(super) fn rest(&mut self, at: usize, batch: BatchId) {
        let Some(run) = self.coordinators[at].runs.remove(&batch) else {
            return;
        };
        for rerun in &run.reruns {
            let again = self.again(at, batch, &run.members, rerun);
            if let Some(lane) = self.coordinators[at].lanes.get_mut(&run.lane) {
                lane.on_run_again(again, rerun.alone);
            }
        }
        let overtakes = self.setup.has(Hole::Overtaking);
        if let Some(lane) = self.coordinators[at].lanes.get_mut(&run.lane)
            && !overtakes
        {
            lane.on_rest(run.turn);
        }
        self.start_batches(at, &run.lane);
    }

    /// A batch has moved on: the lane may begin the next.
    pub(super) fn move_lane(&mut self, at: usize, batch: BatchId) {
        let Some(run) = self.coordinators[at].runs.get(&batch) else {
            return;
        };
        let (key, turn) = (run.lane.clone(), run.turn);
        let is_decided = run.machine.is_decided();
        if let Some(lane) = self.coordinators[at].lanes.get_mut(&key)
            && is_decided
        {
            lane.on_decided(turn);
        }
        self.start_batches(at, &key);
    }

    /// The members of a rerun that may try once more; the others are refused.
    fn again(
        &mut self,
        at: usize,
        batch: BatchId,
        members: &[TicketId],
        rerun: &Rerun,
    ) -> Vec<TicketId> {
        let mut again = Vec::new();
        for id in rerun.members.iter().map(|member| members[*member]) {
            let runs_max = self.setup.runs_max;
            let ticket = self.coordinators[at].tickets.get_mut(&id.txid);
            let Some(ticket) = ticket.filter(|ticket| ticket.serial == id.serial) else {
                continue;
            };
            ticket.runs += 1;
            ticket.is_running = false;
            if ticket.runs < runs_max {
                again.push(id);
            } else {
                let outcome = Outcome::Refused(rerun.because.clone());
                self.tell(at, id, Some(batch), outcome);
            }
        }
        again
    }
}
