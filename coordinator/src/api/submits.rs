//! A stream of submits: many transactions in a message, and their answers as they are ready.
//!
//! A call of its own costs more than most transactions do; here only messages cost that. Nobody
//! waits for company: whatever is ready when the connection can take a message goes into it, so
//! messages grow with the load and an idle stream answers at once.
//!
//! Invariants: every call that was read is answered once, on this stream, unless the stream
//! breaks; it runs in a task of its own, to its end, whatever becomes of the stream. What is
//! wrong with one call never touches another.
//!
//! Memory: one message is decoded at a time, and none while [`UNDER_WAY_MAX`] calls are under
//! way or while the caller does not read: the connection polls this stream only when it can send,
//! and the stream reads only when it is polled.
//!
//! The end: the caller closes his side, or sends what is no message, or is told that the
//! coordinator leaves. The stream then ends when all that was read has been answered.

use std::collections::{HashSet, VecDeque};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use futures::stream::{self, BoxStream, StreamExt as _};
use gavel_wire::api::submit_answer::Answer as Kind;
use gavel_wire::api::{self as wire};
use gavel_wire::sizes;
use prost::Message as _;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tonic::{Status, Streaming};

use super::auth::Caller;
use super::error::ApiError;
use super::face::{Face, nothing_known};
use super::grpc;
use super::serve::Closing;

/// Calls that one stream may have under way. Not less than the engine takes by default, so that
/// overload is refused there, call by call, and a stream does not fall silent.
const UNDER_WAY_MAX: usize = 20_000;

/// Answers taken from the queue at once.
const ANSWERS_MAX: usize = 1024;

/// How long a caller who has no calls under way may take to close his side of a stream that is
/// closing.
const CLOSE_PATIENCE: Duration = Duration::from_secs(1);

/// What a caller hears on his stream.
pub(super) type Answers = BoxStream<'static, Result<wire::SubmitAnswers, Status>>;

/// One stream.
struct Submits {
    face: Arc<Face>,
    caller: Caller,
    closing: Closing,
    /// When to stop reading although the caller has not closed his side; set once he was told.
    close_by: Option<Instant>,
    /// `None` when there is nothing more to read.
    incoming: Option<Streaming<wire::SubmitBatch>>,
    /// What ended the reading, if it was an error: told when everything is answered.
    failed: Option<Status>,
    under_way: HashSet<u64>,
    /// Kept, so that the queue stays open; it is bounded by what may be under way.
    answered: mpsc::UnboundedSender<wire::SubmitAnswer>,
    answers: mpsc::UnboundedReceiver<wire::SubmitAnswer>,
    ready: VecDeque<wire::SubmitAnswer>,
}

/// Answers what comes in, until that ends.
pub(super) fn answers(
    face: Arc<Face>,
    caller: Caller,
    incoming: Streaming<wire::SubmitBatch>,
    closing: Closing,
) -> Answers {
    let (answered, answers) = mpsc::unbounded_channel();
    let submits = Submits {
        face,
        caller,
        closing,
        close_by: None,
        incoming: Some(incoming),
        failed: None,
        under_way: HashSet::new(),
        answered,
        answers,
        ready: VecDeque::new(),
    };
    let next = |mut submits: Submits| async move { Some((submits.next().await?, submits)) };
    stream::unfold(submits, next).boxed()
}

impl Submits {
    async fn next(&mut self) -> Option<Result<wire::SubmitAnswers, Status>> {
        let mut taken = Vec::new();
        loop {
            if !self.ready.is_empty() {
                return Some(Ok(self.message()));
            }
            let is_idle = self.under_way.is_empty();
            if is_idle && self.incoming.is_none() {
                return self.failed.take().map(Err);
            }
            let may_read = self.under_way.len() < UNDER_WAY_MAX;
            tokio::select! {
                biased;
                _ = self.answers.recv_many(&mut taken, ANSWERS_MAX), if !is_idle => {
                    if taken.len() < self.under_way.len() {
                        // A batch is answered at once: what is on its way to the queue rides along.
                        tokio::task::yield_now().await;
                        self.take_answers(&mut taken);
                    }
                    for answer in taken.drain(..) {
                        self.under_way.remove(&answer.call);
                        self.ready.push_back(answer);
                    }
                }
                message = read(&mut self.incoming), if may_read => self.take(message),
                () = self.closing.begun(), if self.close_by.is_none() => {
                    self.close_by = Some(Instant::now() + CLOSE_PATIENCE);
                    let closing = true;
                    return Some(Ok(wire::SubmitAnswers { closing, ..Default::default() }));
                }
                () = passed(self.close_by), if is_idle => self.incoming = None,
            }
        }
    }

