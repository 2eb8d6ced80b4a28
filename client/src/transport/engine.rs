//! A coordinator inside this process. Nothing is lost on the way, so every failure is an answer.

use std::sync::Arc;

use async_trait::async_trait;
use gavel_coordinator::{Engine, InteractiveAnswer, Submission};
use gavel_protocol::outcome::Status;
use gavel_protocol::standing::Standing;
use gavel_protocol::{Ack, Gid, Isolation, Outcome, Principal, ShardMap, ShardTag, Txid};

use super::{Answer, Execute, Executed, Failure, InDoubt, Submit, Transport};

/// An engine, asked as [`Principal::local`].
pub(crate) struct Embedded(pub(crate) Arc<dyn Engine>);

#[async_trait]
impl Transport for Embedded {
    async fn shards(&self) -> Result<ShardMap, Failure> {
        Ok(ShardMap::clone(&self.0.shards()))
    }

    async fn submit(&self, submit: Submit) -> Result<Answer, Failure> {
        let submission = Submission {
            txid: submit.txid,
            transaction: Arc::unwrap_or_clone(submit.transaction),
            principal: Principal::local(),
            ack: submit.ack,
            timeout: Some(submit.timeout),
            is_retry: submit.is_retry,
        };
        let span = gavel_spans::incoming(submit.traceparent.as_deref());
        Ok(gavel_spans::within(span, self.0.submit(submission))
            .await
            .into())
    }

    async fn status(&self, txid: Txid) -> Result<Status, Failure> {
        let asker = Some(Principal::local());
        self.0.status(txid, asker).await.map_err(Failure::Refused)
    }

    async fn abort(&self, txid: Txid) -> Result<Outcome, Failure> {
        Ok(self.0.abort(txid, Principal::local()).await)
    }

    async fn begin(&self, txid: Txid, isolation: Isolation) -> Result<(), Failure> {
        let begun = self.0.begin(txid, isolation, Principal::local()).await;
        begun.map_err(Failure::Refused)
    }

    async fn execute(&self, execute: Execute) -> Result<Executed, Failure> {
        let Execute {
            txid,
            sequence,
            shard,
            statement,
        } = execute;
        let principal = Principal::local();
        let answer = self
            .0
            .execute(txid, &principal, sequence, shard, statement)
            .await
            .map_err(Failure::Refused)?;
        Ok(match answer {
            InteractiveAnswer::Done(result) => Executed::Done(result),
            InteractiveAnswer::Ended(outcome) => Executed::Ended(outcome),
        })
    }

    async fn commit(&self, txid: Txid, ack: Ack) -> Result<Answer, Failure> {
        Ok(self.0.commit(txid, &Principal::local(), ack).await.into())
    }

    async fn rollback(&self, txid: Txid) -> Result<(), Failure> {
        let rolled_back = self.0.rollback(txid, &Principal::local()).await;
        rolled_back.map_err(Failure::Refused)
    }

    async fn standing(&self) -> Result<Standing, Failure> {
        Ok(self.0.standing())
    }

    async fn in_doubt(&self) -> Result<InDoubt, Failure> {
        Ok(self.0.in_doubt().await)
    }

    async fn resolve(&self, gid: Gid, because: &str) -> Result<String, Failure> {
        tracing::info!(target: "gavel::audit", what = "resolve", %gid, because);
        self.0.resolve(gid).await.map_err(Failure::Refused)
    }

    async fn retry_shard(&self, shard: ShardTag, because: &str) -> Result<String, Failure> {
        tracing::info!(target: "gavel::audit", what = "shard retry", %shard, because);
        self.0.retry_shard(shard).await.map_err(Failure::Refused)
    }

    async fn set_draining(&self, is_draining: bool, because: &str) -> Result<u64, Failure> {
        let what = if is_draining { "drain" } else { "resume" };
        tracing::info!(target: "gavel::audit", what, because);
        self.0.set_draining(is_draining);
        let standing = self.0.standing();
        Ok(standing.in_flight + standing.sessions)
    }
}

impl From<gavel_coordinator::Answer> for Answer {
    fn from(answer: gavel_coordinator::Answer) -> Self {
        Self {
            outcome: answer.outcome,
            results: answer.results,
        }
    }
}
