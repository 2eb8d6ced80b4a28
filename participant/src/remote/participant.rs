//! Every method of [`Participant`], over the network, with the value that is honest when no
//! answer comes.

use std::sync::Arc;

use async_trait::async_trait;
use gavel_protocol::message::{
    BranchRow, Decide, DecideAnswer, Decided, DecisionRow, Executed, Finish, Finished, HeadStart,
    HeadStarted, InDoubtBranch, NoVote, Prepare, PrepareAnswer, RecordAborts, RecordAnswer,
    RegisterAnswer, Retention, SessionExecute, SessionOpen, SessionStep, ShardIdentity,
    StatusAnswer, Vote,
};
use gavel_protocol::{
    BatchId, DriverId, Gid, Incarnation, Principal, Refusal, RefusalCode, ShardTag, Txid,
};
use gavel_wire::convert::id_bytes;
use gavel_wire::participant as wire;
use tonic::Request;

use super::RemoteParticipant;
use super::call::NoAnswer;
use super::check::{decided_fits, vote_fits};
use crate::api::{Attendance, Participant, Unavailable};

/// A call of the generated client, as [`RemoteParticipant::call`] wants it.
macro_rules! rpc {
    ($method:ident, $request:ident) => {
        |mut client, request: Request<wire::$request>| async move { client.$method(request).await }
    };
}

#[async_trait]
impl Participant for RemoteParticipant {
    fn tag(&self) -> ShardTag {
        self.tag
    }

    async fn identity(&self) -> Result<ShardIdentity, Unavailable> {
        let request = wire::ShardRequest { shard: None };
        self.call(
            request,
            self.deadlines.service,
            rpc!(identity, ShardRequest),
        )
        .await
        .and_then(|answer| Ok(answer.try_into()?))
        .map_err(|no_answer| self.unavailable(no_answer))
    }

    async fn attend(&self, driver: DriverId) -> Result<Arc<dyn Attendance>, Unavailable> {
        match self.open_attendance(driver).await {
            Ok(attendance) => Ok(Arc::new(attendance)),
            Err(no_answer) => Err(self.unavailable(no_answer)),
        }
    }

    async fn prepare(&self, prepare: Prepare) -> PrepareAnswer {
        self.prepared(prepare)
            .await
            .unwrap_or_else(|no_answer| PrepareAnswer {
                vote: no_vote(no_answer),
                results: Vec::new(),
            })
    }

    async fn decide(&self, decide: Decide) -> DecideAnswer {
        self.decided(decide)
            .await
            .unwrap_or_else(|no_answer| DecideAnswer {
                decided: undecided(no_answer),
                results: Vec::new(),
            })
    }

    async fn head_start(&self, head_start: HeadStart) -> HeadStarted {
        let batch = head_start.decide.batch;
        let members = head_start.decide.members.len();
        let started = self
            .call(
                head_start.into(),
                self.deadlines.decide,
                rpc!(head_start, HeadStartRequest),
            )
            .await
            .and_then(|answer| {
                self.is_about(batch, &answer.batch)?;
                Ok(HeadStarted::try_from(answer)?)
            });
        match started {
            Ok(HeadStarted::Ready { left_out, results })
                if left_out.len() + results.len() != members
                    || left_out.keys().any(|place| *place >= members) =>
            {
                HeadStarted::Not {
                    detail: self.misplaced("the answer miscounts").detail(),
                }
            }
            Ok(started) => started,
            Err(no_answer) => HeadStarted::Not {
                detail: no_answer.detail(),
            },
        }
    }

    async fn finish(&self, branches: Vec<Finish>) -> Vec<Finished> {
        let count = branches.len();
        self.call(
            branches.into(),
            self.deadlines.service,
            rpc!(finish, FinishRequest),
        )
        .await
        .and_then(|answer: wire::FinishResponse| Ok(answer.try_into()?))
        .and_then(|finished| self.one_each(finished, count))
        .unwrap_or_else(|no_answer| {
            let detail = no_answer.detail();
            vec![Finished::Unknown { detail }; count]
        })
    }

    async fn resolve(&self, batch: BatchId, incarnation: Incarnation) -> RegisterAnswer {
        let request = wire::ResolveRequest {
            shard: None,
            batch: id_bytes(batch),
            incarnation: Some(incarnation.0),
        };
        self.call(
            request,
            self.deadlines.service,
            rpc!(resolve, ResolveRequest),
        )
        .await
        .and_then(|answer| {
            self.is_about(batch, &answer.batch)?;
            Ok(answer.try_into()?)
        })
        .unwrap_or_else(unreachable)
    }

    async fn look_up_decisions(&self, batches: Vec<BatchId>) -> Vec<RegisterAnswer> {
        let count = batches.len();
        let deadline = self.deadlines.service;
        self.call(
            batches.into(),
            deadline,
            rpc!(look_up_decisions, LookUpRequest),
        )
        .await
        .and_then(|answer: wire::LookUpDecisionsResponse| Ok(answer.try_into()?))
        .and_then(|answers| self.one_each(answers, count))
        .unwrap_or_else(|no_answer| vec![unreachable(no_answer); count])
    }

