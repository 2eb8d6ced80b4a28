//! How much may go wrong in one run of a model.

use std::collections::BTreeMap;

use gavel_protocol::branch::State as BranchState;
use gavel_protocol::message::FinishKind;

use crate::world::World;
use crate::world::action::{Action, Fault};
use crate::world::client::ClientMove;
use crate::world::network::{Asker, Body};

/// A kind of fault that a model may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Kind {
    /// A message is lost.
    Drop,
    /// A request is delivered twice.
    Duplicate,
    /// A coordinator stops waiting for an answer that is still under way: what it asked for
    /// happens later, as with a zombie PREPARE.
    GiveUp,
    CrashCoordinator,
    /// A coordinator stops, loses its streams, and goes on later.
    PauseCoordinator,
    CrashParticipant,
    CrashShard,
    FailOver,
    /// A failover that loses acknowledged changes.
    LoseData,
    /// A restore from a backup, in a new incarnation.
    Restore,
    /// A person finishes a branch.
    ByHand,
    CancelWait,
    Terminate,
    /// A participant resolves a branch although its driver attends: it is very old.
    Suspect,
    SubmitTwice,
    OtherContent,
    AbortForGood,
}

/// What is left of it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Budget {
    /// Faults in all.
    total: u8,
    /// Of each kind.
    left: BTreeMap<Kind, u8>,
}

impl Budget {
    /// At most `total` faults, and of each kind at most as many as it is listed with.
    pub(super) fn new(total: u8, kinds: &[(Kind, u8)]) -> Self {
        Self {
            total,
            left: kinds.iter().copied().collect(),
        }
    }

    fn has(&self, kind: Kind) -> bool {
        self.total > 0 && self.left.get(&kind).is_some_and(|left| *left > 0)
    }

    /// Pays for an action in this world, if it is a fault.
    pub(super) fn spend(&mut self, world: &World, action: &Action) {
        let Some(kind) = kind(world, action) else {
            return;
        };
        if let Some(left) = self.left.get_mut(&kind) {
            *left = left.saturating_sub(1);
            self.total = self.total.saturating_sub(1);
        }
    }

    /// Every fault that is left.
    pub(super) fn faults(&self, world: &World, out: &mut Vec<Action>) {
        if self.total == 0 {
            return;
        }
        self.messages(world, out);
        self.processes(world, out);
        self.shards(world, out);
        self.impatience(world, out);
        self.clients(world, out);
    }

    fn messages(&self, world: &World, out: &mut Vec<Action>) {
        for (at, message) in world.network.iter().enumerate() {
            let is_request = !matches!(message.body, Body::Reply { .. } | Body::Told { .. });
            if self.has(Kind::Drop) {
                out.push(Action::Fault(Fault::Drop(at)));
            }
            if self.has(Kind::Duplicate) && is_request {
                out.push(Action::Fault(Fault::Duplicate(at)));
            }
        }
    }

    fn processes(&self, world: &World, out: &mut Vec<Action>) {
        for (at, coordinator) in world.coordinators.iter().enumerate() {
            if self.has(Kind::CrashCoordinator) && coordinator.up {
                out.push(Action::Fault(Fault::CrashCoordinator(at)));
            }
            if self.has(Kind::PauseCoordinator) && coordinator.runs() {
                out.push(Action::Fault(Fault::PauseCoordinator(at)));
            }
        }
        for (at, participant) in world.participants.iter().enumerate() {
            if self.has(Kind::CrashParticipant) && participant.up {
                out.push(Action::Fault(Fault::CrashParticipant(at)));
            }
        }
    }

    fn shards(&self, world: &World, out: &mut Vec<Action>) {
        for (at, shard) in world.shards.iter().enumerate() {
            if self.has(Kind::CrashShard) && shard.up {
                out.push(Action::Fault(Fault::CrashShard(at)));
            }
            if self.has(Kind::FailOver) {
                out.push(Action::Fault(Fault::FailOver(at)));
            }
            self.harm(world, at, out);
            for (place, job) in shard.jobs.iter().enumerate() {
                if self.has(Kind::Terminate) {
                    out.push(Action::Fault(Fault::Terminate(at, place)));
                }
                if self.has(Kind::CancelWait) && job.waits {
                    out.push(Action::Fault(Fault::CancelWait(at, place)));
                }
            }
        }
    }

