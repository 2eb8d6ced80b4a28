//! The gRPC face: `gavel.v1.Gavel`.
//!
//! Whatever is said about a transaction is said in the answer, with status OK. A gRPC error says
//! that the call as such was wrong; its metadata carry the stable code in `gavel-code`.

use std::sync::Arc;

use gavel_protocol::outcome::StatementResult;
use gavel_protocol::{Outcome, Refusal, RefusalCode, ShardTag, Statement, Txid};
use gavel_wire::api::gavel_server::{Gavel, GavelServer};
use gavel_wire::api::{self as wire};
use gavel_wire::convert::{self, PublicError};
use gavel_wire::sizes;
use http::StatusCode;
use tonic::metadata::MetadataValue;
use tonic::{Code, Request, Response, Status, Streaming};

use super::auth::Caller;
use super::error::ApiError;
use super::face::{Face, Step, Terms};
use super::serve::Closing;
use super::submits::{self, Answers};
use crate::engine::{Answer, InteractiveAnswer, Submission};

/// Where a gRPC error carries its stable code.
const CODE: &str = "gavel-code";

type Answered<T> = Result<Response<T>, Status>;

/// The service, for a router that has authenticated the caller.
pub(super) fn service(face: Arc<Face>) -> GavelServer<Grpc> {
    let request_bytes_max = face.limits().request_bytes_max;
    GavelServer::new(Grpc { face })
        .max_decoding_message_size(request_bytes_max)
        .max_encoding_message_size(usize::MAX)
}

/// The same for `SubmitStream`, whose messages carry many requests.
pub(super) fn submit_stream_service(face: Arc<Face>) -> GavelServer<Grpc> {
    let request_bytes_max = face.limits().request_bytes_max;
    service(face).max_decoding_message_size(request_bytes_max.max(sizes::SUBMIT_BATCH_BYTES_MAX))
}

/// The status code of an error.
pub(super) fn code(error: &ApiError) -> Code {
    match error.status {
        StatusCode::UNAUTHORIZED => Code::Unauthenticated,
        StatusCode::FORBIDDEN => Code::PermissionDenied,
        StatusCode::NOT_FOUND => Code::Unimplemented,
        StatusCode::TOO_MANY_REQUESTS => Code::ResourceExhausted,
        StatusCode::SERVICE_UNAVAILABLE => Code::Unavailable,
        StatusCode::INTERNAL_SERVER_ERROR => Code::Internal,
        StatusCode::PAYLOAD_TOO_LARGE => Code::OutOfRange,
        _ => Code::InvalidArgument,
    }
}

/// An error as gRPC says it.
pub(super) fn status(error: &ApiError) -> Status {
    let mut status = Status::new(code(error), error.message.clone());
    let value = MetadataValue::from_static(error.code);
    status.metadata_mut().insert(CODE, value);
    status
}

/// How a request that cannot be carried out is told: refusals in the answer, the rest as a
/// gRPC error.
fn refusal(error: ApiError) -> Result<Refusal, Status> {
    in_the_answer(error).map_err(|error| status(&error))
}

fn in_the_answer(error: ApiError) -> Result<Refusal, ApiError> {
    match RefusalCode::from_str_exact(error.code) {
        Some(code) if code != RefusalCode::Unauthenticated => Ok(Refusal::new(code, error.message)),
        Some(_) | None => Err(error),
    }
}

/// A request as the engine takes it.
pub(super) fn submission(
    face: &Face,
    caller: Caller,
    request: wire::SubmitRequest,
) -> Result<Submission, ApiError> {
    let ack = convert::ack_from_wire(request.ack).map_err(|error| malformed(&error))?;
    let terms = Terms {
        txid: Some(face.txid(&request.txid)?),
        ack,
        timeout_ms: request.timeout_ms,
        is_retry: request.is_retry,
    };
    let shards = face.shards();
    let transaction = convert::transaction_from_wire(request.branches, request.isolation, &shards)?;
    face.submission(caller, transaction, terms)
}

