//! A coordinator that does as it is told, behind a real port.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use gavel_client::{AbortCode, RefusalCode, ShardMap, ShardTag, Txid};
use gavel_wire::api as wire;
use gavel_wire::api::gavel_server::{Gavel, GavelServer};
use gavel_wire::api::outcome::Outcome as Kind;
use parking_lot::Mutex;
use tokio::runtime::Runtime;
use tokio::sync::{Notify, mpsc};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tokio_stream::{Stream, StreamExt as _};
use tonic::{Code, Request, Response, Status, Streaming};

/// How the coordinator treats one call that changes something.
#[derive(Debug, Clone)]
pub(crate) enum Step {
    /// It answers a submit or commit with this.
    Answer(wire::Outcome),
    /// It answers a statement.
    Ok,
    /// It answers a submit on a stream, when it is told to go on.
    Held(wire::Outcome),
    /// It answers a submit on a stream with this error.
    Error(Code),
    /// It never answers.
    Hang,
    /// It takes the call and breaks off, as a process does that is killed.
    BreakOff,
}

pub(crate) fn committed() -> wire::Outcome {
    let committed = wire::Committed {
        applied: Some(true),
    };
    outcome(Kind::Committed(committed))
}

pub(crate) fn aborted() -> wire::Outcome {
    outcome(Kind::Aborted(wire::AbortReason {
        code: AbortCode::GuardFailed.as_str().to_owned(),
        ..Default::default()
    }))
}

pub(crate) fn refused(code: RefusalCode) -> wire::Outcome {
    outcome(Kind::Refused(wire::Refusal {
        code: code.as_str().to_owned(),
        message: "scripted".to_owned(),
    }))
}

fn outcome(kind: Kind) -> wire::Outcome {
    wire::Outcome {
        outcome: Some(kind),
    }
}

#[derive(Default)]
struct Heard {
    script: Mutex<VecDeque<Step>>,
    submits: Mutex<Vec<wire::SubmitRequest>>,
    executes: Mutex<Vec<(u64, String)>>,
    commits: Mutex<usize>,
    /// Streams of submits, and how they are refused if they are.
    streams: Mutex<usize>,
    refuses_streams: Mutex<Option<Code>>,
    /// Calls of `Submit`, apart from streams.
    calls: Mutex<usize>,
    open: Mutex<Option<Answers>>,
    closed: Notify,
    go_on: Notify,
    /// How many status questions hear `none yet` before they hear `committed`.
    none_yet: Mutex<usize>,
    /// A shard that takes nothing new.
    draining: Mutex<Option<ShardTag>>,
    rolled_back: Notify,
}

impl Heard {
    async fn next(&self) -> Result<wire::Outcome, Status> {
        let step = self.script.lock().pop_front();
        match step.expect("no call was expected any more") {
            Step::Answer(outcome) => Ok(outcome),
            Step::Ok => Ok(wire::Outcome::default()),
            Step::Error(code) => Err(Status::new(code, "scripted")),
            Step::Held(outcome) => {
                self.go_on.notified().await;
                Ok(outcome)
            }
            Step::Hang => std::future::pending().await,
            // Without the panic hook's noise. The call ends without an answer.
            Step::BreakOff => std::panic::resume_unwind(Box::new("scripted")),
        }
    }
}

/// What is said on a stream; `None` breaks it off.
type Answers = mpsc::UnboundedSender<Option<wire::SubmitAnswers>>;

impl Heard {
    /// Carries out one call of a stream.
    async fn streamed(self: Arc<Self>, call: wire::SubmitCall, answers: Answers) {
        use wire::submit_answer::Answer as Kind;
        let request = call.request.expect("a request");
        let txid = request.txid.clone();
        self.submits.lock().push(request);
        let next = tokio::spawn({
            let heard = Arc::clone(&self);
            async move { heard.next().await }
        });
        let Ok(ended) = next.await else {
            let _ = answers.send(None);
            return;
        };
        let answer = match ended {
            Ok(outcome) => Kind::Response(wire::SubmitResponse {
                txid,
                outcome: Some(outcome),
                results: Vec::new(),
            }),
            Err(status) => Kind::Error(wire::CallError {
                grpc_status: status.code() as u32,
                message: status.message().to_owned(),
                ..Default::default()
            }),
        };
        let answer = wire::SubmitAnswer {
            call: call.call,
            answer: Some(answer),
        };
        let _ = answers.send(Some(wire::SubmitAnswers {
            answers: vec![answer],
            closing: false,
        }));
    }
}

pub(crate) struct Coordinator {
    address: SocketAddr,
    heard: Arc<Heard>,
    /// Of its own, so that a killed coordinator takes its connections with it.
    runtime: Mutex<Option<Runtime>>,
}

