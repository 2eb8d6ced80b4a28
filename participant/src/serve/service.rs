//! Every call of the internal service: read the request, ask the participant, write the answer.

use std::sync::Arc;

use gavel_protocol::message::{BranchRow, DecisionRow, HeadStart};
use gavel_protocol::{BatchId, Principal, ShardTag, Txid};
use gavel_spans::{Kind, Span};
use gavel_wire::MalformedMessage;
use gavel_wire::addressed::Addressed;
use gavel_wire::convert;
use gavel_wire::participant as wire;
use gavel_wire::participant::participant_service_server::ParticipantService;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};
use tracing::Instrument;

use super::attend::AttendStream;
use super::authorize::Called;
use crate::api::{Participant, Unavailable};

type Answer<T> = Result<Response<T>, Status>;
type Shared = Arc<dyn Participant>;

/// The gRPC face of one participant.
#[derive(Clone)]
pub struct Served {
    participant: Shared,
    shutdown: CancellationToken,
}

impl Served {
    pub(super) fn new(participant: Shared, shutdown: CancellationToken) -> Self {
        Self {
            participant,
            shutdown,
        }
    }

    /// Runs one call in a task of its own: the caller may vanish, the call goes on. If we die
    /// here, the branch is what PostgreSQL has, and the scan resolves it.
    async fn run<Q, A, F>(
        &self,
        request: Request<Q>,
        call: impl FnOnce(Shared, Q) -> F,
    ) -> Result<A, Status>
    where
        Q: Addressed,
        F: Future<Output = Result<A, Status>> + Send + 'static,
        A: Send + 'static,
    {
        let tag = self.participant.tag();
        let span = span(&request, tag);
        let request = request.into_inner();
        if !request.is_of(tag) {
            return Err(Status::failed_precondition(format!(
                "this is the participant of shard {tag}, and the request is for another: \
                 check the addresses; nothing was done"
            )));
        }
        let call = call(Arc::clone(&self.participant), request);
        let within = span.as_ref().map(|span| span.context);
        let answer = tokio::spawn(gavel_spans::within(within, call.in_current_span())).await;
        if let Some(span) = span {
            span.end();
        }
        answer.map_err(|error| Status::internal(format!("the call did not end well: {error}")))?
    }

    /// [`Self::run`], with the shard's tag on the answer.
    async fn answer<Q, A, F>(
        &self,
        request: Request<Q>,
        call: impl FnOnce(Shared, Q) -> F,
    ) -> Answer<A>
    where
        Q: Addressed,
        A: Addressed + Send + 'static,
        F: Future<Output = Result<A, Status>> + Send + 'static,
    {
        let mut answer = self.run(request, call).await?;
        // An identity brings its own tag, read from the database; it must not be painted over.
        if answer.shard().is_none() {
            answer.stamp(self.participant.tag());
        }
        Ok(Response::new(answer))
    }
}

/// The span of a call, if its caller's is traced.
fn span<Q>(request: &Request<Q>, tag: ShardTag) -> Option<Span> {
    let traceparent = request.metadata().get(gavel_spans::TRACEPARENT);
    let parent = gavel_spans::continued(traceparent?.to_str().ok())?;
    let Called(method) = request.extensions().get()?;
    let span = Span::begin(&parent, method, Kind::Server);
    Some(span.with("gavel.shard.tag", i64::from(tag.0)))
}

// By value, because they are `map_err`'s arguments.
#[allow(clippy::needless_pass_by_value)]
fn malformed(error: MalformedMessage) -> Status {
    Status::invalid_argument(error.to_string())
}

#[allow(clippy::needless_pass_by_value)]
fn unavailable(error: Unavailable) -> Status {
    Status::unavailable(error.detail)
}

fn session_batch(request: &wire::SessionRequest) -> Result<BatchId, Status> {
    convert::batch_id(&request.batch, "SessionRequest.batch").map_err(malformed)
}

fn page(request: &wire::PageRequest) -> Result<(Option<BatchId>, u32), Status> {
    let after = request
        .after
        .as_ref()
        .map(|bytes| convert::batch_id(bytes, "PageRequest.after"))
        .transpose()
        .map_err(malformed)?;
    let limit = request.limit.ok_or_else(|| {
        Status::invalid_argument("malformed message: PageRequest.limit is missing")
    })?;
    Ok((after, limit))
}

#[tonic::async_trait]
impl ParticipantService for Served {
    async fn identity(
        &self,
        request: Request<wire::ShardRequest>,
    ) -> Answer<wire::IdentityResponse> {
        self.answer(request, |participant, _| async move {
            Ok(participant.identity().await.map_err(unavailable)?.into())
        })
        .await
    }

