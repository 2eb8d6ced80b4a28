//! Interactive transactions: begin, run statements on any shard, look at the rows, commit.
//!
//! A session lives in one coordinator. Its statements are counted, so that a statement whose
//! answer was lost can be sent again and runs once; a session that is lost never continues in a
//! new one. Only the answer to the commit outlives the session: it is found by txid.

use std::sync::Arc;

use gavel_protocol::outcome::Status as RecordedStatus;
use gavel_protocol::{
    Ack, Guard, Isolation, Outcome as ProtocolOutcome, Refusal, RefusalCode, Statement, Txid,
};

use crate::endpoint::Endpoint;
use crate::error::{BeginError, CallError, StatementError};
use crate::gavel::Gavel;
use crate::outcome::Outcome;
use crate::param::Param;
use crate::retry::Knowledge;
use crate::row::Rows;
use crate::transport::{Answer, Execute, Executed, Failure, Transport};

/// An open interactive transaction. Dropping it rolls it back, as well as that can be done
/// without waiting; the coordinator rolls back whatever stays idle.
#[derive(Debug)]
#[must_use = "an interactive transaction that is dropped is rolled back"]
pub struct Interactive {
    gavel: Gavel,
    endpoint: Arc<Endpoint>,
    txid: Txid,
    /// The number of the next statement.
    sequence: u64,
    state: State,
}

#[derive(Debug, Clone)]
enum State {
    Open,
    /// A statement is under way. Found by the next statement, it means that the future of the
    /// one before was dropped: whether it ran is unknown, and its number may be used up.
    Busy,
    /// Nothing more can be done, and this is why.
    Over(StatementError),
    /// A commit or rollback was sent.
    Finished,
}

impl Interactive {
    pub(crate) async fn begin(
        gavel: Gavel,
        txid: Txid,
        isolation: Isolation,
    ) -> Result<Self, BeginError> {
        let mut attempts = gavel.attempts(None);
        let mut last = CallError::Unreachable {
            detail: "there was no time to ask".to_owned(),
        };
        while let Some(time) = attempts.next().await {
            let endpoint = gavel.next_endpoint();
            let calling = |t: Arc<dyn Transport>| async move { t.begin(txid, isolation).await };
            last = match endpoint.call(time, calling).await {
                Ok(()) => {
                    return Ok(Self {
                        gavel,
                        endpoint,
                        txid,
                        sequence: 0,
                        state: State::Open,
                    });
                }
                Err(Failure::Refused(refusal)) if !refusal.is_retryable() => {
                    return Err(CallError::Refused(refusal).into());
                }
                Err(Failure::Refused(refusal)) => CallError::Refused(refusal),
                // A session whose beginning was lost idles out; it holds nothing.
                Err(Failure::NotSent(detail) | Failure::Lost(detail)) => {
                    CallError::Unreachable { detail }
                }
            };
        }
        Err(last.into())
    }

    /// The transaction's txid, under which its outcome can be asked for.
    pub fn txid(&self) -> Txid {
        self.txid
    }

    /// Runs a statement on a shard and returns its rows.
    ///
    /// # Errors
    /// See [`StatementError`], which says whether the transaction goes on.
    pub async fn query(
        &mut self,
        shard: &str,
        sql: &str,
        params: Vec<Param>,
    ) -> Result<Rows, StatementError> {
        self.run(shard, sql, params, None).await
    }

    /// Runs a statement on a shard and returns the number of rows that it affected.
    ///
    /// # Errors
    /// See [`StatementError`], which says whether the transaction goes on.
    pub async fn execute(
        &mut self,
        shard: &str,
        sql: &str,
        params: Vec<Param>,
    ) -> Result<u64, StatementError> {
        let rows = self.run(shard, sql, params, None).await?;
        Ok(rows.row_count())
    }

    /// Runs a statement under a guard: if it does not hold, the transaction is over.
    ///
    /// # Errors
    /// See [`StatementError`], which says whether the transaction goes on.
    pub async fn execute_expecting(
        &mut self,
        shard: &str,
        sql: &str,
        params: Vec<Param>,
        guard: Guard,
    ) -> Result<Rows, StatementError> {
        self.run(shard, sql, params, Some(guard)).await
    }

    /// Commits, and waits until every shard shows the writes.
    pub async fn commit(self) -> Outcome {
        self.commit_with(Ack::Applied).await
    }

    /// Commits. A lost answer is looked up by txid, at any coordinator.
    pub async fn commit_with(mut self, ack: Ack) -> Outcome {
        let txid = self.txid;
        if let Err(error) = self.enter() {
            return outcome_of(txid, &error);
        }
        self.state = State::Finished;
        let time = self.gavel.attempt_timeout();
        let calling = |t: Arc<dyn Transport>| async move { t.commit(txid, ack).await };
        let ended = self.endpoint.call(time, calling).await;
        let mut knowledge = Knowledge::default();
        match knowledge.learn(ended) {
            Some(answer) => self.gavel.outcome(txid, answer),
            // A refused commit has ended the session: there is nothing to send again.
            None if !knowledge.is_lacking() => self.gavel.outcome(txid, knowledge.verdict()),
            None => self.look_up(knowledge).await,
        }
    }

