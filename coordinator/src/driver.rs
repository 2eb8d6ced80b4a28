//! Drives one batch: executes the effects of the pure machine and feeds back what happened.
//!
//! At every await of this file the coordinator may die, and nothing is lost: before the decide
//! was sent, participants find no decision and abort; after it, they find what home recorded.
//! Nothing here is remembered anywhere else.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use futures::stream::{FuturesUnordered, StreamExt};
use gavel_participant::{Participant, crash_point};
use gavel_protocol::batch::{BatchSpec, Effect, Event, MemberIndex, Rerun, Verdict};
use gavel_protocol::message::{
    Decide, DecideAnswer, Decided, FailedMember, Finish, FinishKind, Finished, Member, Prepare,
    PrepareAnswer, RecordAborts, RecordAnswer, RegisterAnswer, ShardIdentity, Vote,
};
use gavel_protocol::outcome::StatementResult;
use gavel_protocol::{
    Access, Batch, BatchId, Gid, Isolation, MembersDigest, Principal, Refusal, RefusalCode,
    ShardTag, Txid,
};
use tokio::time::{sleep, timeout};
use tracing::Instrument;

use crate::backoff;
use crate::coordinator::Inner;
use crate::engine::Answer;
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
            executed: Vec::new(),
            results: HashMap::new(),
            attempts: HashMap::new(),
            inner,
            tickets,
        })
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
                let next = machine.on(event);
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
            Effect::Decide { members, failed } => under_way.push(self.decide(members, failed)),
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

    // ---- effects that ask a participant ----

    fn prepare(&self, shard: ShardTag) -> BoxFuture<'static, Happened> {
        let Some(participant) = self.participant(shard) else {
            return never_sent(shard);
        };
        let patience = Duration::from_millis(self.inner.limits.prepare_timeout_ms);
        if self.interactive {
            let (batch, txid) = (self.batch, self.tickets[0].submission.txid);
            return Box::pin(async move {
                crash_point!("coordinator.prepare.sending");
                let vote = timeout(patience, participant.session_prepare(batch)).await;
                crash_point!("coordinator.prepare.answered");
                let vote = vote.unwrap_or_else(|_| no_vote_came(patience));
                let vote = with_only_member(vote, txid);
                Happened::Voted(
                    shard,
                    PrepareAnswer {
                        vote,
                        results: Vec::new(),
                    },
                )
            });
        }
        let prepare = self.prepare_message(shard);
        Box::pin(async move {
            crash_point!("coordinator.prepare.sending");
            let answer = timeout(patience, participant.prepare(prepare)).await;
            crash_point!("coordinator.prepare.answered");
            let answer = answer.unwrap_or_else(|_| PrepareAnswer {
                vote: no_vote_came(patience),
                results: Vec::new(),
            });
            Happened::Voted(shard, answer)
        })
    }

    fn prepare_message(&self, shard: ShardTag) -> Prepare {
        let first = &self.tickets[0].submission.transaction;
        Prepare {
            gid: self.gid(shard),
            incarnation: self.identities[&shard].incarnation,
            driver: self.inner.driver,
            access: first
                .branch(shard)
                .map_or(Access::ReadWrite, |branch| branch.access),
            isolation: self.isolation,
            batch_safe: self.batch_safe,
            members: (0..self.tickets.len())
                .map(|member| self.member(member, shard))
                .collect(),
        }
    }

    fn decide(
        &mut self,
        members: Vec<MemberIndex>,
        failed: Vec<FailedMember>,
    ) -> BoxFuture<'static, Happened> {
        let Some(participant) = self.participant(self.home.tag) else {
            let detail = "home is not in the directory".to_owned();
            return Box::pin(async { Happened::Decided(unknown_decision(detail)) });
        };
        self.executed.clone_from(&members);
        let patience = Duration::from_millis(self.inner.limits.decide_timeout_ms);
        let came_not = move || unknown_decision(format!("no answer within {patience:?}"));
        if self.interactive {
            let batch = self.batch;
            return Box::pin(async move {
                crash_point!("coordinator.decide.sending");
                let decided = timeout(patience, participant.session_commit(batch)).await;
                crash_point!("coordinator.decide.answered");
                Happened::Decided(decided.map_or_else(
                    |_| came_not(),
                    |decided| DecideAnswer {
                        decided,
                        results: Vec::new(),
                    },
                ))
            });
        }
        let decide = self.decide_message(&members, failed);
        Box::pin(async move {
            crash_point!("coordinator.decide.sending");
            let answer = timeout(patience, participant.decide(decide)).await;
            crash_point!("coordinator.decide.answered");
            Happened::Decided(answer.unwrap_or_else(|_| came_not()))
        })
    }

    /// The decide for these members.
    pub fn decide_message(&self, members: &[MemberIndex], failed: Vec<FailedMember>) -> Decide {
        Decide {
            batch: self.batch,
            incarnation: self.home.incarnation,
            prepared: self.spec().prepared,
            principal: self.principal.clone(),
            isolation: self.isolation,
            batch_safe: self.batch_safe,
            members: members
                .iter()
                .map(|member| self.member(*member, self.home.tag))
                .collect(),
            failed,
        }
    }

    fn ask_register(&self, pause: Duration) -> BoxFuture<'static, Happened> {
        let participant = self.participant(self.home.tag);
        let (batch, incarnation) = (self.batch, self.home.incarnation);
        let patience = Duration::from_millis(self.inner.limits.resolve_timeout_ms);
        Box::pin(async move {
            wait(pause).await;
            let unreachable = |detail: &str| RegisterAnswer::Unreachable {
                detail: detail.into(),
            };
            let Some(participant) = participant else {
                return Happened::Register(unreachable("home is not in the directory"));
            };
            crash_point!("coordinator.register.sending");
            let answer = timeout(patience, participant.resolve(batch, incarnation)).await;
            crash_point!("coordinator.register.answered");
            Happened::Register(answer.unwrap_or_else(|_| unreachable("no answer in time")))
        })
    }

    fn finish(
        &self,
        shard: ShardTag,
        kind: FinishKind,
        pause: Duration,
    ) -> BoxFuture<'static, Happened> {
        let participant = self.participant(shard);
        let finish = Finish {
            gid: self.gid(shard),
            kind,
        };
        let patience = self.finish_timeout();
        Box::pin(async move {
            wait(pause).await;
            let unknown = |detail: &str| Finished::Unknown {
                detail: detail.to_owned(),
            };
            let Some(participant) = participant else {
                return Happened::Finished(shard, unknown("not in the directory"));
            };
            crash_point!("coordinator.finish.sending");
            let answer = timeout(patience, participant.finish(vec![finish])).await;
            crash_point!("coordinator.finish.answered");
            let finished = answer.ok().and_then(|answers| answers.into_iter().next());
            Happened::Finished(
                shard,
                finished.unwrap_or_else(|| unknown("no answer in time")),
            )
        })
    }

    fn record_aborts(&self, aborts: Vec<FailedMember>) -> BoxFuture<'static, Happened> {
        let participant = self.participant(self.home.tag);
        let record = RecordAborts {
            batch: Some(self.batch),
            incarnation: self.home.incarnation,
            principal: self.principal.clone(),
            aborts,
        };
        let patience = Duration::from_millis(self.inner.limits.resolve_timeout_ms);
        Box::pin(async move {
            let unknown = |detail: &str| RecordAnswer::Unknown {
                detail: detail.to_owned(),
            };
            let Some(participant) = participant else {
                return Happened::Recorded(unknown("home is not in the directory"));
            };
            crash_point!("coordinator.record.sending");
            let answer = timeout(patience, participant.record_aborts(record)).await;
            crash_point!("coordinator.record.answered");
            Happened::Recorded(answer.unwrap_or_else(|_| unknown("no answer in time")))
        })
    }

    // ---- answers ----

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

    // ---- parts of messages ----

    fn participant(&self, shard: ShardTag) -> Option<Arc<dyn Participant>> {
        self.inner.directory.shard(shard).cloned()
    }

    fn gid(&self, shard: ShardTag) -> Gid {
        Gid {
            deployment: self.home.deployment.clone(),
            home: self.home.tag,
            home_incarnation: self.home.incarnation,
            batch: self.batch,
            shard,
        }
    }

    fn member(&self, member: MemberIndex, shard: ShardTag) -> Member {
        let ticket = &self.tickets[member];
        let branch = ticket.submission.transaction.branch(shard);
        let statements = match branch {
            // An interactive transaction's work has been run already.
            Some(branch) if !self.interactive => branch.statements.clone(),
            Some(_) | None => Arc::from([]),
        };
        Member {
            txid: ticket.submission.txid,
            request_hash: ticket.request_hash,
            statements,
        }
    }

    fn finish_timeout(&self) -> Duration {
        Duration::from_millis(self.inner.limits.resolve_timeout_ms)
    }
}

