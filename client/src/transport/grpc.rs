//! A coordinator over gRPC.

use async_trait::async_trait;
use gavel_protocol::outcome::Status;
use gavel_protocol::{Ack, Gid, Isolation, Outcome, ShardMap, Txid};

use super::{Answer, Execute, Executed, Failure, InDoubt, Submit, Transport};
use crate::error::ConnectError;
use crate::options::Options;

/// One coordinator at an address.
pub(crate) struct Grpc;

impl Grpc {
    /// Checks address and token. Connects with the first call, and again when it must.
    pub(crate) fn new(endpoint: String, _options: &Options) -> Result<Self, ConnectError> {
        match endpoint.parse::<http::Uri>() {
            Ok(uri) if uri.host().is_some() => Ok(Self),
            _ => Err(ConnectError::BadEndpoint { endpoint }),
        }
    }
}

fn not_sent<T>() -> Result<T, Failure> {
    Err(Failure::NotSent("the gRPC face is not built yet".into()))
}

#[async_trait]
impl Transport for Grpc {
    async fn shards(&self) -> Result<ShardMap, Failure> {
        not_sent()
    }
    async fn submit(&self, _submit: Submit) -> Result<Answer, Failure> {
        not_sent()
    }
    async fn status(&self, _txid: Txid) -> Result<Status, Failure> {
        not_sent()
    }
    async fn abort(&self, _txid: Txid) -> Result<Outcome, Failure> {
        not_sent()
    }
    async fn begin(&self, _txid: Txid, _isolation: Isolation) -> Result<(), Failure> {
        not_sent()
    }
    async fn execute(&self, _execute: Execute) -> Result<Executed, Failure> {
        not_sent()
    }
    async fn commit(&self, _txid: Txid, _ack: Ack) -> Result<Answer, Failure> {
        not_sent()
    }
    async fn rollback(&self, _txid: Txid) -> Result<(), Failure> {
        not_sent()
    }
    async fn in_doubt(&self) -> Result<InDoubt, Failure> {
        not_sent()
    }
    async fn resolve(&self, _gid: Gid) -> Result<String, Failure> {
        not_sent()
    }
}
