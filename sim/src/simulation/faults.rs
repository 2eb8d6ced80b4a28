//! Choosing what goes wrong: a kind that the profile lists, and whom it hits.

use gavel_protocol::message::FinishKind;
use rand::Rng;
use rand::rngs::SmallRng;
use rand::seq::IndexedRandom;

use crate::world::World;
use crate::world::action::{Action, Fault};
use crate::world::client::ClientMove;
use crate::world::network::{Body, Message, Node, Question};
use crate::world::participant::job::Work;

/// A kind of fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Drop,
    Duplicate,
    Delay,
    CrashCoordinator,
    PauseCoordinator,
    CrashParticipant,
    PauseParticipant,
    CrashShard,
    FailOver,
    LoseData,
    Restore,
    Terminate,
    CancelWait,
    Cut,
    ByHand,
    SubmitTwice,
    OtherContent,
}

impl Kind {
    /// A fault of this kind, with the name under which it is counted; none if there is nothing
    /// that it could hit.
    pub(super) fn choose(self, world: &World, rng: &mut SmallRng) -> Option<(Action, String)> {
        let message = |rng: &mut SmallRng| {
            let count = world.network.len();
            (count > 0).then(|| rng.random_range(0..count))
        };
        let shard = |rng: &mut SmallRng| rng.random_range(0..world.shards.len());
        let coordinator = |rng: &mut SmallRng| rng.random_range(0..world.coordinators.len());
        let (fault, hit) = match self {
            Self::Drop => {
                let at = message(rng)?;
                (Fault::Drop(at), step_of(&world.network[at]))
            }
            Self::Duplicate => {
                let at = message(rng)?;
                (Fault::Duplicate(at), step_of(&world.network[at]))
            }
            Self::Delay => {
                let at = message(rng)?;
                let ms = rng.random_range(100..6_000);
                (Fault::Delay(at, ms), step_of(&world.network[at]))
            }
            Self::CrashCoordinator => {
                let at = coordinator(rng);
                let is_up = world.coordinators[at].up;
                (is_up.then_some(Fault::CrashCoordinator(at))?, "")
            }
            Self::PauseCoordinator => {
                let at = coordinator(rng);
                let runs = world.coordinators[at].runs();
                (runs.then_some(Fault::PauseCoordinator(at))?, "")
            }
            Self::CrashParticipant => {
                let at = shard(rng);
                let is_up = world.participants[at].up;
                (is_up.then_some(Fault::CrashParticipant(at))?, "")
            }
            Self::PauseParticipant => {
                let at = shard(rng);
                let runs = world.participants[at].runs();
                (runs.then_some(Fault::PauseParticipant(at))?, "")
            }
            Self::CrashShard => {
                let at = shard(rng);
                let is_up = world.shards[at].up;
                (is_up.then_some(Fault::CrashShard(at))?, "")
            }
            Self::FailOver => (Fault::FailOver(shard(rng)), ""),
            Self::LoseData => (Fault::LoseData(shard(rng), rng.random_range(1..=6)), ""),
            // Always the same one: what two restored shards have both forgotten, nobody can know.
            Self::Restore => (Fault::Restore(0, rng.random_range(1..=6)), ""),
            Self::Terminate => {
                let (at, job, hit) = job(world, rng, |_| true)?;
                (Fault::Terminate(at, job), hit)
            }
            Self::CancelWait => {
                let (at, job, hit) = job(world, rng, |waits| waits)?;
                (Fault::CancelWait(at, job), hit)
            }
            Self::Cut => (cut(world, rng)?, ""),
            Self::ByHand => (by_hand(world, rng)?, ""),
            Self::SubmitTwice | Self::OtherContent => return self.prank(world, rng),
        };
        let name = match hit {
            "" => format!("{self:?}"),
            hit => format!("{self:?} {hit}"),
        };
        Some((Action::Fault(fault), name))
    }