    /// As many ready answers as fit into a message.
    fn message(&mut self) -> wire::SubmitAnswers {
        let mut message = wire::SubmitAnswers::default();
        let mut bytes = 0;
        while let Some(answer) = self.ready.front() {
            bytes += answer.encoded_len();
            if bytes > sizes::SUBMIT_BATCH_BYTES_MAX && !message.answers.is_empty() {
                break;
            }
            message.answers.extend(self.ready.pop_front());
        }
        message
    }

    fn take_answers(&mut self, taken: &mut Vec<wire::SubmitAnswer>) {
        while taken.len() < ANSWERS_MAX
            && let Ok(answer) = self.answers.try_recv()
        {
            taken.push(answer);
        }
    }

    fn take(&mut self, message: Result<Option<wire::SubmitBatch>, Status>) {
        match message {
            Ok(Some(batch)) => batch.calls.into_iter().for_each(|call| self.start(call)),
            Ok(None) => self.incoming = None,
            Err(status) => {
                self.incoming = None;
                self.failed = Some(status);
            }
        }
    }

    fn start(&mut self, call: wire::SubmitCall) {
        let wire::SubmitCall { call, request } = call;
        if call == 0 || !self.under_way.insert(call) {
            let message = format!("call {call}: send a number but 0 that is not under way");
            self.ready.push_back(answer(
                call,
                Err(ApiError::bad("malformed_message", message)),
            ));
            return;
        }
        let (face, caller) = (Arc::clone(&self.face), self.caller.clone());
        let answered = self.answered.clone();
        tokio::spawn(async move {
            let ended = submit(&face, caller, request).await;
            // A caller who has gone needs no answer.
            let _ = answered.send(answer(call, ended));
        });
    }
}

async fn read(
    incoming: &mut Option<Streaming<wire::SubmitBatch>>,
) -> Result<Option<wire::SubmitBatch>, Status> {
    match incoming {
        Some(incoming) => incoming.message().await,
        None => std::future::pending().await,
    }
}

async fn passed(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

/// What `Submit` would have said.
async fn submit(
    face: &Face,
    caller: Caller,
    request: Option<wire::SubmitRequest>,
) -> Result<wire::SubmitResponse, ApiError> {
    let missing = || ApiError::bad("malformed_message", "request is missing");
    let request = request.ok_or_else(missing)?;
    let max = face.limits().request_bytes_max;
    if request.encoded_len() > max {
        return Err(ApiError::too_large(max));
    }
    let txid = request.txid.clone();
    let span = gavel_spans::incoming(request.traceparent.as_deref());
    let running = gavel_spans::within(span, async {
        let submission = grpc::submission(face, caller, request)?;
        Ok(face.run(submission).await)
    });
    match AssertUnwindSafe(running).catch_unwind().await {
        Ok(ended) => grpc::submitted(face, txid, ended),
        Err(_) => Ok(grpc::response(face, txid, nothing_known(), Vec::new())),
    }
}

fn answer(call: u64, ended: Result<wire::SubmitResponse, ApiError>) -> wire::SubmitAnswer {
    let answer = match ended {
        Ok(response) => Kind::Response(response),
        Err(error) => Kind::Error(wire::CallError {
            grpc_status: grpc::code(&error) as u32,
            code: error.code.to_owned(),
            message: error.message,
        }),
    };
    wire::SubmitAnswer {
        call,
        answer: Some(answer),
    }
}
