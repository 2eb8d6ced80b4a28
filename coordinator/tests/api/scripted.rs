//! An engine that answers what a test tells it to, behind a real port.

use std::net::SocketAddr;
use std::sync::Arc;

use async_trait::async_trait;
use gavel_coordinator::api::{self, Authenticator};
use gavel_coordinator::{Answer, Engine, InteractiveAnswer, StoryTold, Submission};
use gavel_protocol::circuit::State;
use gavel_protocol::message::InDoubtBranch;
use gavel_protocol::outcome::{StatementResult, Status};
use gavel_protocol::standing::{Second, ShardStanding, Standing};
use gavel_protocol::{
    Ack, Gid, Isolation, Limits, Outcome, Principal, Refusal, ShardMap, ShardTag, Statement, Txid,
};
use gavel_tls::Acceptor;
use parking_lot::Mutex;
use serde_json::Value;
use tokio::sync::Notify;

/// What the engine answers. `None` where a test does not expect the engine to be asked.
#[derive(Default)]
pub(crate) struct Script {
    pub(crate) outcome: Option<Outcome>,
    pub(crate) results: Vec<(ShardTag, Vec<StatementResult>)>,
    pub(crate) status: Option<Result<Status, Refusal>>,
    pub(crate) executed: Option<Result<InteractiveAnswer, Refusal>>,
    pub(crate) begun: Option<Result<(), Refusal>>,
    pub(crate) not_ready: Option<String>,
    pub(crate) panics: bool,
    /// Submits wait for [`Scripted::go_on`].
    pub(crate) holds: bool,
}

/// What the engine was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Asked {
    Submit(Box<Submitted>),
    Status(Txid, Option<Principal>),
    Abort(Txid, Principal),
    Begin(Txid, Isolation),
    Execute(Txid, u64, ShardTag, Statement),
    Commit(Txid, Ack),
    Rollback(Txid),
    InDoubt,
    Resolve(Gid),
    RetryShard(ShardTag),
    SetDraining(bool),
}

/// A [`Submission`] that can be compared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Submitted {
    pub(crate) txid: Txid,
    pub(crate) transaction: gavel_protocol::Transaction,
    pub(crate) principal: Principal,
    pub(crate) ack: Ack,
    pub(crate) timeout: Option<std::time::Duration>,
    pub(crate) is_retry: bool,
}

pub(crate) struct Scripted {
    shards: ShardMap,
    script: Script,
    asked: Mutex<Vec<Asked>>,
    /// Lets one submit that is held go on.
    pub(crate) go_on: Notify,
    /// Notified when a submit that was held has come to its end.
    pub(crate) ended: Notify,
}

pub(crate) const A: ShardTag = ShardTag(1);
pub(crate) const B: ShardTag = ShardTag(2);

/// A txid with its home on this shard.
pub(crate) fn txid_at(home: ShardTag) -> Txid {
    Txid::mint(1_760_000_000_000, home, [7; 16])
}

/// One second, and a shard that does not answer.
pub(crate) fn standing() -> Standing {
    let shard = |tag, circuit, wrong: Option<&str>| ShardStanding {
        tag,
        circuit,
        wrong: wrong.map(str::to_owned),
        is_draining: false,
    };
    Standing {
        version: "1.2.3".to_owned(),
        started_unix_s: 1,
        in_flight: 2,
        in_flight_max: 3,
        lanes: 4,
        waiting: 5,
        deepest: 6,
        sessions: 7,
        is_draining: false,
        shards: vec![
            shard(A, State::Closed, None),
            shard(B, State::Open, Some("it does not answer")),
        ],
        seconds: vec![Second {
            unix_s: 8,
            committed: 9,
            aborted: 10,
            refused: 11,
            in_doubt: 12,
            p50_us: 13,
            p99_us: 14,
            max_us: 15,
        }],
    }
}

impl Scripted {
    fn ask(&self, asked: Asked) {
        self.asked.lock().push(asked);
        if self.script.panics {
            // Without the panic hook's noise.
            std::panic::resume_unwind(Box::new("scripted"));
        }
    }

    fn answer(&self, txid: Txid) -> Answer {
        Answer {
            txid,
            outcome: self.script.outcome.clone().expect("an outcome"),
            results: self.script.results.clone(),
        }
    }
}

#[async_trait]
impl Engine for Scripted {
    fn shards(&self) -> Arc<ShardMap> {
        Arc::new(self.shards.clone())
    }

    fn shard_health(&self) -> Vec<(ShardTag, Option<String>)> {
        let shards = self.shards();
        let each = shards.iter();
        each.map(|(tag, _)| (tag, self.script.not_ready.clone().filter(|_| tag == B)))
            .collect()
    }

    fn stories(&self, _txid: Txid) -> Vec<StoryTold> {
        Vec::new()
    }

    fn standing(&self) -> Standing {
        standing()
    }

    async fn not_ready(&self) -> Option<String> {
        self.script.not_ready.clone()
    }

    fn mint(&self, home: Option<ShardTag>) -> Result<Txid, Refusal> {
        Ok(txid_at(home.unwrap_or(B)))
    }

    async fn submit(&self, submission: Submission) -> Answer {
        let txid = submission.txid;
        self.ask(Asked::Submit(Box::new(Submitted {
            txid,
            transaction: submission.transaction,
            principal: submission.principal,
            ack: submission.ack,
            timeout: submission.timeout,
            is_retry: submission.is_retry,
        })));
        if self.script.holds {
            self.go_on.notified().await;
            self.ended.notify_one();
        }
        self.answer(txid)
    }

    async fn status(&self, txid: Txid, asker: Option<Principal>) -> Result<Status, Refusal> {
        self.ask(Asked::Status(txid, asker));
        self.script.status.clone().expect("a status")
    }

