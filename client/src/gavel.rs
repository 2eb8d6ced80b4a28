//! The client itself.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use gavel_protocol::message::InDoubtBranch;
use gavel_protocol::standing::Standing;
use gavel_protocol::{Gid, Isolation, Refusal, RefusalCode, ShardMap, ShardName, ShardTag, Txid};
use parking_lot::RwLock;

use crate::builder::TransactionBuilder;
use crate::endpoint::{Endpoint, Endpoints};
use crate::error::{BeginError, CallError, ConnectError, UnknownShard};
use crate::interactive::Interactive;
use crate::options::Options;
use crate::outcome::{Outcome, Status};
use crate::retry::{Attempts, Knowledge, Submission};
use crate::transport::{Answer, Failure, Submit, Transport, grpc};

/// A client of a deployment. Cheap to clone; clones share connections.
#[derive(Clone)]
pub struct Gavel {
    inner: Arc<Inner>,
}

struct Inner {
    endpoints: Endpoints,
    shards: RwLock<Arc<ShardMap>>,
    options: Options,
}

/// The in-doubt branches of one shard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShardInDoubt {
    /// The shard.
    pub shard: ShardName,
    /// Its prepared branches, or why it could not be asked.
    pub branches: Result<Vec<InDoubtBranch>, String>,
}

impl Gavel {
    /// Connects to the coordinators at these addresses (`http://host:port`), with the default
    /// options. Calls are spread over them, and fail over.
    ///
    /// # Errors
    /// See [`ConnectError`].
    pub async fn connect<I>(endpoints: I) -> Result<Self, ConnectError>
    where
        I: IntoIterator<Item: Into<String>>,
    {
        Self::connect_with(endpoints, Options::default()).await
    }

    /// Connects with options.
    ///
    /// # Errors
    /// See [`ConnectError`].
    pub async fn connect_with<I>(endpoints: I, options: Options) -> Result<Self, ConnectError>
    where
        I: IntoIterator<Item: Into<String>>,
    {
        let mut transports: Vec<Arc<dyn Transport>> = Vec::new();
        for endpoint in endpoints {
            transports.push(Arc::new(grpc::Grpc::new(endpoint.into(), &options)?));
        }
        if transports.is_empty() {
            return Err(ConnectError::NoEndpoint);
        }
        Self::over(transports, options).await
    }

    pub(crate) async fn over(
        transports: Vec<Arc<dyn Transport>>,
        options: Options,
    ) -> Result<Self, ConnectError> {
        let endpoints = Endpoints::new(transports);
        let shards = match &options.shards {
            Some(shards) => shards.clone(),
            None => ask(&endpoints, &options, |t| async move { t.shards().await })
                .await
                .map_err(ConnectError::Unreachable)?,
        };
        Ok(Self::from_parts(endpoints, shards, options))
    }

    pub(crate) fn from_parts(endpoints: Endpoints, shards: ShardMap, options: Options) -> Self {
        let shards = Arc::new(shards);
        endpoints.know(&shards);
        let inner = Inner {
            endpoints,
            shards: RwLock::new(shards),
            options,
        };
        Self {
            inner: Arc::new(inner),
        }
    }

    /// Starts a declared transaction: all statements are sent in one request. The usual way,
    /// and the fast one.
    pub fn transaction(&self) -> TransactionBuilder {
        TransactionBuilder::new(self.clone())
    }

    /// Begins an interactive transaction at the default isolation level, whose outcome is
    /// recorded on the shard with the lowest tag that takes transactions.
    ///
    /// # Errors
    /// No coordinator began it.
    pub async fn begin(&self) -> Result<Interactive, BeginError> {
        let shards = self.shards();
        let mut homes = shards.iter().map(|(tag, _)| tag);
        let mut home = homes.next().unwrap_or(ShardTag(0));
        loop {
            let txid = self.mint_at(home);
            let begun = Interactive::begin(self.clone(), txid, Isolation::default()).await;
            let is_draining = matches!(
                &begun,
                Err(BeginError::Call(CallError::Refused(refusal)))
                    if refusal.code == RefusalCode::ShardDraining
            );
            match homes.next() {
                Some(next) if is_draining => home = next,
                Some(_) | None => return begun,
            }
        }
    }

