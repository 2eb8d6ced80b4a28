//! A coordinator over gRPC.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use gavel_protocol::outcome::{StatementResult, Status as RecordedStatus};
use gavel_protocol::standing::Standing;
use gavel_protocol::{
    Ack, Gid, Isolation, Outcome, Refusal, RefusalCode, ShardMap, ShardTag, Txid,
};
use gavel_tls::Connector;
use gavel_wire::MalformedMessage;
use gavel_wire::api::gavel_client::GavelClient;
use gavel_wire::api::{self as wire};
use gavel_wire::{convert, sizes};
use http::HeaderValue;
use parking_lot::RwLock;
use tonic::transport::{Endpoint, Uri};
use tonic::{Code, Response, Status};
use tower::service_fn;

use super::channel::{MarkingChannel, Proof, proof};
use super::submits::{NoAnswer, Submits};
use super::{Answer, Execute, Executed, Failure, InDoubt, Submit, Transport};
use crate::error::ConnectError;
use crate::options::Options;

/// How often a connection is probed while calls wait, and how long the probe may take: a
/// coordinator whose machine vanished must not hold calls until their time is over.
const KEEP_ALIVE: Duration = Duration::from_secs(5);

/// One coordinator at an address.
pub(crate) struct Grpc {
    client: GavelClient<MarkingChannel>,
    submits: Submits,
    /// Names for tags; known once a coordinator has told.
    shards: RwLock<Option<Arc<ShardMap>>>,
}

impl Grpc {
    /// Checks address and token. Connects with the first call, and again when it must.
    pub(crate) fn new(address: String, options: &Options) -> Result<Self, ConnectError> {
        let uri: Option<Uri> = address.parse().ok();
        let Some((endpoint, is_encrypted)) = uri.and_then(endpoint) else {
            return Err(ConnectError::BadEndpoint { endpoint: address });
        };
        let endpoint = endpoint
            .connect_timeout(options.connect_timeout)
            .initial_stream_window_size(sizes::STREAM_WINDOW_BYTES)
            .initial_connection_window_size(sizes::CONNECTION_WINDOW_BYTES)
            .http2_keep_alive_interval(KEEP_ALIVE)
            .keep_alive_timeout(KEEP_ALIVE);
        let channel = if is_encrypted {
            let connector = Connector::of_client(options.trust.clone(), KEEP_ALIVE);
            let connect = service_fn(move |uri| connector.clone().connect(uri));
            endpoint.connect_with_connector_lazy(connect)
        } else {
            endpoint.connect_lazy()
        };
        let channel = MarkingChannel {
            channel,
            authorization: authorization(options)?,
        };
        let client = GavelClient::new(channel)
            .max_decoding_message_size(options.message_bytes_max)
            .max_encoding_message_size(usize::MAX);
        // An answer may share a message with others.
        let answers_bytes_max = options
            .message_bytes_max
            .saturating_add(sizes::SUBMIT_BATCH_BYTES_MAX);
        let for_submits = client.clone().max_decoding_message_size(answers_bytes_max);
        Ok(Self {
            client,
            submits: Submits::new(for_submits),
            shards: RwLock::default(),
        })
    }

    fn client(&self) -> GavelClient<MarkingChannel> {
        self.client.clone()
    }

    fn known_shards(&self) -> Result<Arc<ShardMap>, Failure> {
        let shards = self.shards.read().clone();
        shards.ok_or_else(|| Failure::NotSent("the shards are not known yet".to_owned()))
    }
}

fn authorization(options: &Options) -> Result<Option<HeaderValue>, ConnectError> {
    let Some(token) = &options.token else {
        return Ok(None);
    };
    let mut header: HeaderValue = format!("Bearer {token}")
        .parse()
        .map_err(|_| ConnectError::BadToken)?;
    header.set_sensitive(true);
    Ok(Some(header))
}

fn submit_request(submit: &Submit, shards: &ShardMap) -> wire::SubmitRequest {
    let (branches, isolation) = convert::transaction_to_wire(&submit.transaction, shards);
    let timeout_ms = u64::try_from(submit.timeout.as_millis()).unwrap_or(u64::MAX);
    wire::SubmitRequest {
        txid: submit.txid.to_string(),
        branches,
        isolation: Some(isolation.into()),
        ack: Some(wire::Ack::from(submit.ack).into()),
        timeout_ms: Some(timeout_ms.max(1)),
        is_retry: submit.is_retry,
        traceparent: submit.traceparent.as_deref().map(str::to_owned),
    }
}

