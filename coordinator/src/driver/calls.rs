//! The effects that ask a participant: each is one call with a deadline, whose answer, or lack of
//! one, goes back into the machine.

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use gavel_participant::{Participant, crash_point};
use gavel_protocol::batch::MemberIndex;
use gavel_protocol::message::{
    Decide, DecideAnswer, Decided, FailedMember, Finish, FinishKind, Finished, HeadStart,
    HeadStarted, Member, Prepare, PrepareAnswer, RecordAborts, RecordAnswer, RegisterAnswer, Vote,
};
use gavel_protocol::outcome::StatementResult;
use gavel_protocol::{Access, Gid, MembersDigest, ShardTag, Txid};
use tokio::time::{sleep, timeout};

use super::Driver;
use super::happened::Happened;
use super::home::AtHome;
use crate::circuits::{is_decision, is_finish, is_vote};
use crate::lanes::Seat;

impl Driver {
    pub(super) fn prepare(&self, shard: ShardTag) -> BoxFuture<'static, Happened> {
        let Some(participant) = self.participant(shard) else {
            return never_sent(shard);
        };
        let patience = Duration::from_millis(self.inner.limits.prepare_timeout_ms);
        let call = self.inner.circuits.call(shard);
        if self.interactive {
            let (batch, txid) = (self.batch, self.tickets[0].submission.txid);
            return Box::pin(async move {
                crash_point!("coordinator.prepare.sending");
                let asked = participant.session_prepare(batch);
                let vote = call.answer(patience, asked).await;
                crash_point!("coordinator.prepare.answered");
                let vote = vote.unwrap_or_else(|| no_vote_came(patience));
                call.ended(is_vote(&vote));
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
            let answer = call.answer(patience, participant.prepare(prepare)).await;
            crash_point!("coordinator.prepare.answered");
            let answer = answer.unwrap_or_else(|| PrepareAnswer {
                vote: no_vote_came(patience),
                results: Vec::new(),
            });
            call.ended(is_vote(&answer.vote));
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
            in_chunks: self.seat.as_ref().is_some_and(Seat::expects_failures),
            members: self
                .asked()
                .map(|member| self.member(member, shard))
                .collect(),
        }
    }

    pub(super) fn decide(
        &self,
        members: &[MemberIndex],
        failed: Vec<FailedMember>,
    ) -> BoxFuture<'static, Happened> {
        let Some(participant) = self.participant(self.home.tag) else {
            let decided = not_decided("home is not in the directory".to_owned());
            let results = Vec::new();
            return Box::pin(async move { Happened::Decided(DecideAnswer { decided, results }) });
        };
        let patience = Duration::from_millis(self.inner.limits.decide_timeout_ms);
        let came_not = move || DecideAnswer {
            decided: not_decided(format!("no answer within {patience:?}")),
            results: Vec::new(),
        };
        let decide = self.decide_message(members, failed);
        let call = self.inner.circuits.call(self.home.tag);
        Box::pin(async move {
            crash_point!("coordinator.decide.sending");
            let answer = timeout(patience, participant.decide(decide)).await;
            crash_point!("coordinator.decide.answered");
            let answer = answer.unwrap_or_else(|_| came_not());
            call.ended(is_decision(&answer.decided));
            Happened::Decided(answer)
        })
    }