/// The answer to a submit, or the error of a call that was wrong as such.
pub(super) fn submitted(
    face: &Face,
    txid: String,
    ended: Result<Answer, ApiError>,
) -> Result<wire::SubmitResponse, ApiError> {
    let (outcome, results) = match ended {
        Ok(answer) => (answer.outcome, answer.results),
        Err(error) => (Outcome::Refused(in_the_answer(error)?), Vec::new()),
    };
    Ok(response(face, txid, outcome, results))
}

/// The answer to a submit.
pub(super) fn response(
    face: &Face,
    txid: String,
    outcome: Outcome,
    results: Vec<(ShardTag, Vec<StatementResult>)>,
) -> wire::SubmitResponse {
    let shards = face.shards();
    wire::SubmitResponse {
        txid,
        outcome: Some(convert::outcome_to_wire(outcome, &shards)),
        results: convert::branch_results_to_wire(results, &shards),
    }
}

pub(super) struct Grpc {
    face: Arc<Face>,
}

fn caller<T>(request: &Request<T>) -> Result<Caller, Status> {
    let caller = request.extensions().get::<Caller>().cloned();
    caller.ok_or_else(|| status(&ApiError::unauthenticated()))
}

fn malformed(error: &convert::MalformedMessage) -> ApiError {
    ApiError::bad("malformed_message", error.to_string())
}

impl From<PublicError> for ApiError {
    fn from(error: PublicError) -> Self {
        match error {
            PublicError::Malformed(error) => malformed(&error),
            other => Refusal::from(other).into(),
        }
    }
}

impl Grpc {
    fn outcome(&self, outcome: Outcome) -> wire::Outcome {
        convert::outcome_to_wire(outcome, &self.face.shards())
    }

    async fn step(
        &self,
        caller: Caller,
        request: wire::ExecuteRequest,
    ) -> Result<InteractiveAnswer, ApiError> {
        let missing =
            |field: &str| ApiError::bad("malformed_message", format!("{field} is missing"));
        let statement = request.statement.ok_or_else(|| missing("statement"))?;
        let step = Step {
            txid: self.face.txid(&request.txid)?,
            sequence: request.sequence.ok_or_else(|| missing("sequence"))?,
            shard: self.face.shard(&request.shard)?,
            statement: Statement::try_from(statement).map_err(|error| malformed(&error))?,
        };
        Arc::clone(&self.face).execute(caller, step).await
    }

    async fn open(&self, caller: Caller, request: wire::BeginRequest) -> Result<(), ApiError> {
        let txid = self.face.txid(&request.txid)?;
        let isolation = convert::isolation_from_wire(request.isolation);
        let isolation = isolation.map_err(|error| malformed(&error))?;
        Arc::clone(&self.face).begin(caller, txid, isolation).await
    }

    fn minted(&self, request: &wire::MintTxidRequest) -> Result<Txid, ApiError> {
        let home = request.home.as_deref();
        self.face
            .mint(home.map(|name| self.face.shard(name)).transpose()?)
    }
}

#[tonic::async_trait]
impl Gavel for Grpc {
    async fn submit(
        &self,
        request: Request<wire::SubmitRequest>,
    ) -> Answered<wire::SubmitResponse> {
        let caller = caller(&request)?;
        let request = request.into_inner();
        let txid = request.txid.clone();
        // The metadata's has been read where requests come in.
        let span = match &request.traceparent {
            None => gavel_spans::current(),
            Some(traceparent) => gavel_spans::incoming(Some(traceparent)),
        };
        let ended = match submission(&self.face, caller, request) {
            Ok(submission) => {
                let submitted = Arc::clone(&self.face).submit(submission);
                Ok(gavel_spans::within(span, submitted).await)
            }
            Err(error) => Err(error),
        };
        let response = submitted(&self.face, txid, ended);
        Ok(Response::new(response.map_err(|error| status(&error))?))
    }