    /// Begins an interactive transaction whose outcome is recorded on `home`. One of the shards
    /// that it writes makes for the fewest flushes.
    ///
    /// # Errors
    /// No such shard, or no coordinator began it.
    pub async fn begin_at(
        &self,
        home: &str,
        isolation: Isolation,
    ) -> Result<Interactive, BeginError> {
        self.look_for([home].into_iter()).await;
        let txid = self.mint(home)?;
        Interactive::begin(self.clone(), txid, isolation).await
    }

    /// Mints a txid whose outcome the shard `home` will record. Nothing is sent.
    ///
    /// # Errors
    /// No shard of that name.
    pub fn mint(&self, home: &str) -> Result<Txid, UnknownShard> {
        Ok(self.mint_at(self.tag(home)?))
    }

    /// What is recorded of a txid.
    ///
    /// # Errors
    /// The question was refused, or nobody answered it in time.
    pub async fn status(&self, txid: Txid) -> Result<Status, CallError> {
        let status = self
            .ask(move |t| async move { t.status(txid).await })
            .await?;
        Ok(Status::from_protocol(status, &self.shards()))
    }

    /// Aborts a txid for good, unless it has an outcome already: afterwards there is certainty.
    /// Tells what is recorded now, `Committed` or `Aborted`; `Refused` if nothing was done, and
    /// `InDoubt` if home could not be reached.
    pub async fn abort(&self, txid: Txid) -> Outcome {
        let mut attempts = self.attempts(None);
        let mut knowledge = Knowledge::default();
        while let Some(time) = attempts.next().await {
            let calling = |t: Arc<dyn Transport>| async move { t.abort(txid).await };
            let ended = self.next_endpoint().call(time, calling).await;
            let ended = ended.map(|outcome| Answer {
                outcome,
                results: Vec::new(),
            });
            if let Some(answer) = knowledge.learn(ended) {
                return self.outcome(txid, answer);
            }
        }
        self.outcome(txid, knowledge.verdict())
    }

    /// The shards of the deployment, as far as they are known here. A shard that was added since
    /// is found when its name is first used in a submit or a statement, or by
    /// [`Self::refresh_shards`].
    pub fn shards(&self) -> Arc<ShardMap> {
        self.inner.shards.read().clone()
    }

    /// Asks a coordinator which shards there are now.
    ///
    /// # Errors
    /// The question was refused, or nobody answered it in time.
    pub async fn refresh_shards(&self) -> Result<(), CallError> {
        let shards = self.ask(|t| async move { t.shards().await }).await?;
        self.learn(shards);
        Ok(())
    }

    fn learn(&self, shards: ShardMap) {
        let shards = Arc::new(shards);
        self.inner.endpoints.know(&shards);
        *self.inner.shards.write() = shards;
    }