/// Effects that the machine may ask for again, with growing pauses.
#[derive(PartialEq, Eq, Hash)]
enum Retry {
    Register,
    Commit(ShardTag),
    Rollback(ShardTag),
}

/// A sleep of no length still lasts to the timer's next tick, a millisecond away.
async fn wait(pause: Duration) {
    if !pause.is_zero() {
        sleep(pause).await;
    }
}

/// What an effect came to.
enum Happened {
    Voted(ShardTag, PrepareAnswer),
    Decided(DecideAnswer),
    Register(RegisterAnswer),
    Finished(ShardTag, Finished),
    Recorded(RecordAnswer),
}

/// A session does not know its txid, and its batch has one member: that one was executed.
fn with_only_member(vote: Vote, txid: Txid) -> Vote {
    match vote {
        Vote::Yes { xid, reports, .. } => Vote::Yes {
            digest: MembersDigest::of([txid]),
            xid,
            reports,
        },
        other => other,
    }
}

fn no_vote_came(patience: Duration) -> Vote {
    Vote::Unknown {
        detail: format!("no vote within {patience:?}"),
    }
}

fn never_sent(shard: ShardTag) -> BoxFuture<'static, Happened> {
    let detail = "the shard is not in the directory".to_owned();
    let answer = PrepareAnswer {
        vote: Vote::Unknown { detail },
        results: Vec::new(),
    };
    Box::pin(async move { Happened::Voted(shard, answer) })
}

fn unknown_decision(detail: String) -> DecideAnswer {
    DecideAnswer {
        decided: Decided::Unknown { detail },
        results: Vec::new(),
    }
}
