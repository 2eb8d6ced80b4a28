//! What both faces do: check names, ids, limits and roles, and ask the engine.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use gavel_protocol::message::InDoubtBranch;
use gavel_protocol::outcome::Status;
use gavel_protocol::standing::Standing;
use gavel_protocol::transaction::validate_statement;
use gavel_protocol::{
    Access, Ack, Gid, Isolation, Limits, Outcome, Refusal, RefusalCode, ShardMap, ShardTag,
    Statement, Transaction, Txid,
};
use gavel_tls::Peer;

use super::auth::{Authenticator, Caller, Role};
use super::error::ApiError;
use crate::engine::{Answer, Engine, InteractiveAnswer, StoryTold, Submission};
use crate::metrics;

/// The longest reason that an operator can give.
pub(super) const REASON_CHARS_MAX: usize = 500;

/// An engine behind authentication and checks.
pub(super) struct Face {
    engine: Arc<dyn Engine>,
    auth: Authenticator,
    limits: Limits,
}

/// What a submission says apart from its transaction.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Terms {
    pub(super) txid: Option<Txid>,
    pub(super) ack: Ack,
    pub(super) timeout_ms: Option<u64>,
    pub(super) is_retry: bool,
}

/// A statement of an interactive transaction.
#[derive(Debug)]
pub(super) struct Step {
    pub(super) txid: Txid,
    pub(super) sequence: u64,
    pub(super) shard: ShardTag,
    pub(super) statement: Statement,
}

impl Face {
    pub(super) fn new(engine: Arc<dyn Engine>, auth: Authenticator, limits: &Limits) -> Arc<Self> {
        Arc::new(Self {
            engine,
            auth,
            limits: limits.clone(),
        })
    }

    /// These statements on this shard, a known one, are permitted to the caller.
    fn require_permission(
        &self,
        caller: &Caller,
        shard: ShardTag,
        statements: &[Statement],
    ) -> Result<(), ApiError> {
        if caller.permissions.is_all() {
            return Ok(());
        }
        let shards = self.shards();
        let name = shards.name(shard);
        let refusal = name.and_then(|name| caller.permissions.refusal(name, statements));
        match refusal {
            None => Ok(()),
            Some(message) => {
                let who = &caller.principal;
                tracing::warn!(target: "gavel::audit", %who, what = message, "forbidden");
                Err(ApiError::not_permitted(message))
            }
        }
    }

    /// Whether everybody who can connect is an operator.
    pub(super) fn is_open(&self) -> bool {
        !self.auth.has_principals()
    }

    pub(super) fn limits(&self) -> &Limits {
        &self.limits
    }

    pub(super) fn shards(&self) -> Arc<ShardMap> {
        self.engine.shards()
    }

    /// Who sent this `Authorization` header over a connection to `peer`, who is at the address
    /// `from`.
    pub(super) fn authenticate(
        &self,
        authorization: Option<&[u8]>,
        peer: &Peer,
        from: Option<SocketAddr>,
    ) -> Result<Caller, ApiError> {
        let caller = self.auth.authenticate(authorization, peer);
        if caller.is_none() {
            metrics::authentication_failed();
            let from = from.map(tracing::field::display);
            tracing::warn!(target: "gavel::audit", from, what = "authentication failed");
        }
        caller.ok_or_else(ApiError::unauthenticated)
    }

    /// The txid in a text: canonical, of version 7, with a home that exists (R9).
    pub(super) fn txid(&self, text: &str) -> Result<Txid, ApiError> {
        let txid: Txid = text.parse().map_err(|error| {
            let message = format!("txid: {error}");
            ApiError::from(Refusal::new(RefusalCode::InvalidTxid, message))
        })?;
        if self.shards().name(txid.home()).is_none() {
            let message = format!(
                "the txid names the shard with tag {} as its home, and there is none",
                txid.home()
            );
            return Err(Refusal::new(RefusalCode::UnknownHome, message).into());
        }
        Ok(txid)
    }

    /// The tag of a shard's name.
    pub(super) fn shard(&self, name: &str) -> Result<ShardTag, ApiError> {
        let tag = name.parse().ok().and_then(|name| self.shards().tag(&name));
        tag.ok_or_else(|| {
            let shards = self.shards();
            let known: Vec<_> = shards.iter().map(|(_, name)| name.as_str()).collect();
            let shown: String = name.chars().take(64).collect();
            let message = format!(
                "there is no shard `{shown}`; the shards are {}",
                known.join(", ")
            );
            Refusal::new(RefusalCode::UnknownShard, message).into()
        })
    }

    /// Mints a txid.
    pub(super) fn mint(&self, home: Option<ShardTag>) -> Result<Txid, ApiError> {
        Ok(self.engine.mint(home)?)
    }