    type SubmitStreamStream = Answers;

    async fn submit_stream(
        &self,
        request: Request<Streaming<wire::SubmitBatch>>,
    ) -> Answered<Answers> {
        let caller = caller(&request)?;
        let closing = request.extensions().get::<Closing>().cloned();
        let face = Arc::clone(&self.face);
        let incoming = request.into_inner();
        let closing = closing.unwrap_or_default();
        Ok(Response::new(submits::answers(
            face, caller, incoming, closing,
        )))
    }

    async fn status(
        &self,
        request: Request<wire::StatusRequest>,
    ) -> Answered<wire::StatusResponse> {
        let caller = caller(&request)?;
        let text = request.into_inner().txid;
        let asked = match self.face.txid(&text) {
            Ok(txid) => self
                .face
                .status(caller, txid)
                .await
                .map(|status| (txid, status)),
            Err(error) => Err(error),
        };
        Ok(Response::new(match asked {
            Ok((txid, status)) => convert::status_to_wire(txid, Ok(status), &self.face.shards()),
            Err(error) => wire::StatusResponse {
                txid: text,
                status: Some(wire::status_response::Status::Refused(
                    refusal(error)?.into(),
                )),
            },
        }))
    }

    async fn abort(&self, request: Request<wire::AbortRequest>) -> Answered<wire::AbortResponse> {
        let caller = caller(&request)?;
        let text = request.into_inner().txid;
        let outcome = match self.face.txid(&text) {
            Ok(txid) => Arc::clone(&self.face).abort(caller, txid).await.outcome,
            Err(error) => Outcome::Refused(refusal(error)?),
        };
        Ok(Response::new(wire::AbortResponse {
            txid: text,
            outcome: Some(self.outcome(outcome)),
        }))
    }

    async fn mint_txid(
        &self,
        request: Request<wire::MintTxidRequest>,
    ) -> Answered<wire::MintTxidResponse> {
        caller(&request)?;
        use wire::mint_txid_response::Answer as Kind;
        let answer = match self.minted(request.get_ref()) {
            Ok(txid) => Kind::Txid(txid.to_string()),
            Err(error) => Kind::Refused(refusal(error)?.into()),
        };
        Ok(Response::new(wire::MintTxidResponse {
            answer: Some(answer),
        }))
    }

    async fn begin(&self, request: Request<wire::BeginRequest>) -> Answered<wire::BeginResponse> {
        let caller = caller(&request)?;
        let request = request.into_inner();
        let txid = request.txid.clone();
        let refused = match self.open(caller, request).await {
            Ok(()) => None,
            Err(error) => Some(refusal(error)?.into()),
        };
        Ok(Response::new(wire::BeginResponse { txid, refused }))
    }

    async fn execute(
        &self,
        request: Request<wire::ExecuteRequest>,
    ) -> Answered<wire::ExecuteResponse> {
        let caller = caller(&request)?;
        let request = request.into_inner();
        let txid = request.txid.clone();
        use wire::execute_response::Answer as Kind;
        let answer = match self.step(caller, request).await {
            Ok(InteractiveAnswer::Done(result)) => Kind::Done(result.into()),
            Ok(InteractiveAnswer::Ended(outcome)) => Kind::Ended(self.outcome(outcome)),
            Err(error) => Kind::Refused(refusal(error)?.into()),
        };
        Ok(Response::new(wire::ExecuteResponse {
            txid,
            answer: Some(answer),
        }))
    }