    async fn abort(&self, txid: Txid, principal: Principal) -> Outcome {
        self.ask(Asked::Abort(txid, principal));
        self.answer(txid).outcome
    }

    async fn begin(
        &self,
        txid: Txid,
        isolation: Isolation,
        _principal: Principal,
    ) -> Result<(), Refusal> {
        self.ask(Asked::Begin(txid, isolation));
        self.script.begun.clone().expect("a begin")
    }

    async fn execute(
        &self,
        txid: Txid,
        _principal: &Principal,
        sequence: u64,
        shard: ShardTag,
        statement: Statement,
    ) -> Result<InteractiveAnswer, Refusal> {
        self.ask(Asked::Execute(txid, sequence, shard, statement));
        self.script.executed.clone().expect("an execute")
    }

    async fn commit(&self, txid: Txid, _principal: &Principal, ack: Ack) -> Answer {
        self.ask(Asked::Commit(txid, ack));
        self.answer(txid)
    }

    async fn rollback(&self, txid: Txid, _principal: &Principal) -> Result<(), Refusal> {
        self.ask(Asked::Rollback(txid));
        self.script.begun.clone().expect("a rollback")
    }

    async fn in_doubt(&self) -> Vec<(ShardTag, Result<Vec<InDoubtBranch>, String>)> {
        self.ask(Asked::InDoubt);
        let gid = GID.parse().expect("a gid");
        let branch = InDoubtBranch {
            gid,
            age_ms: 1500,
            waits_for: "home".to_owned(),
        };
        vec![(A, Ok(vec![branch])), (B, Err("down".to_owned()))]
    }

    async fn resolve(&self, gid: Gid) -> Result<String, Refusal> {
        self.ask(Asked::Resolve(gid));
        Ok("rolled back".to_owned())
    }

    async fn retry_shard(&self, shard: ShardTag) -> Result<String, Refusal> {
        self.ask(Asked::RetryShard(shard));
        Ok("it answers".to_owned())
    }

    fn set_draining(&self, is_draining: bool) {
        self.ask(Asked::SetDraining(is_draining));
    }
}

pub(crate) const GID: &str = "gavel:bank:1:1:01890a5d-ac96-774b-bcce-b302099a8057:2";

/// A running server and the way to ask it.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) engine: Arc<Scripted>,
    http: reqwest::Client,
    stop: tokio::sync::oneshot::Sender<()>,
    serving: tokio::task::JoinHandle<std::io::Result<()>>,
}

/// An HTTP answer. Its body must be JSON.
#[derive(Debug)]
pub(crate) struct Heard {
    pub(crate) status: u16,
    pub(crate) retry_after: bool,
    pub(crate) body: Value,
}

impl Heard {
    /// The code of the error object.
    pub(crate) fn code(&self) -> &str {
        self.body["error"]["code"].as_str().unwrap_or("no code")
    }

    /// The message of the error object.
    pub(crate) fn message(&self) -> &str {
        self.body["error"]["message"].as_str().unwrap_or_default()
    }
}

impl Server {
    pub(crate) async fn start(script: Script) -> Self {
        Self::start_with(script, Authenticator::open(), Limits::default()).await
    }

    pub(crate) async fn start_with(script: Script, auth: Authenticator, limits: Limits) -> Self {
        let names = [("alpha", A), ("beta", B)];
        let names = names.map(|(name, tag)| (name.parse().expect("a name"), tag));
        let engine = Arc::new(Scripted {
            shards: ShardMap::new(names).expect("a map"),
            script,
            asked: Mutex::default(),
            go_on: Notify::new(),
            ended: Notify::new(),
        });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await;
        let listener = listener.expect("a port");
        let address = listener.local_addr().expect("an address");
        let router = api::router(Arc::clone(&engine) as Arc<dyn Engine>, auth, &limits);
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let serving = tokio::spawn(api::serve(listener, Acceptor::Plain, router, async {
            let _ = stopped.await;
        }));
        Self {
            address,
            engine,
            http: reqwest::Client::new(),
            stop,
            serving,
        }
    }

    /// Shuts down, and returns what ends when every connection has ended.
    pub(crate) fn stop(self) -> tokio::task::JoinHandle<std::io::Result<()>> {
        self.stop.send(()).expect("a server");
        self.serving
    }

    /// Waits until the engine was asked this often.
    pub(crate) async fn wait_for_asked(&self, count: usize) {
        while self.engine.asked.lock().len() < count {
            tokio::task::yield_now().await;
        }
    }

    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.engine.asked.lock().clone()
    }

    pub(crate) fn request(&self, method: &str, path: &str) -> reqwest::RequestBuilder {
        let url = format!("http://{}{path}", self.address);
        self.http.request(method.parse().expect("a method"), url)
    }

    pub(crate) async fn get(&self, path: &str) -> Heard {
        hear(self.request("GET", path)).await
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> Heard {
        hear(self.request("POST", path).json(&body)).await
    }

    /// Sends a body as it is, as JSON.
    pub(crate) async fn post_text(&self, path: &str, body: impl Into<reqwest::Body>) -> Heard {
        let request = self.request("POST", path);
        hear(
            request
                .header("content-type", "application/json")
                .body(body),
        )
        .await
    }
}

pub(crate) async fn hear(request: reqwest::RequestBuilder) -> Heard {
    let response = request.send().await.expect("an answer");
    let header = |name: &str| response.headers().get(name).map(|v| v.as_bytes().to_vec());
    let content_type = header("content-type").unwrap_or_default();
    assert_eq!(content_type, b"application/json", "everything is JSON");
    Heard {
        status: response.status().as_u16(),
        retry_after: header("retry-after").is_some(),
        body: response.json().await.expect("JSON"),
    }
}
