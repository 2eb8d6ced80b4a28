//! Model checking: every way through a small world, with the real core inside.
//!
//! A state is a world and what is left of its budget of faults; what is enabled in a world is what
//! may happen next, and faults that the budget still has. Without a clock, timers may expire
//! whenever their expiry could matter. The budget keeps the state space finite.
//!
//! Two properties: nothing is ever violated, at rest or on the way; and from every state, once
//! faults stop and what is down is started again, the world still comes to rest.

mod budget;
mod configurations;
mod rest;

use std::time::{Duration, Instant};

use stateright::{Checker, Model, Property};

use budget::Budget;
pub use configurations::{Configuration, Size};
use rest::KnownToRest;

use crate::invariants::{self, Invariant};
use crate::world::World;
use crate::world::action::Action;
use crate::world::client::ClientMove;
use crate::world::network::{Asker, Body, Message, Node};

/// What an exploration came to.
#[derive(Debug)]
pub struct Explored {
    /// Different states.
    pub states: usize,
    /// Transitions that were looked at.
    pub transitions: usize,
    /// The longest way to a state.
    pub depth: usize,
    /// How long it took.
    pub elapsed: Duration,
    /// What was found wrong, with the way to it.
    pub violation: Option<Found>,
}

/// A way to a state in which something is wrong.
#[derive(Debug)]
pub struct Found {
    /// What is wrong, where it has a name.
    pub invariants: Vec<Invariant>,
    /// In words.
    pub what: String,
    /// The way there, one action per line.
    pub trace: String,
}

/// Explores a configuration until all of it is seen or something is wrong.
pub fn explore(configuration: &Configuration, threads: usize) -> Explored {
    let start = Instant::now();
    let checker = Small::new(configuration)
        .checker()
        .threads(threads)
        .spawn_bfs()
        .join();
    let discovery = checker.discoveries().into_iter().next();
    let violation = discovery.map(|(_, path)| {
        let model = checker.model();
        model.found(path.into_actions())
    });
    Explored {
        states: checker.unique_state_count(),
        transitions: checker.state_count(),
        depth: checker.max_depth(),
        elapsed: start.elapsed(),
        violation,
    }
}

/// A small world, and all ways through it.
struct Small {
    initial: State,
    rests: KnownToRest,
}

/// A world, and what may still go wrong in it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct State {
    world: World,
    budget: Budget,
}

impl Small {
    fn new(configuration: &Configuration) -> Self {
        let mut world = World::new(configuration.setup.clone());
        for client in 0..world.clients.len() {
            world.play(Action::Client(client, ClientMove::Begin));
        }
        if configuration.setup.coordinators == 1 {
            world.submit_together(0);
        }
        Self {
            initial: State {
                world,
                budget: configuration.budget.clone(),
            },
            rests: KnownToRest::default(),
        }
    }

    /// The story of a violation.
    fn found(&self, actions: Vec<Action>) -> Found {
        let mut state = self.initial.clone();
        let mut trace = String::new();
        for action in actions {
            trace += &state.world.describe(&action);
            trace.push('\n');
            state = state.after(action);
        }
        let mut violations = state.world.observer.violations.clone();
        if violations.is_empty()
            && let Err(world) = self.rests.comes_to_rest(&state.world)
        {
            violations = world.observer.violations;
        }
        let mut what: Vec<String> = violations.values().cloned().collect();
        if what.is_empty() {
            what.push("it does not come to rest".to_owned());
        }
        Found {
            invariants: violations.keys().copied().collect(),
            what: what.join("; "),
            trace,
        }
    }
}

impl State {
    fn after(&self, action: Action) -> Self {
        let mut next = self.clone();
        next.budget.spend(&self.world, &action);
        next.world.play(action);
        tidy(&mut next.world);
        if next.is_quiet() {
            invariants::check_at_rest(&mut next.world);
        }
        next
    }

    /// Whether nothing can happen any more but faults.
    fn is_quiet(&self) -> bool {
        let mut moves = Vec::new();
        self.world.moves(&mut moves);
        self.world.repairs(&mut moves);
        moves.is_empty()
    }
}

impl Model for Small {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![self.initial.clone()]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        if !state.world.observer.violations.is_empty() {
            return;
        }
        state.world.moves(actions);
        state.world.repairs(actions);
        state.budget.faults(&state.world, actions);
    }

    fn next_state(&self, state: &State, action: Action) -> Option<State> {
        Some(state.after(action))
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("nothing is violated", |_, state: &State| {
                state.world.observer.violations.is_empty()
            }),
            Property::always(
                "it can still come to rest",
                |model: &Self, state: &State| model.rests.comes_to_rest(&state.world).is_ok(),
            ),
        ]
    }
}

/// Drops messages that whoever gets them would ignore: two worlds that differ only in them are
/// the same.
fn tidy(world: &mut World) {
    let World {
        network,
        coordinators,
        participants,
        clients,
        ..
    } = world;
    network.retain(|Message { to, body, .. }| match body {
        Body::Reply { asker, .. } => match asker {
            Asker::Batch {
                coordinator,
                life,
                batch,
                ..
            } => {
                let coordinator = &coordinators[usize::from(*coordinator)];
                coordinator.life == *life && coordinator.runs.contains_key(batch)
            }
            Asker::Scan { shard, life, gid } => {
                let participant = &participants[usize::from(*shard)];
                participant.life == *life && participant.branches.contains_key(gid)
            }
            Asker::Client { .. } => true,
        },
        Body::Told { txid, .. } => match to {
            Node::Client(at) => {
                let current = clients[usize::from(*at)].current.as_ref();
                current.is_some_and(|current| current.txid == *txid)
            }
            Node::Coordinator(_) | Node::Participant(_) => true,
        },
        Body::Submit(_) | Body::AbortForGood { .. } | Body::AskStatus { .. } | Body::Ask { .. } => {
            true
        }
    });
}
