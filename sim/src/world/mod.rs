//! One world, two ways through it: the model checker tries every order of events in a small one,
//! the simulation tries some thousands of orders in larger ones.
//!
//! A world is a value: it can be copied and compared, and [`World::play`] is the only thing that
//! changes it. It has no randomness; its clock is part of it, and moves when it is told to.
//!
//! What runs here is real: the batch machine, lanes, the branch machine and the recovery table of
//! `gavel-protocol`. What is fake is what surrounds them: PostgreSQL ([`shard`]), the processes
//! ([`mod@participant`], [`coordinator`], [`client`]) and the network. The fakes follow the services
//! step by step; where they differ, `docs/verification.md` says so.

pub(crate) mod action;
pub(crate) mod bag;
pub(crate) mod client;
pub(crate) mod coordinator;
pub(crate) mod enabled;
pub(crate) mod faults;
pub(crate) mod hole;
pub(crate) mod ids;
pub(crate) mod network;
pub(crate) mod observer;
pub(crate) mod participant;
pub(crate) mod retention;
pub(crate) mod setup;
pub(crate) mod shard;

use std::collections::BTreeSet;
use std::hash::{Hash, Hasher};
use std::ops::Deref;
use std::sync::Arc;

use gavel_protocol::ShardTag;

use bag::Bag;
use client::Client;
use coordinator::Coordinator;
use network::{Asker, Body, Message, Node, Question, Reply};
use observer::Observer;
use participant::Participant;
use setup::{Setup, place, tag};
use shard::Shard;

/// Everything there is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct World {
    pub(crate) setup: Plan,
    /// Milliseconds on every monotonic clock. Stays 0 where timers may expire at any time.
    pub(crate) now: u64,
    pub(crate) shards: Vec<Shard>,
    pub(crate) participants: Vec<Participant>,
    pub(crate) coordinators: Vec<Coordinator>,
    pub(crate) clients: Vec<Client>,
    pub(crate) network: Bag<Message>,
    /// One-way cuts: nothing of the first reaches the second.
    pub(crate) cuts: BTreeSet<(Node, Node)>,
    pub(crate) observer: Observer,
}

/// The setup, which is the same in all states of one world.
#[derive(Debug, Clone)]
pub(crate) struct Plan(Arc<Setup>);

impl Deref for Plan {
    type Target = Setup;

    fn deref(&self) -> &Setup {
        &self.0
    }
}

impl PartialEq for Plan {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Plan {}

impl Hash for Plan {
    fn hash<H: Hasher>(&self, _state: &mut H) {}
}

/// Messages that are under way on a link, one way, at most: many times what batches keep there
/// while nothing is wrong.
pub(crate) const LINK_HOLDS: usize = 64;

impl World {
    /// A world in which everything is up and nothing has happened.
    pub(crate) fn new(setup: Setup) -> Self {
        let shards = setup.shards;
        let clients = setup.clients.iter().cloned().map(Client::new).collect();
        let mut world = Self {
            now: 0,
            shards: (0..shards).map(|at| Shard::new(tag(at))).collect(),
            participants: (0..shards).map(|_| Participant::new()).collect(),
            coordinators: (0..setup.coordinators)
                .map(|_| Coordinator::new(shards))
                .collect(),
            clients,
            network: Bag::default(),
            cuts: BTreeSet::new(),
            observer: Observer::default(),
            setup: Plan(Arc::new(setup)),
        };
        for coordinator in 0..world.coordinators.len() {
            for shard in 0..world.shards.len() {
                world.attend(coordinator, shard);
            }
        }
        world
    }

    // ---- messages ----

    /// Sends a message. Where time passes, a link takes only so many undelivered ones, as a
    /// connection whose window is full does: what is asked again and again over a link that is cut
    /// would otherwise all arrive one day, and keep everybody busy with the past.
    pub(crate) fn send(&mut self, message: Message) {
        if self.setup.timers.is_none() || self.link_has_room(message.from, message.to) {
            self.network.add(message);
        }
    }

    fn link_has_room(&self, from: Node, to: Node) -> bool {
        let messages = self.network.iter();
        let under_way = messages.filter(|message| message.from == from && message.to == to);
        under_way.count() < LINK_HOLDS
    }

    pub(crate) fn ask_from_coordinator(
        &mut self,
        at: usize,
        to: ShardTag,
        asker: Asker,
        question: Question,
        not_before: u64,
    ) {
        self.send(Message {
            from: Node::Coordinator(u8::try_from(at).expect("few coordinators")),
            to: participant(place(to)),
            body: Body::Ask { asker, question },
            not_before,
        });
    }

    pub(crate) fn ask_home(&mut self, from: usize, to: usize, asker: Asker, question: Question) {
        self.send(Message {
            from: participant(from),
            to: participant(to),
            body: Body::Ask { asker, question },
            not_before: 0,
        });
    }

    /// Sends the answer to a question back to who asked.
    pub(crate) fn answer(&mut self, at: usize, asker: Asker, reply: Reply) {
        let to = match &asker {
            Asker::Batch { coordinator, .. } => Node::Coordinator(*coordinator),
            Asker::Client { client, .. } => Node::Client(*client),
            Asker::Scan { shard, .. } if usize::from(*shard) == at => {
                self.on_scan_reply(at, asker, reply);
                return;
            }
            Asker::Scan { shard, .. } => Node::Participant(*shard),
        };
        self.send(Message {
            from: participant(at),
            to,
            body: Body::Reply { asker, reply },
            not_before: 0,
        });
    }

    /// A message arrives. What arrives at a process that is down is lost; whoever asked hears at
    /// once that nobody is there.
    pub(crate) fn deliver(&mut self, place: usize) {
        let Message { from, to, body, .. } = self.network.take(place);
        match (to, body) {
            (Node::Participant(at), Body::Ask { asker, question }) => {
                self.on_question(usize::from(at), asker, question);
            }
            (Node::Participant(at), Body::Reply { asker, reply }) => {
                self.on_scan_reply(usize::from(at), asker, reply);
            }
            (Node::Coordinator(_), Body::Reply { asker, reply }) => {
                self.on_batch_reply(&asker, reply);
            }
            (Node::Coordinator(at), body) => {
                let Node::Client(client) = from else {
                    return;
                };
                if self.coordinators[usize::from(at)].up {
                    self.on_request(usize::from(at), client, body);
                }
            }
            (Node::Client(at), Body::Told { txid, outcome }) => {
                self.on_answer(usize::from(at), txid, outcome);
            }
            (Node::Client(at), Body::Reply { asker, reply }) => {
                self.on_reply_to_client(usize::from(at), &asker, reply);
            }
            (Node::Participant(_), _) | (Node::Client(_), _) => {}
        }
    }
}

fn participant(at: usize) -> Node {
    Node::Participant(u8::try_from(at).expect("few shards"))
}
