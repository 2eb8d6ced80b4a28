//! Drives one batch: executes the effects of the pure machine and feeds back what happened.
//!
//! At every await of this file the coordinator may die, and nothing is lost: before the decide
//! was sent, participants find no decision and abort; after it, they find what home recorded.
//! Nothing here is remembered anywhere else.

mod calls;

use std::collections::HashMap;
use std::sync::Arc;

use futures::future::BoxFuture;
use futures::stream::{FuturesUnordered, StreamExt};
use gavel_participant::crash_point;
use gavel_protocol::batch::{BatchSpec, Effect, Event, MemberIndex, Rerun, Verdict};
use gavel_protocol::message::{DecideAnswer, Decided, FinishKind, PrepareAnswer, ShardIdentity};
use gavel_protocol::outcome::StatementResult;
use gavel_protocol::{
    Access, Batch, BatchId, Isolation, Principal, Refusal, RefusalCode, ShardTag,
};
use tokio::time::timeout;
use tracing::Instrument;

use self::calls::Happened;
use crate::backoff;
use crate::coordinator::Inner;
use crate::engine::Answer;
use crate::lanes::Seat;
use crate::ticket::Ticket;
use crate::verdict;

/// What a batch becomes apart from answers.
pub type Reruns = Vec<Rerun>;

/// One batch with everything that its effects need.
pub struct Driver {
    inner: Arc<Inner>,
    tickets: Vec<Arc<Ticket>>,
    batch: BatchId,
    home: ShardIdentity,
    identities: HashMap<ShardTag, ShardIdentity>,
    principal: Principal,
    isolation: Isolation,
    batch_safe: bool,
    interactive: bool,
    /// Interactive batches go past the lanes, and have none.
    seat: Option<Seat>,
    executed: Vec<MemberIndex>,
    results: HashMap<ShardTag, Vec<Vec<StatementResult>>>,
    attempts: HashMap<Retry, u32>,
}

impl Driver {
    /// A driver for these transactions, which have one home, one set of shards and one
    /// principal. An interactive batch brings the identity that its home had at the beginning.
    /// Refused if one of the shards has never been reached.
    pub fn new(
        inner: Arc<Inner>,
        tickets: Vec<Arc<Ticket>>,
        batch: BatchId,
        session_home: Option<ShardIdentity>,
    ) -> Result<Self, Refusal> {
        let first = &tickets[0].submission;
        let home = inner.presence.identity(first.txid.home())?;
        let interactive = session_home.is_some();
        if session_home.is_some_and(|session_home| session_home != home) {
            // The branches' gids name home's earlier life (R13): nobody could finish them.
            let message = "home began another incarnation since this transaction began";
            return Err(Refusal::new(RefusalCode::SessionLost, message));
        }
        let mut identities = HashMap::new();
        for branch in &first.transaction.branches {
            identities.insert(branch.shard, inner.presence.identity(branch.shard)?);
        }
        Ok(Self {
            batch,
            home,
            identities,
            principal: first.principal.clone(),
            isolation: first.transaction.isolation,
            batch_safe: tickets
                .iter()
                .all(|each| each.submission.transaction.is_batch_safe()),
            interactive,
            seat: None,
            executed: Vec::new(),
            results: HashMap::new(),
            attempts: HashMap::new(),
            inner,
            tickets,
        })
    }

    /// The batch goes through a lane, in which others are before and behind it.
    pub fn in_lane(self, seat: Seat) -> Self {
        Self {
            seat: Some(seat),
            ..self
        }
    }

    /// Drives the batch to its rest; returns the members that must run again.
    pub async fn run(mut self) -> Reruns {
        let span = tracing::debug_span!("batch", batch = %self.batch, home = %self.home.tag);
        async move {
            let (mut machine, effects) = Batch::start(self.spec());
            let mut under_way = FuturesUnordered::new();
            let mut reruns = Vec::new();
            let mut effects = self.settle_session(&machine, effects).await;
            loop {
                for effect in effects.drain(..) {
                    self.execute(effect, &mut under_way, &mut reruns);
                }
                let Some(happened) = under_way.next().await else {
                    break;
                };
                let event = self.keep_results(happened);
                let was_decided = machine.is_decided();
                let next = machine.on(event);
                if let Some(seat) = self.seat.as_ref()
                    && machine.is_decided()
                    && !was_decided
                {
                    seat.decided();
                }
                effects = self.settle_session(&machine, next).await;
            }
            self.tickets.iter().for_each(|ticket| ticket.rest());
            reruns
        }
        .instrument(span)
        .await
    }

    fn spec(&self) -> BatchSpec {
        let members = self
            .tickets
            .iter()
            .map(|each| (each.submission.txid, each.request_hash))
            .collect();
        let branches = &self.tickets[0].submission.transaction.branches;
        let away = branches
            .iter()
            .filter(|branch| branch.shard != self.home.tag);
        let (prepared, read_only) = away.partition::<Vec<_>, _>(|branch| {
            // An interactive branch may write at any time.
            self.interactive || branch.access == Access::ReadWrite
        });
        let tags = |branches: Vec<&gavel_protocol::BranchWork>| {
            branches.into_iter().map(|branch| branch.shard).collect()
        };
        BatchSpec {
            members,
            prepared: tags(prepared),
            read_only: tags(read_only),
        }
    }