    async fn look_up_branches(&self, batches: Vec<BatchId>) -> Result<Vec<BranchRow>, Unavailable> {
        let deadline = self.deadlines.service;
        self.call(
            batches.into(),
            deadline,
            rpc!(look_up_branches, LookUpRequest),
        )
        .await
        .and_then(|answer: wire::BranchRowsResponse| Ok(answer.try_into()?))
        .map_err(|no_answer| self.unavailable(no_answer))
    }

    async fn record_aborts(&self, record: RecordAborts) -> RecordAnswer {
        let count = record.aborts.len();
        let recorded = self
            .call(
                record.into(),
                self.deadlines.decide,
                rpc!(record_aborts, RecordAbortsRequest),
            )
            .await
            .and_then(|answer: wire::RecordAbortsResponse| Ok(answer.try_into()?));
        match recorded {
            Ok(RecordAnswer::Recorded(list)) if list.len() != count => RecordAnswer::Unknown {
                detail: self.misplaced("the answer miscounts").detail(),
            },
            Ok(answer) => answer,
            Err(NoAnswer::NeverSent(refusal)) => RecordAnswer::Refused(refusal),
            Err(NoAnswer::Unknown(detail)) => RecordAnswer::Unknown { detail },
        }
    }

    async fn status(&self, txid: Txid, asker: Option<Principal>) -> StatusAnswer {
        self.call(
            (txid, asker).into(),
            self.deadlines.service,
            rpc!(status, StatusRequest),
        )
        .await
        .and_then(|answer: wire::StatusResponse| {
            self.is_about(txid, &answer.txid)?;
            Ok(answer.try_into()?)
        })
        .unwrap_or_else(|no_answer| StatusAnswer::Unreachable {
            detail: no_answer.detail(),
        })
    }

    async fn session_open(&self, open: SessionOpen) -> SessionStep {
        let batch = open.gid.batch;
        let deadline = self.deadlines.service;
        let step = self
            .call(
                open.into(),
                deadline,
                rpc!(session_open, SessionOpenRequest),
            )
            .await;
        self.step(batch, step, RefusalCode::ShardUnavailable)
    }

    async fn session_execute(&self, execute: SessionExecute) -> Executed {
        let (batch, sequence) = (execute.batch, execute.sequence);
        self.call(
            execute.into(),
            self.deadlines.prepare,
            rpc!(session_execute, SessionExecuteRequest),
        )
        .await
        .and_then(|answer: wire::SessionExecuteResponse| {
            self.is_about(batch, &answer.batch)?;
            if answer.sequence != Some(sequence) {
                return Err(self.misplaced("the answer is to another statement"));
            }
            Ok(answer.try_into()?)
        })
        .unwrap_or_else(|no_answer| {
            Executed::Lost(session_lost(no_answer, RefusalCode::SessionLost))
        })
    }

    async fn session_prepare(&self, batch: BatchId) -> Vote {
        let deadline = self.deadlines.prepare;
        self.call(
            session_request(batch),
            deadline,
            rpc!(session_prepare, SessionRequest),
        )
        .await
        .and_then(|answer| {
            self.is_about(batch, &answer.batch)?;
            Ok(answer.try_into()?)
        })
        .unwrap_or_else(no_vote)
    }

    async fn session_enter_decision(&self, decide: Decide) -> SessionStep {
        let batch = decide.batch;
        let deadline = self.deadlines.decide;
        let step = self
            .call(
                decide.into(),
                deadline,
                rpc!(session_enter_decision, DecideRequest),
            )
            .await;
        self.step(batch, step, RefusalCode::SessionLost)
    }

    async fn session_commit(&self, batch: BatchId) -> Decided {
        let deadline = self.deadlines.decide;
        self.call(
            session_request(batch),
            deadline,
            rpc!(session_commit, SessionRequest),
        )
        .await
        .and_then(|answer| {
            self.is_about(batch, &answer.batch)?;
            Ok(answer.try_into()?)
        })
        .unwrap_or_else(undecided)
    }

    async fn session_rollback(&self, batch: BatchId) -> SessionStep {
        let deadline = self.deadlines.service;
        let step = self
            .call(
                session_request(batch),
                deadline,
                rpc!(session_rollback, SessionRequest),
            )
            .await;
        self.step(batch, step, RefusalCode::SessionLost)
    }

    async fn in_doubt(&self) -> Result<Vec<InDoubtBranch>, Unavailable> {
        let request = wire::ShardRequest { shard: None };
        self.call(
            request,
            self.deadlines.service,
            rpc!(in_doubt, ShardRequest),
        )
        .await
        .and_then(|answer: wire::InDoubtResponse| Ok(answer.try_into()?))
        .map_err(|no_answer| self.unavailable(no_answer))
    }

    async fn resolve_now(&self, gid: Gid) -> Result<Finished, Unavailable> {
        let request = wire::ResolveNowRequest {
            shard: None,
            gid: gid.to_string(),
        };
        self.call(
            request,
            self.deadlines.service,
            rpc!(resolve_now, ResolveNowRequest),
        )
        .await
        .and_then(|answer| {
            self.is_named(&gid, &answer.gid)?;
            Ok(answer.try_into()?)
        })
        .map_err(|no_answer| self.unavailable(no_answer))
    }