impl Coordinator {
    pub(crate) async fn start(script: impl IntoIterator<Item = Step>) -> Self {
        let heard = Arc::new(Heard {
            script: Mutex::new(script.into_iter().collect()),
            ..Heard::default()
        });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await;
        let listener = listener.expect("a port");
        let address = listener.local_addr().expect("an address");
        let listener = listener.into_std().expect("a listener");
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        let service = GavelServer::new(Service(Arc::clone(&heard)));
        runtime.spawn(async move {
            let listener = tokio::net::TcpListener::from_std(listener).expect("a listener");
            let incoming = tonic::transport::server::TcpIncoming::from(listener);
            let server = tonic::transport::Server::builder().add_service(service);
            server.serve_with_incoming(incoming).await
        });
        Self {
            address,
            heard,
            runtime: Mutex::new(Some(runtime)),
        }
    }

    pub(crate) fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Closes the port and every connection, and waits until they are closed.
    pub(crate) async fn kill(&self) {
        let runtime = self.runtime.lock().take().expect("still alive");
        let stopping = move || runtime.shutdown_timeout(Duration::from_secs(5));
        tokio::task::spawn_blocking(stopping)
            .await
            .expect("stopped");
    }

    pub(crate) fn submits(&self) -> Vec<wire::SubmitRequest> {
        self.heard.submits.lock().clone()
    }

    /// How many of them were calls of their own.
    pub(crate) fn calls(&self) -> usize {
        *self.heard.calls.lock()
    }

    /// How many streams of submits were opened.
    pub(crate) fn streams(&self) -> usize {
        *self.heard.streams.lock()
    }

    pub(crate) fn refuse_streams(&self, code: Code) {
        *self.heard.refuses_streams.lock() = Some(code);
    }

    /// Tells the open stream that the coordinator leaves.
    pub(crate) fn close_stream(&self) {
        let open = self.heard.open.lock();
        let closing = wire::SubmitAnswers {
            closing: true,
            ..Default::default()
        };
        let told = open.as_ref().expect("a stream").send(Some(closing));
        told.expect("still open");
    }

    /// Waits until the client has closed its side of the last stream.
    pub(crate) async fn wait_for_close(&self) {
        self.heard.closed.notified().await;
    }

    /// Lets one held call go on.
    pub(crate) fn go_on(&self) {
        self.heard.go_on.notify_one();
    }

    /// Waits until this many submits were heard.
    pub(crate) async fn wait_for_submits(&self, count: usize) {
        while self.heard.submits.lock().len() < count {
            tokio::task::yield_now().await;
        }
    }

    pub(crate) fn executes(&self) -> Vec<(u64, String)> {
        self.heard.executes.lock().clone()
    }

    pub(crate) fn commits(&self) -> usize {
        *self.heard.commits.lock()
    }

    pub(crate) fn record_after(&self, questions: usize) {
        *self.heard.none_yet.lock() = questions;
    }

    /// From now on this shard takes nothing new.
    pub(crate) fn drain(&self, shard: ShardTag) {
        *self.heard.draining.lock() = Some(shard);
    }

    pub(crate) async fn wait_for_rollback(&self) {
        self.heard.rolled_back.notified().await;
    }
}

impl Drop for Coordinator {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.lock().take() {
            runtime.shutdown_background();
        }
    }
}

struct Service(Arc<Heard>);

type Answered<T> = Result<Response<T>, Status>;

fn unexpected<T>() -> Answered<T> {
    Err(Status::unimplemented("not scripted"))
}

#[tonic::async_trait]
impl Gavel for Service {
    async fn submit(
        &self,
        request: Request<wire::SubmitRequest>,
    ) -> Answered<wire::SubmitResponse> {
        let request = request.into_inner();
        let txid = request.txid.clone();
        self.0.submits.lock().push(request);
        *self.0.calls.lock() += 1;
        let outcome = self.0.next().await?;
        Ok(Response::new(wire::SubmitResponse {
            txid,
            outcome: Some(outcome),
            results: Vec::new(),
        }))
    }

    type SubmitStreamStream =
        Pin<Box<dyn Stream<Item = Result<wire::SubmitAnswers, Status>> + Send>>;

