//! The way to one coordinator: over gRPC, or inside this process. What is sent twice and what
//! is not is decided above, in [`crate::retry`]; a transport says only how one call ended.

mod channel;
#[cfg(feature = "embedded")]
pub(crate) mod engine;
pub(crate) mod grpc;
mod submits;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use gavel_protocol::message::InDoubtBranch;
use gavel_protocol::outcome::{StatementResult, Status};
use gavel_protocol::standing::Standing;
use gavel_protocol::{
    Ack, Gid, Isolation, Outcome, Refusal, ShardMap, ShardTag, Statement, Transaction, Txid,
};

/// How a call failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Failure {
    /// It certainly did not reach the coordinator.
    NotSent(String),
    /// It may have been carried out; the answer did not come.
    Lost(String),
    /// The coordinator answered that it did nothing.
    Refused(Refusal),
}

/// A declared transaction, as it is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Submit {
    pub(crate) txid: Txid,
    pub(crate) transaction: Arc<Transaction>,
    pub(crate) ack: Ack,
    /// How long the coordinator may take.
    pub(crate) timeout: Duration,
    /// An earlier answer was lost: the coordinator looks the txid up first.
    pub(crate) is_retry: bool,
    /// The caller's span.
    pub(crate) traceparent: Option<Arc<str>>,
}

/// The answer to a submit or a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) outcome: Outcome,
    pub(crate) results: Vec<(ShardTag, Vec<StatementResult>)>,
}

/// A statement of an interactive transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Execute {
    pub(crate) txid: Txid,
    pub(crate) sequence: u64,
    pub(crate) shard: ShardTag,
    pub(crate) statement: Statement,
}

/// What a statement came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Executed {
    Done(StatementResult),
    Ended(Outcome),
}

/// Per shard, its prepared branches or why it could not be asked.
pub(crate) type InDoubt = Vec<(ShardTag, Result<Vec<InDoubtBranch>, String>)>;

/// One coordinator.
#[async_trait]
pub(crate) trait Transport: Send + Sync {
    /// Tells the shards, once they are known, to a transport that sends their names.
    fn know(&self, _shards: &Arc<ShardMap>) {}

    async fn shards(&self) -> Result<ShardMap, Failure>;
    async fn submit(&self, submit: Submit) -> Result<Answer, Failure>;
    async fn status(&self, txid: Txid) -> Result<Status, Failure>;
    async fn abort(&self, txid: Txid) -> Result<Outcome, Failure>;
    async fn begin(&self, txid: Txid, isolation: Isolation) -> Result<(), Failure>;
    async fn execute(&self, execute: Execute) -> Result<Executed, Failure>;
    async fn commit(&self, txid: Txid, ack: Ack) -> Result<Answer, Failure>;
    async fn rollback(&self, txid: Txid) -> Result<(), Failure>;
    async fn in_doubt(&self) -> Result<InDoubt, Failure>;
    async fn standing(&self) -> Result<Standing, Failure>;
    async fn resolve(&self, gid: Gid, because: &str) -> Result<String, Failure>;
    async fn retry_shard(&self, shard: ShardTag, because: &str) -> Result<String, Failure>;
    async fn set_draining(&self, is_draining: bool, because: &str) -> Result<u64, Failure>;
}
