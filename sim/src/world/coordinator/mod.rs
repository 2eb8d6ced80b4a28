//! Coordinators: the real lanes and the real batch machine, with what `coordinator/src/` puts
//! around them: tickets, the driver of a batch, patience. Nothing of it survives a crash.

pub(crate) mod driver;
mod head_start;
mod lanes;

use std::collections::{BTreeMap, BTreeSet};

use gavel_protocol::batch::{Batch, Effect, Rerun};
use gavel_protocol::message::{FailedMember, Vote};
use gavel_protocol::{
    AbortCode, AbortReason, BatchId, Incarnation, Lane, Outcome, Refusal, RefusalCode, RequestHash,
    ShardTag, Turn, Txid,
};

use super::World;
use super::hole::Hole;
use super::network::{Asker, Body, Key, LeftOut, Message, Node, Question, Record, Submit};
use super::participant::prepare::guard;

/// One coordinator process.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Coordinator {
    pub(crate) up: bool,
    pub(crate) paused: bool,
    pub(crate) life: u16,
    pub(crate) lanes: BTreeMap<LaneKey, Lane<TicketId>>,
    pub(crate) tickets: BTreeMap<Txid, Ticket>,
    pub(crate) runs: BTreeMap<BatchId, Run>,
    /// Where it holds a stream open.
    pub(crate) attends: BTreeSet<usize>,
    /// The incarnations that it has been told of.
    pub(crate) known: Vec<Incarnation>,
    /// How far its wall clock is from the others'.
    pub(crate) clock_ahead_ms: u64,
    batches: u16,
    serials: u16,
}

/// What transactions of one lane have in common.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct LaneKey {
    home: ShardTag,
    writes: Vec<ShardTag>,
    reads: Vec<ShardTag>,
    principal: u8,
}

impl LaneKey {
    fn has_branches(&self) -> bool {
        let mut shards = self.writes.iter().chain(&self.reads);
        shards.any(|shard| *shard != self.home)
    }
}

/// A ticket of one coordinator; a txid that is submitted again later gets another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct TicketId {
    txid: Txid,
    serial: u16,
}

/// A transaction inside a coordinator; `coordinator/src/ticket.rs`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Ticket {
    submit: Submit,
    serial: u16,
    waiters: Vec<u16>,
    is_running: bool,
    runs: u8,
    pub(crate) since: u64,
}

/// A batch under way; `coordinator/src/driver.rs`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Run {
    pub(crate) machine: Batch,
    lane: LaneKey,
    turn: Turn,
    at_home: AtHome,
    /// The decide that waits for home to come to an end with what it does.
    waiting_decide: Option<Effect>,
    /// Whom home has left out before the branches were asked.
    left_out: LeftOut,
    members: Vec<TicketId>,
    hashes: Vec<RequestHash>,
    /// The incarnations as they were known when it began.
    known: Vec<Incarnation>,
    /// What was asked and not answered, and when.
    pub(crate) pending: BTreeMap<Key, u64>,
    reruns: Vec<Rerun>,
    /// What was asked before, and is asked again with a pause (simulation only).
    asked: BTreeSet<Key>,
    /// For holes only.
    first_vote: Option<Vote>,
    failures: BTreeMap<usize, AbortReason>,
}

/// What home has done before it was asked to decide.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum AtHome {
    Nothing,
    Working,
    Done,
}

impl Coordinator {
    pub(crate) fn new(shards: u8) -> Self {
        Self {
            up: true,
            paused: false,
            life: 0,
            lanes: BTreeMap::new(),
            tickets: BTreeMap::new(),
            runs: BTreeMap::new(),
            attends: BTreeSet::new(),
            known: vec![Incarnation(1); usize::from(shards)],
            clock_ahead_ms: 0,
            batches: 0,
            serials: 0,
        }
    }

    /// Members of the largest batch under way.
    fn largest_batch(&self) -> usize {
        let sizes = self.runs.values().map(|run| run.members.len());
        sizes.max().unwrap_or_default()
    }

    pub(crate) fn runs(&self) -> bool {
        self.up && !self.paused
    }

    /// Whether a batch under way counts on its session at home.
    pub(crate) fn needs_session(&self, batch: BatchId) -> bool {
        let run = self.runs.get(&batch);
        run.is_some_and(|run| {
            run.at_home != AtHome::Nothing || run.pending.contains_key(&Key::Decide)
        })
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.lanes.is_empty() && self.tickets.is_empty() && self.runs.is_empty()
    }
}

impl Ticket {
    pub(crate) fn has_waiters(&self) -> bool {
        !self.waiters.is_empty()
    }
}

impl World {
    /// Members of the largest batch under way.
    pub(crate) fn largest_batch(&self) -> usize {
        let sizes = self.coordinators.iter().map(Coordinator::largest_batch);
        sizes.max().unwrap_or_default()
    }

    /// A client's request arrives.
    pub(crate) fn on_request(&mut self, at: usize, client: u16, body: Body) {
        let asker = |txid| Asker::Client { client, txid };
        match body {
            Body::Submit(submit) => self.on_submit(at, client, submit),
            Body::AskStatus { txid } => {
                let question = Question::Status { txid };
                self.ask_from_coordinator(at, txid.home(), asker(txid), question, 0);
            }
            Body::AbortForGood { txid } => {
                let principal = self.setup.spec(super::ids::number(txid)).principal;
                let record = self.abort_for_good(at, txid, principal);
                self.ask_from_coordinator(
                    at,
                    txid.home(),
                    asker(txid),
                    Question::Record(record),
                    0,
                );
            }
            Body::Told { .. } | Body::Ask { .. } | Body::Reply { .. } => {}
        }
    }