/// What a gRPC error says about the call.
pub(super) fn failure(status: &Status) -> Failure {
    let message = status.message();
    match proof(status) {
        Proof::NotSent => Failure::NotSent(message.to_owned()),
        Proof::Answered => answered_with(status.code(), message),
        Proof::None => Failure::Lost(format!("{:?}: {message}", status.code())),
    }
}

/// What an error says that the coordinator sent instead of an answer.
pub(super) fn answered_with(code: Code, message: &str) -> Failure {
    let refused = |code| Failure::Refused(Refusal::new(code, message));
    match code {
        Code::Unauthenticated => refused(RefusalCode::Unauthenticated),
        Code::PermissionDenied => refused(RefusalCode::NotYours),
        Code::ResourceExhausted => refused(RefusalCode::Overloaded),
        Code::InvalidArgument | Code::OutOfRange | Code::Unimplemented => {
            refused(RefusalCode::InvalidRequest)
        }
        code => Failure::Lost(format!("{code:?}: {message}")),
    }
}

/// The message of an answer, or how the call failed.
fn answered<T>(ended: Result<Response<T>, Status>) -> Result<T, Failure> {
    ended
        .map(Response::into_inner)
        .map_err(|status| failure(&status))
}

/// An answer that cannot be understood is as good as lost.
fn malformed(error: MalformedMessage) -> Failure {
    Failure::Lost(error.to_string())
}

pub(super) fn missing(what: &str) -> Failure {
    Failure::Lost(format!("the coordinator's answer has no {what}"))
}

/// An answer about another transaction than was asked about must never count.
fn check_txid(asked: Txid, answered: &str) -> Result<(), Failure> {
    if answered == asked.to_string() {
        Ok(())
    } else {
        let detail = format!("asked about {asked}, answered about `{answered}`");
        Err(Failure::Lost(detail))
    }
}

fn outcome(outcome: Option<wire::Outcome>) -> Result<Outcome, Failure> {
    let outcome = outcome.ok_or_else(|| missing("outcome"))?;
    Outcome::try_from(outcome).map_err(malformed)
}

fn results(branch: wire::BranchResults) -> Result<(ShardTag, Vec<StatementResult>), Failure> {
    let tag = branch.shard_tag.and_then(|tag| u16::try_from(tag).ok());
    let tag = tag.ok_or_else(|| missing("shard tag"))?;
    let results = branch.results.into_iter().map(StatementResult::try_from);
    let results: Result<_, _> = results.collect();
    Ok((ShardTag(tag), results.map_err(malformed)?))
}

fn done(refused: Option<wire::Refusal>) -> Result<(), Failure> {
    refused.map_or(Ok(()), |refusal| Err(refused_by(refusal)))
}

fn refused_by(refusal: wire::Refusal) -> Failure {
    match Refusal::try_from(refusal) {
        Ok(refusal) => Failure::Refused(refusal),
        Err(error) => malformed(error),
    }
}

#[async_trait]
impl Transport for Grpc {
    fn know(&self, shards: &Arc<ShardMap>) {
        *self.shards.write() = Some(Arc::clone(shards));
    }

    async fn shards(&self) -> Result<ShardMap, Failure> {
        let asked = self.client().list_shards(wire::ListShardsRequest {}).await;
        answered(asked)?.try_into().map_err(malformed)
    }

    async fn submit(&self, submit: Submit) -> Result<Answer, Failure> {
        let shards = self.known_shards()?;
        let streamed = self.submits.submit(submit_request(&submit, &shards));
        let response = match streamed.await {
            Ok(response) => response,
            Err(NoAnswer::Failed(failure)) => return Err(failure),
            Err(NoAnswer::NotStreamed) => {
                let request = submit_request(&submit, &shards);
                answered(self.client().submit(request).await)?
            }
        };
        check_txid(submit.txid, &response.txid)?;
        let results = response.results.into_iter().map(results);
        let outcome = match outcome(response.outcome)? {
            Outcome::Refused(refusal) => return Err(Failure::Refused(refusal)),
            outcome => outcome,
        };
        Ok(Answer {
            outcome,
            results: results.collect::<Result<_, _>>()?,
        })
    }

    async fn status(&self, txid: Txid) -> Result<RecordedStatus, Failure> {
        let request = wire::StatusRequest {
            txid: txid.to_string(),
        };
        let response = answered(self.client().status(request).await)?;
        check_txid(txid, &response.txid)?;
        let status = convert::status_from_wire(response).map_err(malformed)?;
        status.map_err(Failure::Refused)
    }

    async fn abort(&self, txid: Txid) -> Result<Outcome, Failure> {
        let request = wire::AbortRequest {
            txid: txid.to_string(),
        };
        let response = answered(self.client().abort(request).await)?;
        check_txid(txid, &response.txid)?;
        outcome(response.outcome)
    }