    async fn submit_stream(
        &self,
        request: Request<Streaming<wire::SubmitBatch>>,
    ) -> Answered<Self::SubmitStreamStream> {
        *self.0.streams.lock() += 1;
        if let Some(code) = *self.0.refuses_streams.lock() {
            return Err(Status::new(code, "scripted"));
        }
        let (answers, heard) = mpsc::unbounded_channel();
        *self.0.open.lock() = Some(answers.clone());
        let service = Arc::clone(&self.0);
        let mut incoming = request.into_inner();
        tokio::spawn(async move {
            while let Ok(Some(batch)) = incoming.message().await {
                for call in batch.calls {
                    tokio::spawn(Arc::clone(&service).streamed(call, answers.clone()));
                }
            }
            service.open.lock().take();
            service.closed.notify_one();
        });
        let messages = UnboundedReceiverStream::new(heard);
        let messages = messages.map(|message| message.ok_or_else(|| Status::unknown("scripted")));
        Ok(Response::new(Box::pin(messages)))
    }

    async fn status(
        &self,
        request: Request<wire::StatusRequest>,
    ) -> Answered<wire::StatusResponse> {
        use wire::status_response::Status as Kind;
        let mut none_yet = self.0.none_yet.lock();
        let status = if *none_yet == 0 {
            Kind::Committed(wire::RecordedCommit {})
        } else {
            *none_yet -= 1;
            Kind::NoneYet(wire::NoneYet {})
        };
        Ok(Response::new(wire::StatusResponse {
            txid: request.into_inner().txid,
            status: Some(status),
        }))
    }

    async fn abort(&self, _: Request<wire::AbortRequest>) -> Answered<wire::AbortResponse> {
        unexpected()
    }

    async fn mint_txid(
        &self,
        _: Request<wire::MintTxidRequest>,
    ) -> Answered<wire::MintTxidResponse> {
        unexpected()
    }

    async fn begin(&self, request: Request<wire::BeginRequest>) -> Answered<wire::BeginResponse> {
        let txid = request.into_inner().txid;
        let home = txid.parse::<Txid>().expect("a txid").home();
        let refused = (*self.0.draining.lock() == Some(home)).then(|| wire::Refusal {
            code: RefusalCode::ShardDraining.as_str().to_owned(),
            message: "scripted".to_owned(),
        });
        Ok(Response::new(wire::BeginResponse { txid, refused }))
    }

    async fn execute(
        &self,
        request: Request<wire::ExecuteRequest>,
    ) -> Answered<wire::ExecuteResponse> {
        let request = request.into_inner();
        let sql = request.statement.map(|statement| statement.sql);
        let heard = (
            request.sequence.unwrap_or(u64::MAX),
            sql.unwrap_or_default(),
        );
        self.0.executes.lock().push(heard);
        self.0.next().await?;
        Ok(Response::new(wire::ExecuteResponse {
            txid: request.txid,
            answer: Some(wire::execute_response::Answer::Done(Default::default())),
        }))
    }

    async fn commit(
        &self,
        request: Request<wire::CommitRequest>,
    ) -> Answered<wire::CommitResponse> {
        *self.0.commits.lock() += 1;
        let outcome = self.0.next().await?;
        Ok(Response::new(wire::CommitResponse {
            txid: request.into_inner().txid,
            outcome: Some(outcome),
        }))
    }

    async fn rollback(
        &self,
        request: Request<wire::RollbackRequest>,
    ) -> Answered<wire::RollbackResponse> {
        self.0.rolled_back.notify_one();
        Ok(Response::new(wire::RollbackResponse {
            txid: request.into_inner().txid,
            refused: None,
        }))
    }

    async fn list_shards(
        &self,
        _: Request<wire::ListShardsRequest>,
    ) -> Answered<wire::ListShardsResponse> {
        let names = [("alpha", 1), ("beta", 2)];
        let names = names.map(|(name, tag)| (name.parse().expect("a name"), ShardTag(tag)));
        let shards = ShardMap::new(names).expect("a map");
        Ok(Response::new((&shards).into()))
    }

    async fn list_in_doubt(
        &self,
        _: Request<wire::ListInDoubtRequest>,
    ) -> Answered<wire::ListInDoubtResponse> {
        unexpected()
    }

    async fn resolve_in_doubt(
        &self,
        _: Request<wire::ResolveInDoubtRequest>,
    ) -> Answered<wire::ResolveInDoubtResponse> {
        unexpected()
    }

    async fn retry_shard(
        &self,
        _: Request<wire::RetryShardRequest>,
    ) -> Answered<wire::RetryShardResponse> {
        unexpected()
    }

    async fn set_draining(
        &self,
        _: Request<wire::SetDrainingRequest>,
    ) -> Answered<wire::SetDrainingResponse> {
        unexpected()
    }

    async fn get_standing(
        &self,
        _: Request<wire::StandingRequest>,
    ) -> Answered<wire::StandingResponse> {
        unexpected()
    }
}