    /// Home works ahead of the votes. If it works `first`, before any branch is asked, it may leave
    /// out who fails.
    pub(super) fn head_start(&mut self, first: bool) -> BoxFuture<'static, Happened> {
        self.at_home = AtHome::Working;
        let happened = match first {
            true => Happened::WorkedFirst,
            false => Happened::HeadStarted,
        };
        let (circuits, home) = (self.inner.circuits.clone(), self.home.tag);
        let participant = self.participant(home);
        let everybody: Vec<_> = (0..self.tickets.len()).collect();
        let head_start = HeadStart {
            decide: self.decide_message(&everybody, Vec::new()),
            driver: self.inner.driver,
            leave_out: first,
        };
        let patience = Duration::from_millis(self.inner.limits.decide_timeout_ms);
        Box::pin(async move {
            let not = |detail: &str| HeadStarted::Not {
                detail: detail.to_owned(),
            };
            let Some(participant) = participant else {
                return happened(not("home is not in the directory"));
            };
            let call = circuits.call(home);
            crash_point!("coordinator.head_start.sending");
            let started = timeout(patience, participant.head_start(head_start)).await;
            crash_point!("coordinator.head_start.answered");
            if first {
                crash_point!("coordinator.head_start.first");
            }
            if matches!(started, Ok(HeadStarted::Ready { .. })) {
                call.ended(true);
            }
            happened(started.unwrap_or_else(|_| not("no answer in time")))
        })
    }

    /// Decides in a session at home, where everybody's work is done and had these results.
    pub(super) fn decide_in_session(
        &self,
        results: Vec<Vec<StatementResult>>,
    ) -> BoxFuture<'static, Happened> {
        let participant = self.participant(self.home.tag);
        let patience = Duration::from_millis(self.inner.limits.decide_timeout_ms);
        let batch = self.batch;
        let call = self.inner.circuits.call(self.home.tag);
        Box::pin(async move {
            let decided = match participant {
                Some(participant) => {
                    crash_point!("coordinator.decide.sending");
                    let decided = timeout(patience, participant.session_commit(batch)).await;
                    crash_point!("coordinator.decide.answered");
                    let came_not = |_| not_decided(format!("no answer within {patience:?}"));
                    decided.unwrap_or_else(came_not)
                }
                None => not_decided("home is not in the directory".to_owned()),
            };
            call.ended(is_decision(&decided));
            Happened::Decided(DecideAnswer { decided, results })
        })
    }

    /// The decide for these members.
    pub fn decide_message(&self, members: &[MemberIndex], failed: Vec<FailedMember>) -> Decide {
        Decide {
            batch: self.batch,
            incarnation: self.home.incarnation,
            prepared: self.branches().0,
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

    pub(super) fn ask_register(&self, pause: Duration) -> BoxFuture<'static, Happened> {
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

    pub(super) fn finish(
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
        let circuits = self.inner.circuits.clone();
        Box::pin(async move {
            wait(pause).await;
            let unknown = |detail: &str| Finished::Unknown {
                detail: detail.to_owned(),
            };
            let Some(participant) = participant else {
                return Happened::Finished(shard, unknown("not in the directory"));
            };
            let call = circuits.call(shard);
            crash_point!("coordinator.finish.sending");
            let answer = timeout(patience, participant.finish(vec![finish])).await;
            crash_point!("coordinator.finish.answered");
            let finished = answer.ok().and_then(|answers| answers.into_iter().next());
            let finished = finished.unwrap_or_else(|| unknown("no answer in time"));
            call.ended(is_finish(&finished));
            Happened::Finished(shard, finished)
        })
    }

    pub(super) fn record_aborts(&self, aborts: Vec<FailedMember>) -> BoxFuture<'static, Happened> {
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

    pub(super) fn participant(&self, shard: ShardTag) -> Option<Arc<dyn Participant>> {
        self.inner.directory.shard(shard)
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
            request_hash: ticket.request_hash(),
            statements,
        }
    }

    pub(super) fn finish_timeout(&self) -> Duration {
        Duration::from_millis(self.inner.limits.resolve_timeout_ms)
    }
}

/// A sleep of no length still lasts to the timer's next tick, a millisecond away.
async fn wait(pause: Duration) {
    if !pause.is_zero() {
        sleep(pause).await;
    }
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
        detail: format!("no vote within {patience:?}, or the shard does not answer any more"),
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

fn not_decided(detail: String) -> Decided {
    Decided::Unknown { detail }
}