    /// Asks once which shards there are, if one of these names is unknown: it may have been added
    /// since. Whoever cannot be asked leaves it unknown.
    pub(crate) async fn look_for<'a>(&self, mut names: impl Iterator<Item = &'a str>) {
        if names.all(|name| self.tag(name).is_ok()) {
            return;
        }
        let calling = |t: Arc<dyn Transport>| async move { t.shards().await };
        let endpoint = self.next_endpoint();
        if let Ok(shards) = endpoint.call(self.attempt_timeout(), calling).await {
            self.learn(shards);
        }
    }

    /// How the coordinator stands that is asked, and what it told its clients in the last five
    /// minutes. For operators, who connect to one coordinator to be told of that one.
    ///
    /// # Errors
    /// The question was refused, or nobody answered it in time.
    pub async fn standing(&self) -> Result<Standing, CallError> {
        self.ask(|t| async move { t.standing().await }).await
    }

    /// Prepared branches on all shards. For operators.
    ///
    /// # Errors
    /// The question was refused, or nobody answered it in time.
    pub async fn in_doubt(&self) -> Result<Vec<ShardInDoubt>, CallError> {
        let found = self.ask(|t| async move { t.in_doubt().await }).await?;
        let shards = self.shards();
        let named = found.into_iter().filter_map(|(tag, branches)| {
            let shard = shards.name(tag)?.clone();
            Some(ShardInDoubt { shard, branches })
        });
        Ok(named.collect())
    }

    /// Has a coordinator ask a shard for a sign of life now, instead of when its circuit's pause is
    /// over, and says what it found. Only one coordinator is asked, and once. For operators;
    /// `because` goes into its audit log, and has 1 to 500 characters.
    ///
    /// # Errors
    /// The shard gives no sign of life, the request was refused, or nobody answered it in time.
    pub async fn retry_shard(&self, shard: &ShardName, because: &str) -> Result<String, CallError> {
        let unknown = || {
            let message = format!("there is no shard `{shard}`");
            CallError::Refused(Refusal::new(RefusalCode::UnknownShard, message))
        };
        let tag = self.shards().tag(shard).ok_or_else(unknown)?;
        self.ask_once(|t| async move { t.retry_shard(tag, because).await })
            .await
    }

    /// Has a coordinator take nothing new, until it is told otherwise or restarted; returns how many
    /// transactions it still holds. Connect to that coordinator alone: of several, any one is told.
    /// For operators; `because` goes into its audit log, and has 1 to 500 characters.
    ///
    /// # Errors
    /// The request was refused, or nobody answered it in time.
    pub async fn set_draining(&self, is_draining: bool, because: &str) -> Result<u64, CallError> {
        self.ask_once(|t| async move { t.set_draining(is_draining, because).await })
            .await
    }

    /// Resolves one in-doubt branch now, and says what was done. For operators; `because` goes into
    /// the coordinator's audit log, and has 1 to 500 characters.
    ///
    /// # Errors
    /// The request was refused, or nobody answered it in time.
    pub async fn resolve(&self, gid: Gid, because: &str) -> Result<String, CallError> {
        self.ask(|t| {
            let gid = gid.clone();
            async move { t.resolve(gid, because).await }
        })
        .await
    }

    pub(crate) fn tag(&self, name: &str) -> Result<ShardTag, UnknownShard> {
        let shards = self.shards();
        let tag = name.parse().ok().and_then(|name| shards.tag(&name));
        tag.ok_or_else(|| {
            let known: Vec<_> = shards.iter().map(|(_, name)| name.as_str()).collect();
            UnknownShard {
                name: name.chars().take(64).collect(),
                known: known.join(", "),
            }
        })
    }

    pub(crate) fn mint_at(&self, home: ShardTag) -> Txid {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH);
        // A clock before 1970 makes txids that coordinators refuse as too old.
        let unix_ms = since_epoch.map_or(0, |time| time.as_millis() as u64);
        Txid::mint(unix_ms, home, rand::random())
    }

    /// Submits until there is an answer or no more time.
    pub(crate) async fn run(&self, submission: Submission) -> Outcome {
        let txid = submission.txid;
        let mut attempts = self.attempts(submission.deadline);
        let mut knowledge = Knowledge::default();
        while let Some(time) = attempts.next().await {
            let submit = Submit {
                txid,
                transaction: Arc::clone(&submission.transaction),
                ack: submission.ack,
                // Shorter than our own patience, so that the coordinator answers first.
                timeout: time.mul_f64(0.8),
                is_retry: submission.was_sent_before || knowledge.is_lacking(),
                traceparent: submission.traceparent.clone(),
            };
            let calling = |t: Arc<dyn Transport>| async move { t.submit(submit).await };
            let ended = self.next_endpoint().call(time, calling).await;
            if let Some(answer) = knowledge.learn(ended) {
                return self.outcome(txid, answer);
            }
        }
        self.outcome(txid, knowledge.verdict())
    }

    /// Asks a question that may be asked twice.
    async fn ask<T, F, Fut>(&self, call: F) -> Result<T, CallError>
    where
        F: Fn(Arc<dyn Transport>) -> Fut,
        Fut: Future<Output = Result<T, Failure>>,
    {
        ask(&self.inner.endpoints, &self.inner.options, call).await
    }

    /// Asks what must not be asked twice without need.
    async fn ask_once<T, F, Fut>(&self, call: F) -> Result<T, CallError>
    where
        F: FnOnce(Arc<dyn Transport>) -> Fut,
        Fut: Future<Output = Result<T, Failure>>,
    {
        let time = self.inner.options.attempt_timeout;
        let ended = self.inner.endpoints.next().call(time, call).await;
        ended.map_err(|failure| match failure {
            Failure::Refused(refusal) => CallError::Refused(refusal),
            Failure::NotSent(detail) | Failure::Lost(detail) => CallError::Unreachable { detail },
        })
    }

    pub(crate) fn outcome(&self, txid: Txid, answer: Answer) -> Outcome {
        Outcome::from_protocol(txid, answer.outcome, answer.results, &self.shards())
    }

    pub(crate) fn attempts(&self, deadline: Option<Duration>) -> Attempts {
        let options = &self.inner.options;
        Attempts::new(options, deadline.unwrap_or(options.deadline))
    }

    /// The time for one answer in a session, whose coordinator cannot be replaced.
    pub(crate) fn attempt_timeout(&self) -> Duration {
        self.inner.options.attempt_timeout
    }

    pub(crate) fn next_endpoint(&self) -> Arc<Endpoint> {
        self.inner.endpoints.next()
    }
}

