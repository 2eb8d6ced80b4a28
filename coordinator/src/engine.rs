//! What a coordinator does for clients, whatever way they reach it: the seam between the engine
//! (lanes, driver, interactive transactions) and its faces (gRPC, HTTP, embedded).

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use gavel_protocol::message::InDoubtBranch;
use gavel_protocol::outcome::{StatementResult, Status};
use gavel_protocol::standing::Standing;
use gavel_protocol::{
    Ack, Gid, Isolation, Limits, Outcome, Principal, Refusal, ShardMap, ShardTag, Statement,
    Transaction, Txid,
};

pub use crate::stories::{CallTold, StoryTold};

/// A declared transaction on its way in.
#[derive(Debug, Clone)]
pub struct Submission {
    /// Identity and idempotency key; names the home.
    pub txid: Txid,
    /// What to do.
    pub transaction: Transaction,
    /// Who asks: the authenticated identity.
    pub principal: Principal,
    /// When to answer.
    pub ack: Ack,
    /// How long to wait at most; the engine's limit applies as well.
    pub timeout: Option<Duration>,
    /// The client has sent this txid before: look it up before running it.
    pub is_retry: bool,
}

impl Submission {
    /// How long its answer may take.
    pub fn patience(&self, limits: &Limits) -> Duration {
        let limit = Duration::from_millis(limits.submit_timeout_ms);
        self.timeout.map_or(limit, |asked| asked.min(limit))
    }
}

/// The answer to a submission or an interactive commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The transaction.
    pub txid: Txid,
    /// What became of it.
    pub outcome: Outcome,
    /// What its statements returned, per shard, in order. Only with the first answer that says
    /// `Committed`: a repeated submit gets the recorded outcome, and results are not recorded.
    pub results: Vec<(ShardTag, Vec<StatementResult>)>,
}

/// What a statement of an interactive transaction came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InteractiveAnswer {
    /// It ran.
    Done(StatementResult),
    /// The transaction failed and is over; `Aborted` is recorded, `Refused` is not.
    Ended(Outcome),
}

/// A coordinator, as its faces see it.
#[async_trait]
pub trait Engine: Send + Sync + 'static {
    /// The shards of this deployment, at this moment.
    fn shards(&self) -> Arc<ShardMap>;

    /// Whether it can commit at this moment: no reason, or why not.
    async fn not_ready(&self) -> Option<String>;

    /// What is wrong with each shard, if anything is.
    fn shard_health(&self) -> Vec<(ShardTag, Option<String>)>;

    /// How it stands, and what it did lately.
    fn standing(&self) -> Standing;

    /// What it did for a transaction, as far as it remembers; the first batch first.
    fn stories(&self, txid: Txid) -> Vec<StoryTold>;

    /// Mints a txid whose home is `home`, or a shard of the engine's choice.
    fn mint(&self, home: Option<ShardTag>) -> Result<Txid, Refusal>;

    /// Runs a declared transaction.
    async fn submit(&self, submission: Submission) -> Answer;

    /// What is recorded of a txid. `asker` is `None` for an operator.
    async fn status(&self, txid: Txid, asker: Option<Principal>) -> Result<Status, Refusal>;

    /// Aborts a txid for good, unless it has an outcome already: `Committed` or `Aborted`, or
    /// `InDoubt` when home did not answer.
    async fn abort(&self, txid: Txid, principal: Principal) -> Outcome;

    /// Begins an interactive transaction. Its txid names it from then on.
    async fn begin(
        &self,
        txid: Txid,
        isolation: Isolation,
        principal: Principal,
    ) -> Result<(), Refusal>;

    /// Runs a statement of an interactive transaction. `sequence` counts its statements from 0,
    /// over all shards: a gap is refused, a repeat of the last gets the stored answer.
    async fn execute(
        &self,
        txid: Txid,
        principal: &Principal,
        sequence: u64,
        shard: ShardTag,
        statement: Statement,
    ) -> Result<InteractiveAnswer, Refusal>;

    /// Commits an interactive transaction.
    async fn commit(&self, txid: Txid, principal: &Principal, ack: Ack) -> Answer;

    /// Rolls an interactive transaction back.
    async fn rollback(&self, txid: Txid, principal: &Principal) -> Result<(), Refusal>;

    /// Prepared branches on all shards; per shard, its branches or why it could not be asked.
    async fn in_doubt(&self) -> Vec<(ShardTag, Result<Vec<InDoubtBranch>, String>)>;

    /// Resolves one branch now. For operators.
    async fn resolve(&self, gid: Gid) -> Result<String, Refusal>;

    /// Asks a shard for a sign of life now; if it gives one, the next transaction may try it.
    /// Says what was found. For operators.
    async fn retry_shard(&self, shard: ShardTag) -> Result<String, Refusal>;

    /// Takes nothing new while this is set; what is here goes on. For operators.
    fn set_draining(&self, is_draining: bool);
}