    async fn page_decisions(
        &self,
        after: Option<BatchId>,
        limit: u32,
    ) -> Result<Vec<DecisionRow>, Unavailable> {
        let deadline = self.deadlines.service;
        self.call(
            page(after, limit),
            deadline,
            rpc!(page_decisions, PageRequest),
        )
        .await
        .and_then(|answer: wire::DecisionRowsResponse| Ok(answer.try_into()?))
        .map_err(|no_answer| self.unavailable(no_answer))
    }

    async fn page_branches(
        &self,
        after: Option<BatchId>,
        limit: u32,
    ) -> Result<Vec<BranchRow>, Unavailable> {
        let deadline = self.deadlines.service;
        self.call(
            page(after, limit),
            deadline,
            rpc!(page_branches, PageRequest),
        )
        .await
        .and_then(|answer: wire::BranchRowsResponse| Ok(answer.try_into()?))
        .map_err(|no_answer| self.unavailable(no_answer))
    }

    async fn retention(&self) -> Result<Retention, Unavailable> {
        let request = wire::ShardRequest { shard: None };
        self.call(
            request,
            self.deadlines.service,
            rpc!(retention, ShardRequest),
        )
        .await
        .and_then(|answer| Ok(answer.try_into()?))
        .map_err(|no_answer| self.unavailable(no_answer))
    }
}

impl RemoteParticipant {
    async fn prepared(&self, prepare: Prepare) -> Result<PrepareAnswer, NoAnswer> {
        let (gid, members) = (prepare.gid.clone(), prepare.members.len());
        let answer = self
            .call(
                prepare.into(),
                self.deadlines.prepare,
                rpc!(prepare, PrepareRequest),
            )
            .await?;
        self.is_named(&gid, &answer.gid)?;
        let answer = PrepareAnswer::try_from(answer)?;
        if vote_fits(&answer, members) {
            Ok(answer)
        } else {
            Err(self.misplaced("the vote does not fit the branch's members"))
        }
    }

    async fn decided(&self, decide: Decide) -> Result<DecideAnswer, NoAnswer> {
        let (batch, members) = (decide.batch, decide.members.len());
        let answer = self
            .call(
                decide.into(),
                self.deadlines.decide,
                rpc!(decide, DecideRequest),
            )
            .await?;
        self.is_about(batch, &answer.batch)?;
        let answer = DecideAnswer::try_from(answer)?;
        if decided_fits(&answer, members) {
            Ok(answer)
        } else {
            Err(self.misplaced("the answer does not fit the batch's members"))
        }
    }

    fn step(
        &self,
        batch: BatchId,
        step: Result<wire::SessionStepResponse, NoAnswer>,
        code: RefusalCode,
    ) -> SessionStep {
        step.and_then(|answer| {
            self.is_about(batch, &answer.batch)?;
            Ok(answer.try_into()?)
        })
        .unwrap_or_else(|no_answer| SessionStep::Lost(session_lost(no_answer, code)))
    }

    fn is_about(&self, id: impl Into<uuid::Uuid>, answered: &[u8]) -> Result<(), NoAnswer> {
        if id.into().as_bytes() == answered {
            Ok(())
        } else {
            Err(self.misplaced("the answer is about something else"))
        }
    }

    fn is_named(&self, gid: &Gid, answered: &str) -> Result<(), NoAnswer> {
        if gid.to_string() == answered {
            Ok(())
        } else {
            Err(self.misplaced("the answer is about another branch"))
        }
    }

    /// Answers come in the order of their questions: a list of another length is no answer.
    fn one_each<T>(&self, answers: Vec<T>, count: usize) -> Result<Vec<T>, NoAnswer> {
        if answers.len() == count {
            Ok(answers)
        } else {
            Err(self.misplaced("the answer miscounts"))
        }
    }
}

/// Only what never left this process is a no.
fn no_vote(no_answer: NoAnswer) -> Vote {
    match no_answer {
        NoAnswer::NeverSent(refusal) => Vote::No(NoVote::Refused(refusal)),
        NoAnswer::Unknown(detail) => Vote::Unknown { detail },
    }
}

/// Even what never left is unknown here: every other value claims that something is recorded.
fn undecided(no_answer: NoAnswer) -> Decided {
    Decided::Unknown {
        detail: no_answer.detail(),
    }
}

fn unreachable(no_answer: NoAnswer) -> RegisterAnswer {
    RegisterAnswer::Unreachable {
        detail: no_answer.detail(),
    }
}

/// A session that may or may not be there is not used again.
fn session_lost(no_answer: NoAnswer, code: RefusalCode) -> Refusal {
    Refusal::new(code, no_answer.detail())
}

fn session_request(batch: BatchId) -> wire::SessionRequest {
    wire::SessionRequest {
        shard: None,
        batch: id_bytes(batch),
    }
}

fn page(after: Option<BatchId>, limit: u32) -> wire::PageRequest {
    wire::PageRequest {
        shard: None,
        after: after.map(id_bytes),
        limit: Some(limit),
    }
}
