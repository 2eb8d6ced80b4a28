//! Drives one batch: executes the effects of the pure machine and feeds back what happened.
//!
//! At every await of this file the coordinator may die, and nothing is lost: before the decide
//! was sent, participants find no decision and abort; after it, they find what home recorded.
//! Nothing here is remembered anywhere else.

mod calls;
mod happened;
mod home;
mod phases;
mod traces;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use futures::stream::{FuturesUnordered, StreamExt};
use gavel_participant::crash_point;
use gavel_protocol::batch::{BatchSpec, Effect, Event, MemberIndex, Rerun, Verdict};
use gavel_protocol::message::{
    DecideAnswer, Decided, FailedMember, FinishKind, MemberReport, NoVote, PrepareAnswer,
    ShardIdentity, Vote, WhyAborted,
};
use gavel_protocol::outcome::StatementResult;
use gavel_protocol::{
    Access, Batch, BatchId, Isolation, Principal, Refusal, RefusalCode, ShardTag, Txid,
};
use tokio::time::timeout;
use tracing::Instrument;

use self::happened::{Happened, called};
use self::home::AtHome;
use self::phases::Phases;
use self::traces::Traces;
use crate::backoff;
use crate::coordinator::Inner;
use crate::engine::Answer;
use crate::lanes::{Approach, Seat, Side};
use crate::stories::Story;
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
    at_home: AtHome,
    /// The decide that waits for home to come to an end with what it does.
    waiting_decide: Option<(Vec<MemberIndex>, Vec<FailedMember>)>,
    /// Whom home has left out before the branches were asked.
    left_out: BTreeMap<MemberIndex, MemberReport>,
    executed: Vec<MemberIndex>,
    results: HashMap<ShardTag, Vec<Vec<StatementResult>>>,
    attempts: HashMap<Retry, u32>,
    phases: Phases,
    traces: Traces,
    story: Arc<Story>,
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
        let story = inner.stories.begin(batch, home.tag, waits(&tickets));
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
            at_home: match interactive {
                true => AtHome::Done(Vec::new()),
                false => AtHome::Nothing,
            },
            waiting_decide: None,
            left_out: BTreeMap::new(),
            executed: Vec::new(),
            results: HashMap::new(),
            attempts: HashMap::new(),
            phases: Phases::begin(),
            traces: Traces::of(&tickets, batch),
            story,
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
            let mut under_way = FuturesUnordered::new();
            let mut reruns = Vec::new();
            let approach = self.approach();
            self.inner.meters.began(self.tickets.len(), approach);
            let (mut machine, mut effects) = Batch::start(self.spec(approach));
            if approach == Approach::Together {
                self.start_ahead(false, &mut under_way);
            }
            loop {
                for effect in effects.drain(..) {
                    self.execute(effect, &mut under_way, &mut reruns);
                }
                let Some(happened) = under_way.next().await else {
                    break;
                };
                let Some(event) = self.keep_results(happened) else {
                    self.decide_if_it_waits(&mut under_way);
                    continue;
                };
                let was_decided = machine.is_decided();
                let next = machine.on(event);
                if machine.is_decided() && !was_decided {
                    self.note_decided();
                }
                effects = self.settle_session(&machine, next).await;
            }
            self.tickets.iter().for_each(|ticket| ticket.rest());
            reruns
        }
        .instrument(span)
        .await
    }

    fn note_decided(&mut self) {
        self.story.decided();
        self.phases.decided(&self.inner.meters);
        if let Some(seat) = &self.seat {
            seat.decided();
        }
    }

    fn note_applied(&self) {
        self.story.applied();
        self.phases.applied(&self.inner.meters);
        self.tickets.iter().for_each(|ticket| ticket.applied());
    }

    fn spec(&self, approach: Approach) -> BatchSpec {
        let members = self
            .tickets
            .iter()
            .map(|each| (each.submission.txid, each.request_hash()))
            .collect();
        let (prepared, read_only) = self.branches();
        BatchSpec {
            members,
            prepared,
            read_only,
            home_first: approach == Approach::HomeFirst,
        }
    }

    /// The shards but home, those that are prepared and those that are only read.
    fn branches(&self) -> (Vec<ShardTag>, Vec<ShardTag>) {
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
        (tags(prepared), tags(read_only))
    }

    /// The members that home has not left out.
    fn asked(&self) -> impl Iterator<Item = MemberIndex> {
        let everybody = 0..self.tickets.len();
        everybody.filter(|member| !self.left_out.contains_key(member))
    }

    /// A batch with a session at home has its rows there. When it will not be committed, that
    /// session must end first: its rows would stand in the way of an abort's. So must the
    /// sessions of an interactive batch's branches that were never prepared.
    async fn settle_session(&mut self, machine: &Batch, effects: Vec<Effect>) -> Vec<Effect> {
        let has_session = self.interactive || !matches!(self.at_home, AtHome::Nothing);
        let gives_up = has_session
            && !machine.is_in_doubt()
            && effects.iter().any(|effect| match effect {
                Effect::Rollback(_) | Effect::RecordAborts(_) | Effect::RunAgain(_) => true,
                Effect::Answer(_, verdict) => *verdict != Verdict::Committed,
                Effect::WorkFirst
                | Effect::Prepare(_)
                | Effect::Decide { .. }
                | Effect::AskRegister
                | Effect::Commit(_)
                | Effect::Applied
                | Effect::Alarm(_)
                | Effect::Rest => false,
            });
        if gives_up {
            self.at_home = AtHome::Nothing;
            let branches = self.identities.keys().filter(|_| self.interactive);
            let ended = branches
                .chain([&self.home.tag])
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
            Effect::WorkFirst => self.start_ahead(true, under_way),
            Effect::Prepare(shard) => {
                under_way.push(self.call(called::PREPARE, shard, self.prepare(shard)));
            }
            Effect::Decide { members, failed } => {
                self.phases.deciding(&self.inner.meters);
                self.decide_now(members, failed, under_way);
            }
            Effect::AskRegister => {
                let asked = self.ask_register(pause);
                under_way.push(self.call(called::ASK_REGISTER, self.home.tag, asked));
            }
            Effect::Commit(shard) => {
                let finished = self.finish(shard, FinishKind::Commit, pause);
                under_way.push(self.call(called::FINISH, shard, finished));
            }
            Effect::Rollback(shard) => {
                let finished = self.finish(shard, FinishKind::Rollback, pause);
                under_way.push(self.call(called::FINISH, shard, finished));
            }
            Effect::RecordAborts(aborts) => {
                let recorded = self.record_aborts(aborts);
                under_way.push(self.call(called::RECORD_ABORTS, self.home.tag, recorded));
            }
            Effect::Answer(member, verdict) => self.answer(member, verdict),
            Effect::Applied => self.note_applied(),
            Effect::RunAgain(groups) => reruns.extend(groups),
            Effect::Alarm(detail) => {
                self.inner.meters.alarms.increment(1);
                tracing::error!(batch = %self.batch, "ALARM: {detail}");
            }
            Effect::Rest => {}
        }
    }

    /// A call to a shard is sent.
    fn call(
        &self,
        name: &'static str,
        shard: ShardTag,
        work: BoxFuture<'static, Happened>,
    ) -> BoxFuture<'static, Happened> {
        self.story.sent(name, shard);
        self.traces.call(name, shard, work)
    }

    fn failed(&self, side: Side) {
        if let Some(seat) = &self.seat {
            seat.failed(side);
        }
    }

    /// How often this very effect was asked for before.
    fn count_attempt(&mut self, effect: &Effect) -> u32 {
        let retry = match effect {
            Effect::AskRegister => Retry::Register,
            Effect::Commit(shard) => Retry::Commit(*shard),
            Effect::Rollback(shard) => Retry::Rollback(*shard),
            Effect::WorkFirst
            | Effect::Prepare(_)
            | Effect::Decide { .. }
            | Effect::RecordAborts(_)
            | Effect::Answer(..)
            | Effect::Applied
            | Effect::RunAgain(_)
            | Effect::Alarm(_)
            | Effect::Rest => return 0,
        };
        let what = retry.name();
        let count = self.attempts.entry(retry).or_default();
        *count += 1;
        if *count > 1 {
            self.inner.meters.retried(what);
        }
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
                // Members are in the batch's order everywhere.
                self.executed.binary_search(&member).ok()?
            } else {
                member - self.left_out.range(..member).count()
            };
            self.results.get(&shard)?.get(at).cloned()
        };
        branches
            .iter()
            .filter_map(|branch| Some((branch.shard, of(branch.shard)?)))
            .collect()
    }

    /// Keeps results, and makes an event of what the machine wants to know.
    fn keep_results(&mut self, happened: Happened) -> Option<Event> {
        let (name, shard) = happened.call(self.home.tag);
        self.story.answered(name, shard, happened.trouble());
        Some(match happened {
            Happened::Voted(shard, PrepareAnswer { vote, results }) => {
                if has_left_out(&vote) {
                    self.failed(Side::Branches);
                }
                self.results.insert(shard, results);
                Event::Voted { shard, vote }
            }
            Happened::HeadStarted(started) => {
                self.note_head_start(started, false);
                return None;
            }
            Happened::WorkedFirst(started) => {
                self.note_head_start(started, true);
                Event::WorkedFirst {
                    left_out: self.left_out.clone(),
                }
            }
            Happened::Decided(DecideAnswer { decided, results }) => {
                match &decided {
                    Decided::Committed => {
                        self.results.insert(self.home.tag, results);
                    }
                    Decided::Aborted(WhyAborted::Member { .. }) => self.failed(Side::Home),
                    Decided::Aborted(_) | Decided::Unknown { .. } => {}
                }
                Event::Decided(decided)
            }
            Happened::Register(answer) => Event::Register(answer),
            Happened::Finished(shard, finished) => Event::Finished { shard, finished },
            Happened::Recorded(answer) => Event::Recorded(answer),
        })
    }
}

/// Who is in a batch that begins now, and how long each has waited.
fn waits(tickets: &[Arc<Ticket>]) -> impl Iterator<Item = (Txid, Duration)> {
    tickets
        .iter()
        .map(|ticket| (ticket.submission.txid, ticket.admitted.elapsed()))
}

/// Whether a branch had to do without somebody.
fn has_left_out(vote: &Vote) -> bool {
    match vote {
        Vote::Yes { reports, .. }
        | Vote::ReadOnly { reports }
        | Vote::No(NoVote::NoneExecuted { reports }) => reports
            .iter()
            .any(|report| matches!(report, MemberReport::Failed(_))),
        Vote::No(NoVote::NoCulprit(_) | NoVote::Refused(_)) | Vote::Unknown { .. } => false,
    }
}

/// Effects that the machine may ask for again, with growing pauses.
#[derive(PartialEq, Eq, Hash)]
enum Retry {
    Register,
    Commit(ShardTag),
    Rollback(ShardTag),
}

impl Retry {
    fn name(&self) -> &'static str {
        match self {
            Self::Register => "register",
            Self::Commit(_) => "commit",
            Self::Rollback(_) => "rollback",
        }
    }
}