    /// An interactive batch has its rows in an open session at home. When it will not be
    /// committed, that session must end first: its rows would stand in the way of an abort's.
    /// So must the sessions of branches that were never prepared.
    async fn settle_session(&mut self, machine: &Batch, effects: Vec<Effect>) -> Vec<Effect> {
        let gives_up = self.interactive
            && !machine.is_in_doubt()
            && effects.iter().any(|effect| match effect {
                Effect::Rollback(_) | Effect::RecordAborts(_) | Effect::RunAgain(_) => true,
                Effect::Answer(_, verdict) => *verdict != Verdict::Committed,
                Effect::Prepare(_)
                | Effect::Decide { .. }
                | Effect::AskRegister
                | Effect::Commit(_)
                | Effect::Applied
                | Effect::Alarm(_)
                | Effect::Rest => false,
            });
        if gives_up {
            let shards = self.identities.keys().chain([&self.home.tag]);
            let ended = shards
                .filter_map(|shard| self.participant(*shard))
                .map(|participant| {
                    let batch = self.batch;
                    async move { participant.session_rollback(batch).await }
                });
            let ended = futures::future::join_all(ended.collect::<Vec<_>>());
            let _ = timeout(self.finish_timeout(), ended).await;
        }
        effects
    }

    fn execute(
        &mut self,
        effect: Effect,
        under_way: &mut FuturesUnordered<BoxFuture<'static, Happened>>,
        reruns: &mut Reruns,
    ) {
        let attempt = self.count_attempt(&effect);
        let pause = backoff::pause(attempt, &self.inner.limits);
        match effect {
            Effect::Prepare(shard) => under_way.push(self.prepare(shard)),
            Effect::Decide { members, failed } => {
                let decide = self.decide(members, failed);
                under_way.push(self.in_turn(decide));
            }
            Effect::AskRegister => under_way.push(self.ask_register(pause)),
            Effect::Commit(shard) => under_way.push(self.finish(shard, FinishKind::Commit, pause)),
            Effect::Rollback(shard) => {
                under_way.push(self.finish(shard, FinishKind::Rollback, pause));
            }
            Effect::RecordAborts(aborts) => under_way.push(self.record_aborts(aborts)),
            Effect::Answer(member, verdict) => self.answer(member, verdict),
            Effect::Applied => self.tickets.iter().for_each(|ticket| ticket.applied()),
            Effect::RunAgain(groups) => reruns.extend(groups),
            Effect::Alarm(detail) => tracing::error!(batch = %self.batch, "ALARM: {detail}"),
            Effect::Rest => {}
        }
    }

    /// In a lane, batches are decided in the order in which they began.
    fn in_turn(&self, decide: BoxFuture<'static, Happened>) -> BoxFuture<'static, Happened> {
        let Some(seat) = self.seat.clone() else {
            return decide;
        };
        // Home is there, or there is nothing but home: then no other may be there with it.
        let has_branches = self.identities.keys().any(|shard| *shard != self.home.tag);
        if has_branches {
            seat.voted();
        }
        Box::pin(async move {
            seat.turn_to_decide().await;
            decide.await
        })
    }

    /// How often this very effect was asked for before.
    fn count_attempt(&mut self, effect: &Effect) -> u32 {
        let retry = match effect {
            Effect::AskRegister => Retry::Register,
            Effect::Commit(shard) => Retry::Commit(*shard),
            Effect::Rollback(shard) => Retry::Rollback(*shard),
            Effect::Prepare(_)
            | Effect::Decide { .. }
            | Effect::RecordAborts(_)
            | Effect::Answer(..)
            | Effect::Applied
            | Effect::RunAgain(_)
            | Effect::Alarm(_)
            | Effect::Rest => return 0,
        };
        let count = self.attempts.entry(retry).or_default();
        *count += 1;
        *count - 1
    }

    fn answer(&self, member: MemberIndex, verdict: Verdict) {
        let Some(ticket) = self.tickets.get(member) else {
            return;
        };
        crash_point!("coordinator.answer.telling");
        let results = match verdict {
            Verdict::Committed => self.results_of(member),
            Verdict::Aborted(_)
            | Verdict::Refused(_)
            | Verdict::Recorded(_)
            | Verdict::InDoubt(_) => Vec::new(),
        };
        let is_committed = matches!(verdict, Verdict::Committed);
        let outcome = verdict::outcome(verdict, false);
        let answer = Answer {
            txid: ticket.submission.txid,
            outcome,
            results,
        };
        if is_committed {
            // Ends with `Effect::Applied`.
            ticket.decided(answer);
        } else {
            ticket.end(answer);
        }
    }

    fn results_of(&self, member: MemberIndex) -> Vec<(ShardTag, Vec<StatementResult>)> {
        let branches = &self.tickets[member].submission.transaction.branches;
        let of = |shard: ShardTag| {
            let at = if shard == self.home.tag {
                self.executed
                    .iter()
                    .position(|executed| *executed == member)?
            } else {
                member
            };
            self.results.get(&shard)?.get(at).cloned()
        };
        branches
            .iter()
            .filter_map(|branch| Some((branch.shard, of(branch.shard)?)))
            .collect()
    }

    fn keep_results(&mut self, happened: Happened) -> Event {
        match happened {
            Happened::Voted(shard, PrepareAnswer { vote, results }) => {
                self.results.insert(shard, results);
                Event::Voted { shard, vote }
            }
            Happened::Decided(DecideAnswer { decided, results }) => {
                if decided == Decided::Committed {
                    self.results.insert(self.home.tag, results);
                }
                Event::Decided(decided)
            }
            Happened::Register(answer) => Event::Register(answer),
            Happened::Finished(shard, finished) => Event::Finished { shard, finished },
            Happened::Recorded(answer) => Event::Recorded(answer),
        }
    }
}

/// Effects that the machine may ask for again, with growing pauses.
#[derive(PartialEq, Eq, Hash)]
enum Retry {
    Register,
    Commit(ShardTag),
    Rollback(ShardTag),
}