    async fn commit(
        &self,
        request: Request<wire::CommitRequest>,
    ) -> Answered<wire::CommitResponse> {
        let caller = caller(&request)?;
        let request = request.into_inner();
        let ack = convert::ack_from_wire(request.ack);
        let ack = ack.map_err(|error| status(&malformed(&error)))?;
        let outcome = match self.face.txid(&request.txid) {
            Ok(txid) => {
                Arc::clone(&self.face)
                    .commit(caller, txid, ack)
                    .await
                    .outcome
            }
            Err(error) => Outcome::Refused(refusal(error)?),
        };
        Ok(Response::new(wire::CommitResponse {
            txid: request.txid,
            outcome: Some(self.outcome(outcome)),
        }))
    }

    async fn rollback(
        &self,
        request: Request<wire::RollbackRequest>,
    ) -> Answered<wire::RollbackResponse> {
        let caller = caller(&request)?;
        let text = request.into_inner().txid;
        let rolled_back = match self.face.txid(&text) {
            Ok(txid) => Arc::clone(&self.face).rollback(caller, txid).await,
            Err(error) => Err(error),
        };
        let refused = match rolled_back {
            Ok(()) => None,
            Err(error) => Some(refusal(error)?.into()),
        };
        Ok(Response::new(wire::RollbackResponse {
            txid: text,
            refused,
        }))
    }

    async fn list_shards(
        &self,
        request: Request<wire::ListShardsRequest>,
    ) -> Answered<wire::ListShardsResponse> {
        caller(&request)?;
        Ok(Response::new((&*self.face.shards()).into()))
    }

    async fn list_in_doubt(
        &self,
        request: Request<wire::ListInDoubtRequest>,
    ) -> Answered<wire::ListInDoubtResponse> {
        let caller = caller(&request)?;
        let found = self.face.in_doubt(&caller).await;
        let found = found.map_err(|error| status(&error))?;
        let response = convert::in_doubt_to_wire(found, &self.face.shards());
        Ok(Response::new(response))
    }

    async fn resolve_in_doubt(
        &self,
        request: Request<wire::ResolveInDoubtRequest>,
    ) -> Answered<wire::ResolveInDoubtResponse> {
        let caller = caller(&request)?;
        let wire::ResolveInDoubtRequest { gid, because } = request.into_inner();
        use wire::resolve_in_doubt_response::Answer as Kind;
        let answer = match Arc::clone(&self.face).resolve(caller, &gid, &because).await {
            Ok(done) => Kind::Done(done),
            Err(error) => Kind::Refused(refusal(error)?.into()),
        };
        Ok(Response::new(wire::ResolveInDoubtResponse {
            answer: Some(answer),
        }))
    }

    async fn get_standing(
        &self,
        request: Request<wire::StandingRequest>,
    ) -> Answered<wire::StandingResponse> {
        let caller = caller(&request)?;
        let standing = self.face.standing(&caller);
        let standing = standing.map_err(|error| status(&error))?;
        let response = convert::standing_to_wire(standing, &self.face.shards());
        Ok(Response::new(response))
    }

    async fn retry_shard(
        &self,
        request: Request<wire::RetryShardRequest>,
    ) -> Answered<wire::RetryShardResponse> {
        let caller = caller(&request)?;
        let wire::RetryShardRequest { shard, because } = request.into_inner();
        use wire::retry_shard_response::Answer as Kind;
        let retried = Arc::clone(&self.face).retry_shard(caller, &shard, &because);
        let answer = match retried.await {
            Ok(done) => Kind::Done(done),
            Err(error) => Kind::Refused(refusal(error)?.into()),
        };
        Ok(Response::new(wire::RetryShardResponse {
            answer: Some(answer),
        }))
    }

    async fn set_draining(
        &self,
        request: Request<wire::SetDrainingRequest>,
    ) -> Answered<wire::SetDrainingResponse> {
        let caller = caller(&request)?;
        let wire::SetDrainingRequest { draining, because } = request.into_inner();
        let under_way = self.face.set_draining(&caller, draining, &because);
        let under_way = under_way.map_err(|error| status(&error))?;
        Ok(Response::new(wire::SetDrainingResponse { under_way }))
    }
}