    /// A declared transaction as the engine takes it, if it holds together.
    pub(super) fn submission(
        &self,
        caller: Caller,
        transaction: Transaction,
        terms: Terms,
    ) -> Result<Submission, ApiError> {
        transaction
            .validate(&self.limits)
            .map_err(|invalid| ApiError::invalid(&invalid, &self.shards()))?;
        for branch in &transaction.branches {
            self.require_permission(&caller, branch.shard, &branch.statements)?;
        }
        if terms.timeout_ms == Some(0) {
            return Err(ApiError::bad("invalid_timeout", "timeout_ms is at least 1"));
        }
        let txid = match terms.txid {
            Some(txid) => txid,
            None => self.mint(default_home(&transaction))?,
        };
        Ok(Submission {
            txid,
            transaction,
            principal: caller.principal,
            ack: terms.ack,
            timeout: terms.timeout_ms.map(Duration::from_millis),
            is_retry: terms.is_retry,
        })
    }

    /// Runs a declared transaction to its end, even if the caller goes away.
    pub(super) async fn submit(self: Arc<Self>, submission: Submission) -> Answer {
        let txid = submission.txid;
        let running = detached(async move { self.run(submission).await });
        running.await.unwrap_or_else(|| broken(txid))
    }

    /// The same, for a task that lives on when the caller goes away, and survives a panic.
    pub(super) async fn run(&self, submission: Submission) -> Answer {
        self.engine.submit(submission).await
    }

    /// What is recorded of a txid. Operators may ask about everybody's.
    pub(super) async fn status(&self, caller: Caller, txid: Txid) -> Result<Status, ApiError> {
        let asker = (caller.role != Role::Operator).then_some(caller.principal);
        Ok(self.engine.status(txid, asker).await?)
    }

    /// Aborts a txid for good.
    pub(super) async fn abort(self: Arc<Self>, caller: Caller, txid: Txid) -> Answer {
        let engine = Arc::clone(&self.engine);
        let running = detached(async move { engine.abort(txid, caller.principal).await });
        match running.await {
            None => broken(txid),
            Some(outcome) => Answer {
                txid,
                outcome,
                results: Vec::new(),
            },
        }
    }

    /// Begins an interactive transaction.
    pub(super) async fn begin(
        self: Arc<Self>,
        caller: Caller,
        txid: Txid,
        isolation: Isolation,
    ) -> Result<(), ApiError> {
        let engine = Arc::clone(&self.engine);
        let running =
            detached(async move { engine.begin(txid, isolation, caller.principal).await });
        Ok(running.await.ok_or_else(ApiError::internal)??)
    }

    /// Runs a statement of an interactive transaction.
    pub(super) async fn execute(
        self: Arc<Self>,
        caller: Caller,
        step: Step,
    ) -> Result<InteractiveAnswer, ApiError> {
        let Step {
            txid,
            sequence,
            shard,
            statement,
        } = step;
        validate_statement(shard, 0, &statement, &self.limits)
            .map_err(|invalid| ApiError::invalid(&invalid, &self.shards()))?;
        self.require_permission(&caller, shard, std::slice::from_ref(&statement))?;
        let engine = Arc::clone(&self.engine);
        let running = detached(async move {
            engine
                .execute(txid, &caller.principal, sequence, shard, statement)
                .await
        });
        Ok(running.await.ok_or_else(ApiError::internal)??)
    }

    /// Commits an interactive transaction.
    pub(super) async fn commit(self: Arc<Self>, caller: Caller, txid: Txid, ack: Ack) -> Answer {
        let engine = Arc::clone(&self.engine);
        let running = detached(async move { engine.commit(txid, &caller.principal, ack).await });
        running.await.unwrap_or_else(|| broken(txid))
    }

    /// Rolls an interactive transaction back.
    pub(super) async fn rollback(
        self: Arc<Self>,
        caller: Caller,
        txid: Txid,
    ) -> Result<(), ApiError> {
        let engine = Arc::clone(&self.engine);
        let running = detached(async move { engine.rollback(txid, &caller.principal).await });
        Ok(running.await.ok_or_else(ApiError::internal)??)
    }

    /// Prepared branches on all shards. For operators.
    pub(super) async fn in_doubt(
        &self,
        caller: &Caller,
    ) -> Result<Vec<(ShardTag, Result<Vec<InDoubtBranch>, String>)>, ApiError> {
        require_operator(caller, "in-doubt list")?;
        Ok(self.engine.in_doubt().await)
    }