    fn harm(&self, world: &World, at: usize, out: &mut Vec<Action>) {
        for changes in 1..=world.setup.archive {
            if self.has(Kind::LoseData) {
                out.push(Action::Fault(Fault::LoseData(at, changes)));
            }
            if self.has(Kind::Restore) {
                out.push(Action::Fault(Fault::Restore(at, changes)));
            }
        }
        if self.has(Kind::ByHand) {
            for gid in world.shards[at].tables.prepared.keys() {
                let by_hand = |kind| Action::Fault(Fault::ByHand(at, gid.clone(), kind));
                out.push(by_hand(FinishKind::Commit));
                out.push(by_hand(FinishKind::Rollback));
            }
        }
    }

    fn impatience(&self, world: &World, out: &mut Vec<Action>) {
        if self.has(Kind::GiveUp) {
            for (at, coordinator) in world.coordinators.iter().enumerate() {
                if !coordinator.runs() {
                    continue;
                }
                for (batch, run) in &coordinator.runs {
                    let keys = run.pending.keys();
                    out.extend(keys.map(|key| Action::GiveUp(at, *batch, *key)));
                }
            }
        }
        if self.has(Kind::Suspect) {
            for (at, participant) in world.participants.iter().enumerate() {
                let prepared = world.shards[at].tables.prepared.keys();
                let quiet = prepared.filter(|gid| {
                    let tracked = participant.branches.get(gid);
                    participant.runs()
                        && world.shards[at].up
                        && tracked.is_none_or(|tracked| {
                            matches!(tracked.branch.state(), BranchState::Watched(_))
                        })
                });
                out.extend(quiet.map(|gid| Action::Suspect(at, gid.clone())));
            }
        }
    }

    fn clients(&self, world: &World, out: &mut Vec<Action>) {
        for (at, client) in world.clients.iter().enumerate() {
            let Some(current) = &client.current else {
                continue;
            };
            if !current.submitted {
                continue;
            }
            for to in 0..world.setup.coordinators {
                if self.has(Kind::SubmitTwice) {
                    out.push(Action::Client(at, ClientMove::Submit { to }));
                }
                if self.has(Kind::OtherContent) {
                    out.push(Action::Client(at, ClientMove::SubmitOther { to }));
                }
                if self.has(Kind::AbortForGood) {
                    out.push(Action::Client(at, ClientMove::AbortForGood { to }));
                }
            }
        }
    }
}

/// What kind of fault an action is in this world; none if it may happen anyhow.
fn kind(world: &World, action: &Action) -> Option<Kind> {
    match action {
        Action::Fault(fault) => kind_of_fault(fault),
        Action::GiveUp(_, batch, key) => world
            .is_carried(|asker| {
                matches!(asker, Asker::Batch { batch: asked, key: asked_key, .. }
                    if asked == batch && asked_key == key)
            })
            .then_some(Kind::GiveUp),
        Action::Suspect(at, gid) => world.is_driven(*at, gid).then_some(Kind::Suspect),
        Action::Client(at, chosen) => {
            let current = world.clients[*at].current.as_ref();
            let submitted = current.is_some_and(|current| current.submitted);
            match chosen {
                ClientMove::Submit { .. } => submitted.then_some(Kind::SubmitTwice),
                ClientMove::SubmitOther { .. } => Some(Kind::OtherContent),
                ClientMove::AbortForGood { .. } => Some(Kind::AbortForGood),
                ClientMove::Begin | ClientMove::AskStatus { .. } => None,
            }
        }
        _ => None,
    }
}

fn kind_of_fault(fault: &Fault) -> Option<Kind> {
    match fault {
        Fault::Drop(_) => Some(Kind::Drop),
        Fault::Duplicate(_) => Some(Kind::Duplicate),
        Fault::CrashCoordinator(_) => Some(Kind::CrashCoordinator),
        Fault::PauseCoordinator(_) => Some(Kind::PauseCoordinator),
        Fault::CrashParticipant(_) => Some(Kind::CrashParticipant),
        Fault::CrashShard(_) => Some(Kind::CrashShard),
        Fault::FailOver(_) => Some(Kind::FailOver),
        Fault::Terminate(..) => Some(Kind::Terminate),
        Fault::CancelWait(..) => Some(Kind::CancelWait),
        Fault::LoseData(..) => Some(Kind::LoseData),
        Fault::Restore(..) => Some(Kind::Restore),
        Fault::ByHand(..) => Some(Kind::ByHand),
        Fault::Delay(..) | Fault::PauseParticipant(_) | Fault::Cut(..) => None,
    }
}