    type AttendStream = AttendStream;

    async fn attend(&self, request: Request<wire::AttendRequest>) -> Answer<AttendStream> {
        let attendance = self
            .run(request, |participant, request| async move {
                let driver = convert::driver_id(&request.driver, "AttendRequest.driver")
                    .map_err(malformed)?;
                participant.attend(driver).await.map_err(unavailable)
            })
            .await?;
        let tag = self.participant.tag();
        Ok(Response::new(AttendStream::new(
            tag,
            attendance,
            &self.shutdown,
        )))
    }

    async fn prepare(
        &self,
        request: Request<wire::PrepareRequest>,
    ) -> Answer<wire::PrepareResponse> {
        self.answer(request, |participant, request| async move {
            let gid = request.gid.clone();
            let prepare = request.try_into().map_err(malformed)?;
            let answer = participant.prepare(prepare).await;
            Ok(wire::PrepareResponse {
                gid,
                ..answer.into()
            })
        })
        .await
    }

    async fn decide(&self, request: Request<wire::DecideRequest>) -> Answer<wire::DecideResponse> {
        self.answer(request, |participant, request| async move {
            let batch = request.batch.clone();
            let decide = request.try_into().map_err(malformed)?;
            let answer = participant.decide(decide).await;
            Ok(wire::DecideResponse {
                batch,
                ..answer.into()
            })
        })
        .await
    }

    async fn head_start(
        &self,
        request: Request<wire::HeadStartRequest>,
    ) -> Answer<wire::HeadStartResponse> {
        self.answer(request, |participant, request| async move {
            let head_start: HeadStart = request.try_into().map_err(malformed)?;
            let batch = convert::id_bytes(head_start.decide.batch);
            let started = participant.head_start(head_start).await;
            Ok(wire::HeadStartResponse {
                batch,
                ..started.into()
            })
        })
        .await
    }

    async fn finish(&self, request: Request<wire::FinishRequest>) -> Answer<wire::FinishResponse> {
        self.answer(request, |participant, request| async move {
            let branches = request.try_into().map_err(malformed)?;
            Ok(participant.finish(branches).await.into())
        })
        .await
    }

    async fn resolve(
        &self,
        request: Request<wire::ResolveRequest>,
    ) -> Answer<wire::ResolveResponse> {
        self.answer(request, |participant, request| async move {
            let batch =
                convert::batch_id(&request.batch, "ResolveRequest.batch").map_err(malformed)?;
            let incarnation =
                convert::incarnation(request.incarnation, "ResolveRequest.incarnation")
                    .map_err(malformed)?;
            let answer = participant.resolve(batch, incarnation).await;
            Ok(wire::ResolveResponse {
                shard: None,
                batch: request.batch,
                answer: Some(answer.into()),
            })
        })
        .await
    }

    async fn look_up_decisions(
        &self,
        request: Request<wire::LookUpRequest>,
    ) -> Answer<wire::LookUpDecisionsResponse> {
        self.answer(request, |participant, request| async move {
            let batches = request.try_into().map_err(malformed)?;
            Ok(participant.look_up_decisions(batches).await.into())
        })
        .await
    }

    async fn look_up_branches(
        &self,
        request: Request<wire::LookUpRequest>,
    ) -> Answer<wire::BranchRowsResponse> {
        self.answer(request, |participant, request| async move {
            let batches = request.try_into().map_err(malformed)?;
            let rows: Vec<BranchRow> = participant
                .look_up_branches(batches)
                .await
                .map_err(unavailable)?;
            Ok(rows.into())
        })
        .await
    }

    async fn record_aborts(
        &self,
        request: Request<wire::RecordAbortsRequest>,
    ) -> Answer<wire::RecordAbortsResponse> {
        self.answer(request, |participant, request| async move {
            let record = request.try_into().map_err(malformed)?;
            Ok(participant.record_aborts(record).await.into())
        })
        .await
    }

    async fn status(&self, request: Request<wire::StatusRequest>) -> Answer<wire::StatusResponse> {
        self.answer(request, |participant, request| async move {
            let id = request.txid.clone();
            let (txid, asker): (Txid, Option<Principal>) = request.try_into().map_err(malformed)?;
            let answer = participant.status(txid, asker).await;
            Ok(wire::StatusResponse {
                txid: id,
                ..answer.into()
            })
        })
        .await
    }