    /// Resolves one branch. For operators.
    pub(super) async fn resolve(
        self: Arc<Self>,
        caller: Caller,
        gid: &str,
        because: &str,
    ) -> Result<String, ApiError> {
        require_operator(&caller, "in-doubt resolve")?;
        let gid: Gid = gid.parse().map_err(|_| {
            ApiError::bad(
                "invalid_gid",
                "not a gid of Gavel's: send one as it was listed",
            )
        })?;
        require_reason(because)?;
        tracing::info!(
            target: "gavel::audit", who = %caller.principal, what = "resolve", %gid, because
        );
        let engine = Arc::clone(&self.engine);
        let running = detached(async move { engine.resolve(gid).await });
        Ok(running.await.ok_or_else(ApiError::internal)??)
    }

    /// Asks a shard for a sign of life now. For operators.
    pub(super) async fn retry_shard(
        self: Arc<Self>,
        caller: Caller,
        name: &str,
        because: &str,
    ) -> Result<String, ApiError> {
        require_operator(&caller, "shard retry")?;
        let shard = self.shard(name)?;
        require_reason(because)?;
        tracing::info!(
            target: "gavel::audit", who = %caller.principal, what = "shard retry", shard = name, because
        );
        let engine = Arc::clone(&self.engine);
        let running = detached(async move { engine.retry_shard(shard).await });
        Ok(running.await.ok_or_else(ApiError::internal)??)
    }

    /// Has the coordinator take nothing new, or take transactions again; returns how many it still
    /// holds. For operators.
    pub(super) fn set_draining(
        &self,
        caller: &Caller,
        is_draining: bool,
        because: &str,
    ) -> Result<u64, ApiError> {
        let what = if is_draining { "drain" } else { "resume" };
        require_operator(caller, what)?;
        require_reason(because)?;
        tracing::info!(target: "gavel::audit", who = %caller.principal, what, because);
        self.engine.set_draining(is_draining);
        let standing = self.engine.standing();
        Ok(standing.in_flight + standing.sessions)
    }

    /// What the coordinator remembers of a transaction. For operators: it names those of others.
    pub(super) fn stories(&self, caller: &Caller, txid: Txid) -> Result<Vec<StoryTold>, ApiError> {
        require_operator(caller, "story")?;
        Ok(self.engine.stories(txid))
    }

    /// How the coordinator stands. For operators.
    pub(super) fn standing(&self, caller: &Caller) -> Result<Standing, ApiError> {
        require_operator(caller, "standing")?;
        Ok(self.engine.standing())
    }

    /// What is wrong with each shard, by its name.
    pub(super) fn named_shard_health(&self) -> Vec<(String, Option<String>)> {
        let health = self.shard_health().into_iter();
        let name = |tag| self.shards().name(tag).map(ToString::to_string);
        health
            .filter_map(|(tag, wrong)| Some((name(tag)?, wrong)))
            .collect()
    }

    /// What is wrong with each shard.
    pub(super) fn shard_health(&self) -> Vec<(ShardTag, Option<String>)> {
        self.engine.shard_health()
    }

    /// Why the engine cannot commit at this moment, if so.
    pub(super) async fn not_ready(&self) -> Option<String> {
        self.engine.not_ready().await
    }
}

fn require_operator(caller: &Caller, what: &str) -> Result<(), ApiError> {
    if caller.role == Role::Operator {
        return Ok(());
    }
    tracing::warn!(target: "gavel::audit", who = %caller.principal, what, "forbidden");
    Err(ApiError::forbidden())
}

fn require_reason(because: &str) -> Result<(), ApiError> {
    if because.trim().is_empty() || because.chars().count() > REASON_CHARS_MAX {
        let message =
            format!("say why, in 1 to {REASON_CHARS_MAX} characters: it goes into the audit log");
        return Err(ApiError::bad("invalid_reason", message));
    }
    Ok(())
}

/// Of the shards that are written, the one with the lowest tag; without any, of all. The same
/// rule as the client library's: one lane per set of shards.
fn default_home(transaction: &Transaction) -> Option<ShardTag> {
    let branches = &transaction.branches;
    let writing = branches.iter().filter(|b| b.access == Access::ReadWrite);
    let lowest_writing = writing.map(|branch| branch.shard).min();
    lowest_writing.or_else(|| branches.iter().map(|branch| branch.shard).min())
}

/// Runs work to its end even if whoever waits for it goes away. `None` if it panicked.
async fn detached<T: Send + 'static>(work: impl Future<Output = T> + Send + 'static) -> Option<T> {
    let span = gavel_spans::current();
    tokio::spawn(gavel_spans::within(span, work)).await.ok()
}

/// The answer of a face whose engine broke: nothing is known.
fn broken(txid: Txid) -> Answer {
    Answer {
        txid,
        outcome: nothing_known(),
        results: Vec::new(),
    }
}

pub(super) fn nothing_known() -> Outcome {
    let detail = "the coordinator failed before it could answer".to_owned();
    Outcome::InDoubt { detail }
}