    /// Rolls back. Nothing of the transaction remains, even if this fails: then the coordinator
    /// rolls it back when it has been idle for too long.
    ///
    /// # Errors
    /// The coordinator did not confirm it.
    pub async fn rollback(mut self) -> Result<(), CallError> {
        if self.is_over_at_the_coordinator() {
            return Ok(());
        }
        self.state = State::Finished;
        let (txid, time) = (self.txid, self.gavel.attempt_timeout());
        let calling = |t: Arc<dyn Transport>| async move { t.rollback(txid).await };
        match self.endpoint.call(time, calling).await {
            Ok(()) => Ok(()),
            Err(Failure::Refused(refusal)) if refusal.code == RefusalCode::SessionLost => Ok(()),
            Err(Failure::Refused(refusal)) => Err(CallError::Refused(refusal)),
            Err(Failure::NotSent(detail) | Failure::Lost(detail)) => {
                Err(CallError::Unreachable { detail })
            }
        }
    }

    async fn run(
        &mut self,
        shard: &str,
        sql: &str,
        params: Vec<Param>,
        guard: Option<Guard>,
    ) -> Result<Rows, StatementError> {
        self.gavel.look_for([shard].into_iter()).await;
        let shard = self.gavel.tag(shard)?;
        self.enter()?;
        let execute = Execute {
            txid: self.txid,
            sequence: self.sequence,
            shard,
            statement: Statement {
                sql: sql.into(),
                params: params.into_iter().map(|param| param.0).collect(),
                guard,
            },
        };
        let ended = self.send(execute).await;
        self.state = match &ended {
            Ok(_) | Err(StatementError::Refused(_) | StatementError::UnknownShard(_)) => {
                State::Open
            }
            Err(error) => State::Over(error.clone()),
        };
        if ended.is_ok() {
            self.sequence += 1;
        }
        ended
    }

    /// Marks the session busy, if it is still of use.
    fn enter(&mut self) -> Result<(), StatementError> {
        if let State::Over(error) = &self.state {
            return Err(error.clone());
        }
        if matches!(self.state, State::Busy) {
            let error = self.lost("the call of the statement before was dropped");
            self.state = State::Over(error.clone());
            return Err(error);
        }
        self.state = State::Busy;
        Ok(())
    }

    /// Sends a statement until it is answered. The same number goes with it every time, and
    /// always to the same coordinator: it runs once.
    async fn send(&self, execute: Execute) -> Result<Rows, StatementError> {
        // Time for one answer to be lost: who waits longer keeps row locks for longer.
        let mut attempts = self.gavel.attempts(Some(self.gavel.attempt_timeout() * 2));
        let mut last = self.lost("there was no time to send the statement");
        while let Some(time) = attempts.next().await {
            let execute = execute.clone();
            let calling = |t: Arc<dyn Transport>| async move { t.execute(execute).await };
            last = match self.endpoint.call(time, calling).await {
                Ok(Executed::Done(result)) => return Ok(Rows::from(result)),
                Ok(Executed::Ended(outcome)) => return Err(self.ended(outcome)),
                Err(Failure::Refused(refusal)) if refusal.code == RefusalCode::SessionLost => {
                    return Err(self.lost(&refusal.message));
                }
                Err(Failure::Refused(refusal)) if !refusal.is_retryable() => {
                    return Err(StatementError::Refused(refusal));
                }
                Err(Failure::Refused(refusal)) => StatementError::Refused(refusal),
                Err(Failure::NotSent(detail) | Failure::Lost(detail)) => self.lost(&detail),
            };
        }
        Err(last)
    }

    /// Finds out what became of a commit whose answer was lost.
    async fn look_up(&self, knowledge: Knowledge) -> Outcome {
        let txid = self.txid;
        let mut attempts = self.gavel.attempts(None);
        while let Some(time) = attempts.next().await {
            let calling = |t: Arc<dyn Transport>| async move { t.status(txid).await };
            let outcome = match self.gavel.next_endpoint().call(time, calling).await {
                Ok(RecordedStatus::Committed) => ProtocolOutcome::Committed { applied: false },
                Ok(RecordedStatus::Aborted(reason)) => ProtocolOutcome::Aborted(reason),
                // Nothing recorded yet may still commit: it is no answer (R8).
                Ok(RecordedStatus::NoneYet | RecordedStatus::TooOld) | Err(_) => continue,
            };
            let answer = Answer {
                outcome,
                results: Vec::new(),
            };
            return self.gavel.outcome(txid, answer);
        }
        self.gavel.outcome(txid, knowledge.verdict())
    }

    fn is_over_at_the_coordinator(&self) -> bool {
        matches!(
            self.state,
            State::Finished | State::Over(StatementError::Ended(_))
        )
    }

    fn ended(&self, outcome: ProtocolOutcome) -> StatementError {
        let answer = Answer {
            outcome,
            results: Vec::new(),
        };
        StatementError::Ended(Box::new(self.gavel.outcome(self.txid, answer)))
    }

    fn lost(&self, detail: &str) -> StatementError {
        StatementError::SessionLost {
            txid: self.txid,
            detail: detail.to_owned(),
        }
    }
}

/// What the commit of a transaction that is over already comes to.
fn outcome_of(txid: Txid, error: &StatementError) -> Outcome {
    match error {
        StatementError::Ended(outcome) => (**outcome).clone(),
        other => Outcome::Refused {
            txid,
            why: Refusal::new(RefusalCode::SessionLost, other.to_string()),
        },
    }
}

impl Drop for Interactive {
    fn drop(&mut self) {
        if self.is_over_at_the_coordinator() {
            return;
        }
        // Without a runtime there is nobody to send it; the coordinator's idle limit remains.
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            return;
        };
        let (endpoint, txid) = (Arc::clone(&self.endpoint), self.txid);
        let time = self.gavel.attempt_timeout();
        runtime.spawn(async move {
            let calling = |t: Arc<dyn Transport>| async move { t.rollback(txid).await };
            if let Err(failure) = endpoint.call(time, calling).await {
                tracing::debug!(%txid, ?failure, "a dropped transaction is left to its idle limit");
            }
        });
    }
}