    fn prank(self, world: &World, rng: &mut SmallRng) -> Option<(Action, String)> {
        let busy: Vec<usize> = (0..world.clients.len())
            .filter(|at| {
                let current = world.clients[*at].current.as_ref();
                current.is_some_and(|current| current.submitted)
            })
            .collect();
        let client = *busy.choose(rng)?;
        let to = rng.random_range(0..world.setup.coordinators);
        let chosen = match self {
            Self::SubmitTwice => ClientMove::Submit { to },
            _ => ClientMove::SubmitOther { to },
        };
        Some((Action::Client(client, chosen), format!("{self:?}")))
    }
}

fn cut(world: &World, rng: &mut SmallRng) -> Option<Fault> {
    let coordinator = rng.random_range(0..world.coordinators.len());
    let one = node(Node::Coordinator, coordinator);
    let mut shard = || node(Node::Participant, rng.random_range(0..world.shards.len()));
    let (other, third) = (shard(), shard());
    let ends = [(one, other), (other, one), (other, third)];
    let (from, to) = *ends.choose(rng)?;
    Some(Fault::Cut(from, to))
}

fn node(of: fn(u8) -> Node, at: usize) -> Node {
    of(u8::try_from(at).expect("few processes"))
}

fn job(
    world: &World,
    rng: &mut SmallRng,
    may: impl Fn(bool) -> bool,
) -> Option<(usize, usize, &'static str)> {
    let jobs: Vec<(usize, usize, &'static str)> = world
        .shards
        .iter()
        .enumerate()
        .flat_map(|(at, shard)| {
            let jobs = shard.jobs.iter().enumerate();
            let may = &may;
            jobs.filter(move |(_, job)| may(job.waits))
                .map(move |(place, job)| (at, place, name_of(&job.work)))
        })
        .collect();
    jobs.choose(rng).copied()
}

fn by_hand(world: &World, rng: &mut SmallRng) -> Option<Fault> {
    let gids: Vec<_> = world
        .shards
        .iter()
        .enumerate()
        .flat_map(|(at, shard)| shard.tables.prepared.keys().map(move |gid| (at, gid)))
        .filter(|(at, gid)| !world.shards[*at].is_busy(gid, usize::MAX))
        .collect();
    let (at, gid) = gids.choose(rng)?;
    let kind = match rng.random_ratio(1, 2) {
        true => FinishKind::Commit,
        false => FinishKind::Rollback,
    };
    Some(Fault::ByHand(*at, (*gid).clone(), kind))
}

fn name_of(work: &Work) -> &'static str {
    match work {
        Work::Prepare(..) => "prepare",
        Work::Decide(..) => "decide",
        Work::Resolve { .. } => "resolve",
        Work::Finish { .. } => "finish",
        Work::Record(..) => "record",
        Work::Status { .. } => "status",
    }
}

/// The step of the protocol at which a message is under way.
fn step_of(message: &Message) -> &'static str {
    use crate::world::network::Reply;
    match &message.body {
        Body::Submit(_) => "submit",
        Body::AbortForGood { .. } => "abort for good",
        Body::AskStatus { .. } => "status",
        Body::Told { .. } => "answer to client",
        Body::Ask { question, .. } => match question {
            Question::Prepare(_) => "prepare",
            Question::HeadStart { .. } => "head start",
            Question::EndSession { .. } => "end of a session",
            Question::Decide(_) | Question::CommitSession { .. } => "decide",
            Question::Resolve { .. } => "resolve",
            Question::Finish { .. } => "finish",
            Question::Record(_) => "record",
            Question::Status { .. } => "status",
        },
        Body::Reply { reply, .. } => match reply {
            Reply::Vote(_) => "vote",
            Reply::HeadStarted(_) => "head started",
            Reply::SessionEnded => "session ended",
            Reply::Decided(_) => "decided",
            Reply::Register(_) => "register's answer",
            Reply::Finished(_) => "finished",
            Reply::Recorded(_) => "recorded",
            Reply::Status(_) | Reply::Unreachable => "status's answer",
        },
    }
}