impl fmt::Debug for Gavel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gavel")
            .field("shards", &self.shards())
            .field("options", &self.inner.options)
            .finish_non_exhaustive()
    }
}

/// Asks a question that may be asked twice, until it is answered or there is no more time.
async fn ask<T, F, Fut>(endpoints: &Endpoints, options: &Options, call: F) -> Result<T, CallError>
where
    F: Fn(Arc<dyn Transport>) -> Fut,
    Fut: Future<Output = Result<T, Failure>>,
{
    let mut attempts = Attempts::new(options, options.deadline);
    let mut last = CallError::Unreachable {
        detail: "there was no time to ask".to_owned(),
    };
    while let Some(time) = attempts.next().await {
        last = match endpoints.next().call(time, &call).await {
            Ok(answer) => return Ok(answer),
            Err(Failure::Refused(refusal)) if !refusal.is_retryable() => {
                return Err(CallError::Refused(refusal));
            }
            Err(Failure::Refused(refusal)) => CallError::Refused(refusal),
            Err(Failure::NotSent(detail) | Failure::Lost(detail)) => {
                CallError::Unreachable { detail }
            }
        };
    }
    Err(last)
}

#[cfg(feature = "embedded")]
impl Gavel {
    /// A client of an engine inside this process. Needs no address and no token: whoever can
    /// call it is [`gavel_protocol::Principal::local`].
    pub fn embedded(engine: Arc<dyn gavel_coordinator::Engine>) -> Self {
        Self::embedded_with(engine, Options::default())
    }

    /// The same, with options; those about addresses and tokens have no effect.
    pub fn embedded_with(engine: Arc<dyn gavel_coordinator::Engine>, options: Options) -> Self {
        let shards = ShardMap::clone(&engine.shards());
        let transport = Arc::new(crate::transport::engine::Embedded(engine));
        Self::from_parts(Endpoints::new(vec![transport]), shards, options)
    }
}