    fn abort_for_good(&self, at: usize, txid: Txid, principal: u8) -> Record {
        let home = super::setup::place(txid.home());
        Record {
            batch: None,
            incarnation: self.coordinators[at].known[home],
            principal,
            aborts: vec![FailedMember {
                txid,
                request_hash: RequestHash::ANY,
                reason: AbortReason::new(AbortCode::AbortedByRequest, "asked"),
            }],
        }
    }

    /// Tells a transaction's clients its outcome, for good. There is no other way to tell one.
    fn tell(&mut self, at: usize, ticket: TicketId, batch: Option<BatchId>, outcome: Outcome) {
        let current = self.coordinators[at].tickets.get(&ticket.txid);
        let is_current = current.is_some_and(|current| current.serial == ticket.serial);
        self.observe_told(ticket.txid, batch, &outcome);
        if !is_current {
            return;
        }
        let TicketId { txid, .. } = ticket;
        let ticket = self.coordinators[at].tickets.remove(&txid);
        for client in ticket.into_iter().flat_map(|ticket| ticket.waiters) {
            self.tell_client(at, client, txid, outcome.clone());
        }
    }

    /// Whoever waits for this transaction has waited long enough; `Ticket::give_up`.
    pub(crate) fn lose_patience(&mut self, at: usize, txid: Txid) {
        let Some(ticket) = self.coordinators[at].tickets.get_mut(&txid) else {
            return;
        };
        let waiters = std::mem::take(&mut ticket.waiters);
        let (is_running, serial) = (ticket.is_running, ticket.serial);
        let outcome = match is_running {
            true if self.setup.has(Hole::UnknownIsToldAborted) => Outcome::Aborted(guard()),
            true => Outcome::InDoubt {
                detail: "under way".to_owned(),
            },
            false => Outcome::Refused(Refusal::new(RefusalCode::DeadlineExceeded, "queue")),
        };
        if !is_running {
            let coordinator = &mut self.coordinators[at];
            coordinator.tickets.remove(&txid);
            for lane in coordinator.lanes.values_mut() {
                lane.remove_waiting(|id| id.txid == txid && id.serial == serial);
            }
            coordinator.lanes.retain(|_, lane| !lane.is_idle());
        }
        self.observe_told(txid, None, &outcome);
        for client in waiters {
            self.tell_client(at, client, txid, outcome.clone());
        }
    }

    fn tell_client(&mut self, at: usize, client: u16, txid: Txid, outcome: Outcome) {
        let from = Node::Coordinator(u8::try_from(at).expect("few coordinators"));
        self.send(Message {
            from,
            to: Node::Client(client),
            body: Body::Told { txid, outcome },
            not_before: 0,
        });
    }

    // ---- life and death of the process ----

    pub(crate) fn crash_coordinator(&mut self, at: usize) {
        let shards = self.setup.shards;
        let coordinator = &mut self.coordinators[at];
        *coordinator = Coordinator {
            up: false,
            life: coordinator.life + 1,
            known: coordinator.known.clone(),
            attends: coordinator.attends.clone(),
            clock_ahead_ms: coordinator.clock_ahead_ms,
            ..Coordinator::new(shards)
        };
        self.settle_streams();
    }

    pub(crate) fn restart_coordinator(&mut self, at: usize) {
        for shard in 0..self.shards.len() {
            self.close_stream(at, shard);
        }
        // It starts no batch with a shard before that has told it who it is.
        let known = self.shards.iter().map(|shard| shard.incarnation).collect();
        let coordinator = &mut self.coordinators[at];
        coordinator.known = known;
        coordinator.up = true;
        self.settle_streams();
    }

    /// Without a clock, streams end and begin at once: how long that takes decides only when a
    /// branch is resolved, and that may be any time anyhow.
    pub(crate) fn settle_streams(&mut self) {
        if self.setup.timers.is_some() {
            return;
        }
        let mut moves = Vec::new();
        for at in 0..self.coordinators.len() {
            self.stream_moves(at, &mut moves);
        }
        for stream in moves {
            self.play(stream);
        }
    }

    /// A participant notices that a coordinator's stream has ended.
    pub(crate) fn close_stream(&mut self, at: usize, shard: usize) {
        let coordinator = &mut self.coordinators[at];
        if !coordinator.attends.remove(&shard) {
            return;
        }
        let id = u8::try_from(at).expect("few coordinators");
        let lives = (0..=coordinator.life).map(|life| super::ids::driver(id, life));
        let participant = &mut self.participants[shard];
        for driver in lives {
            if participant.attending.remove(&driver) {
                participant.closed.insert(driver);
            }
        }
    }

    /// A coordinator opens a stream to a participant, and learns who it is.
    pub(crate) fn attend(&mut self, at: usize, shard: usize) {
        let id = u8::try_from(at).expect("few coordinators");
        let participant = &mut self.participants[shard];
        let coordinator = &mut self.coordinators[at];
        coordinator.known[shard] = participant.incarnation;
        coordinator.attends.insert(shard);
        let driver = super::ids::driver(id, coordinator.life);
        participant.attending.insert(driver);
    }
}