    async fn begin(&self, txid: Txid, isolation: Isolation) -> Result<(), Failure> {
        let request = wire::BeginRequest {
            txid: txid.to_string(),
            isolation: Some(wire::Isolation::from(isolation).into()),
        };
        let response = answered(self.client().begin(request).await)?;
        check_txid(txid, &response.txid)?;
        done(response.refused)
    }

    async fn execute(&self, execute: Execute) -> Result<Executed, Failure> {
        use wire::execute_response::Answer as Kind;
        let shards = self.known_shards()?;
        let shard = shards.name(execute.shard);
        let shard = shard.ok_or_else(|| missing("shard of that tag"))?;
        let request = wire::ExecuteRequest {
            txid: execute.txid.to_string(),
            sequence: Some(execute.sequence),
            shard: shard.to_string(),
            statement: Some(execute.statement.into()),
        };
        let response = answered(self.client().execute(request).await)?;
        check_txid(execute.txid, &response.txid)?;
        match response.answer.ok_or_else(|| missing("answer"))? {
            Kind::Done(result) => Ok(Executed::Done(result.try_into().map_err(malformed)?)),
            Kind::Ended(ended) => Ok(Executed::Ended(outcome(Some(ended))?)),
            Kind::Refused(refusal) => Err(refused_by(refusal)),
        }
    }

    async fn commit(&self, txid: Txid, ack: Ack) -> Result<Answer, Failure> {
        let request = wire::CommitRequest {
            txid: txid.to_string(),
            ack: Some(wire::Ack::from(ack).into()),
        };
        let response = answered(self.client().commit(request).await)?;
        check_txid(txid, &response.txid)?;
        Ok(Answer {
            outcome: outcome(response.outcome)?,
            results: Vec::new(),
        })
    }

    async fn rollback(&self, txid: Txid) -> Result<(), Failure> {
        let request = wire::RollbackRequest {
            txid: txid.to_string(),
        };
        let response = answered(self.client().rollback(request).await)?;
        check_txid(txid, &response.txid)?;
        done(response.refused)
    }

    async fn standing(&self) -> Result<Standing, Failure> {
        let asked = self.client().get_standing(wire::StandingRequest {}).await;
        convert::standing_from_wire(answered(asked)?).map_err(malformed)
    }

    async fn in_doubt(&self) -> Result<InDoubt, Failure> {
        let asked = self
            .client()
            .list_in_doubt(wire::ListInDoubtRequest {})
            .await;
        let response = answered(asked)?;
        convert::in_doubt_from_wire(response).map_err(malformed)
    }

    async fn resolve(&self, gid: Gid, because: &str) -> Result<String, Failure> {
        use wire::resolve_in_doubt_response::Answer as Kind;
        let request = wire::ResolveInDoubtRequest {
            gid: gid.to_string(),
            because: because.to_owned(),
        };
        let response = answered(self.client().resolve_in_doubt(request).await)?;
        match response.answer.ok_or_else(|| missing("answer"))? {
            Kind::Done(done) => Ok(done),
            Kind::Refused(refusal) => Err(refused_by(refusal)),
        }
    }

    async fn retry_shard(&self, shard: ShardTag, because: &str) -> Result<String, Failure> {
        use wire::retry_shard_response::Answer as Kind;
        let shards = self.known_shards()?;
        let name = shards
            .name(shard)
            .ok_or_else(|| missing("shard of that tag"))?;
        let request = wire::RetryShardRequest {
            shard: name.to_string(),
            because: because.to_owned(),
        };
        let response = answered(self.client().retry_shard(request).await)?;
        match response.answer.ok_or_else(|| missing("answer"))? {
            Kind::Done(done) => Ok(done),
            Kind::Refused(refusal) => Err(refused_by(refusal)),
        }
    }

    async fn set_draining(&self, is_draining: bool, because: &str) -> Result<u64, Failure> {
        let request = wire::SetDrainingRequest {
            draining: is_draining,
            because: because.to_owned(),
        };
        let response = answered(self.client().set_draining(request).await)?;
        Ok(response.under_way)
    }
}

/// The endpoint of an address, and whether it is an encrypted one. Encryption is the connector's
/// business, and tonic knows nothing of it: it would refuse `https` where it has TLS of its own.
fn endpoint(uri: Uri) -> Option<(Endpoint, bool)> {
    let host = uri.host()?;
    match uri.scheme_str()? {
        "http" => Some((Endpoint::from(uri), false)),
        "https" => {
            let port = uri.port_u16().unwrap_or(443);
            let plain = Endpoint::from_shared(format!("http://{host}:{port}"));
            Some((plain.ok()?.origin(uri), true))
        }
        _ => None,
    }
}