    async fn session_open(
        &self,
        request: Request<wire::SessionOpenRequest>,
    ) -> Answer<wire::SessionStepResponse> {
        self.answer(request, |participant, request| async move {
            let open: gavel_protocol::message::SessionOpen =
                request.try_into().map_err(malformed)?;
            let batch = convert::id_bytes(open.gid.batch);
            let step = participant.session_open(open).await;
            Ok(wire::SessionStepResponse {
                batch,
                ..step.into()
            })
        })
        .await
    }

    async fn session_execute(
        &self,
        request: Request<wire::SessionExecuteRequest>,
    ) -> Answer<wire::SessionExecuteResponse> {
        self.answer(request, |participant, request| async move {
            let (batch, sequence) = (request.batch.clone(), request.sequence);
            let execute = request.try_into().map_err(malformed)?;
            let executed = participant.session_execute(execute).await;
            Ok(wire::SessionExecuteResponse {
                batch,
                sequence,
                ..executed.into()
            })
        })
        .await
    }

    async fn session_prepare(
        &self,
        request: Request<wire::SessionRequest>,
    ) -> Answer<wire::SessionPrepareResponse> {
        self.answer(request, |participant, request| async move {
            let vote = participant.session_prepare(session_batch(&request)?).await;
            Ok(wire::SessionPrepareResponse {
                shard: None,
                batch: request.batch,
                vote: Some(vote.into()),
            })
        })
        .await
    }

    async fn session_enter_decision(
        &self,
        request: Request<wire::DecideRequest>,
    ) -> Answer<wire::SessionStepResponse> {
        self.answer(request, |participant, request| async move {
            let batch = request.batch.clone();
            let decide = request.try_into().map_err(malformed)?;
            let step = participant.session_enter_decision(decide).await;
            Ok(wire::SessionStepResponse {
                batch,
                ..step.into()
            })
        })
        .await
    }

    async fn session_commit(
        &self,
        request: Request<wire::SessionRequest>,
    ) -> Answer<wire::SessionCommitResponse> {
        self.answer(request, |participant, request| async move {
            let decided = participant.session_commit(session_batch(&request)?).await;
            Ok(wire::SessionCommitResponse {
                shard: None,
                batch: request.batch,
                decided: Some(decided.into()),
            })
        })
        .await
    }

    async fn session_rollback(
        &self,
        request: Request<wire::SessionRequest>,
    ) -> Answer<wire::SessionStepResponse> {
        self.answer(request, |participant, request| async move {
            let step = participant.session_rollback(session_batch(&request)?).await;
            Ok(wire::SessionStepResponse {
                batch: request.batch,
                ..step.into()
            })
        })
        .await
    }

    async fn in_doubt(
        &self,
        request: Request<wire::ShardRequest>,
    ) -> Answer<wire::InDoubtResponse> {
        self.answer(request, |participant, _| async move {
            Ok(participant.in_doubt().await.map_err(unavailable)?.into())
        })
        .await
    }

    async fn resolve_now(
        &self,
        request: Request<wire::ResolveNowRequest>,
    ) -> Answer<wire::ResolveNowResponse> {
        self.answer(request, |participant, request| async move {
            let gid = convert::gid(&request.gid, "ResolveNowRequest.gid").map_err(malformed)?;
            let finished = participant.resolve_now(gid).await.map_err(unavailable)?;
            Ok(wire::ResolveNowResponse {
                shard: None,
                gid: request.gid,
                finished: Some(finished.into()),
            })
        })
        .await
    }

    async fn page_decisions(
        &self,
        request: Request<wire::PageRequest>,
    ) -> Answer<wire::DecisionRowsResponse> {
        self.answer(request, |participant, request| async move {
            let (after, limit) = page(&request)?;
            let rows: Vec<DecisionRow> = participant
                .page_decisions(after, limit)
                .await
                .map_err(unavailable)?;
            Ok(rows.into())
        })
        .await
    }

    async fn page_branches(
        &self,
        request: Request<wire::PageRequest>,
    ) -> Answer<wire::BranchRowsResponse> {
        self.answer(request, |participant, request| async move {
            let (after, limit) = page(&request)?;
            let rows: Vec<BranchRow> = participant
                .page_branches(after, limit)
                .await
                .map_err(unavailable)?;
            Ok(rows.into())
        })
        .await
    }

    async fn retention(
        &self,
        request: Request<wire::ShardRequest>,
    ) -> Answer<wire::RetentionResponse> {
        self.answer(request, |participant, _| async move {
            Ok(participant.retention().await.map_err(unavailable)?.into())
        })
        .await
    }
}
