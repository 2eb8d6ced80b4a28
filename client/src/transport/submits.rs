//! One stream of submits to a coordinator, for all the transactions of a client: a call of its own
//! costs both sides more than most transactions do.
//!
//! The stream is opened by the first submit, and by the next one after it broke. Submits wait in
//! a queue until the connection asks for a message, and the message takes all of them: nobody
//! waits for company, and messages grow with the load.
//!
//! What is known when the stream breaks: whatever the connection has taken may have been carried
//! out, so its answer is lost, even if it never left this machine. What still waits in the queue
//! was certainly not sent. A stream that was refused before it began is told as a call would be.

use std::collections::{HashMap, VecDeque};
use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker};

use futures::stream;
use gavel_protocol::{Refusal, RefusalCode};
use gavel_wire::api::gavel_client::GavelClient;
use gavel_wire::api::submit_answer::Answer as Kind;
use gavel_wire::api::{self as wire};
use gavel_wire::sizes;
use parking_lot::Mutex;
use prost::Message as _;
use tokio::sync::oneshot;
use tonic::{Code, Status};

use super::Failure;
use super::channel::{MarkingChannel, Proof, proof};
use super::grpc::{answered_with, failure, missing};

/// Encoded bytes above which a submit is a call of its own: the call is not what it costs, and
/// others should not wait behind it.
const CALL_BYTES_MAX: usize = 64 << 10;

/// What the stream adds to a submit at most, in bytes: two field headers and a number.
const CALL_OVERHEAD_BYTES: usize = 32;

/// Submits that may wait for the connection to take them. A coordinator takes as many at a time by
/// default; whoever wants more than this process or the coordinator can do is better told at once
/// than kept, and what he keeps here has no end.
const QUEUE_MAX: usize = 20_000;

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum NoAnswer {
    /// The submit failed.
    Failed(Failure),
    /// Nothing was done, as the stream is not for this submit or not for this coordinator, which
    /// may be older: make a call of it.
    NotStreamed,
}

type Ended = Result<wire::SubmitResponse, NoAnswer>;

/// The way to one coordinator.
pub(super) struct Submits {
    client: GavelClient<MarkingChannel>,
    link: Mutex<Option<Arc<Link>>>,
    is_unsupported: AtomicBool,
}

impl Submits {
    pub(super) fn new(client: GavelClient<MarkingChannel>) -> Self {
        Self {
            client,
            link: Mutex::default(),
            is_unsupported: AtomicBool::new(false),
        }
    }

    /// Submits, and waits for the answer. May be dropped: nobody waits for it then, and if it was
    /// not sent yet, it is not.
    pub(super) async fn submit(&self, request: wire::SubmitRequest) -> Ended {
        let bytes = request.encoded_len();
        if bytes > CALL_BYTES_MAX || self.is_unsupported.load(Ordering::Relaxed) {
            return Err(NoAnswer::NotStreamed);
        }
        let (answered, answer) = oneshot::channel();
        let (link, call) = self.send(Queued {
            call: 0,
            bytes: bytes + CALL_OVERHEAD_BYTES,
            request: Some(request),
            answered,
        })?;
        let mut waiting = Waiting {
            link,
            call,
            answer,
            is_over: false,
        };
        let ended = (&mut waiting.answer).await;
        waiting.is_over = true;
        let gone = |_| Err(lost("the client's connection is gone"));
        let ended = ended.unwrap_or_else(gone);
        if ended == Err(NoAnswer::NotStreamed) {
            self.is_unsupported.store(true, Ordering::Relaxed);
        }
        ended
    }

    fn send(&self, queued: Queued) -> Result<(Arc<Link>, u64), NoAnswer> {
        let mut current = self.link.lock();
        let queued = match &*current {
            None => queued,
            Some(link) => match link.push(queued) {
                Pushed::Queued(call) => return Ok((Arc::clone(link), call)),
                Pushed::Full => return Err(overloaded()),
                Pushed::Closed(queued) => queued,
            },
        };
        let link = Arc::new(Link::default());
        let pushed = link.push(queued);
        tokio::spawn(run(Arc::clone(&link), self.client.clone()));
        *current = Some(Arc::clone(&link));
        match pushed {
            Pushed::Queued(call) => Ok((link, call)),
            Pushed::Full | Pushed::Closed(_) => unreachable!("a new link takes submits"),
        }
    }
}

/// Nobody can submit any more: the stream ends when what is under way is answered.
impl Drop for Submits {
    fn drop(&mut self) {
        if let Some(link) = self.link.get_mut() {
            link.close();
        }
    }
}

/// A submit that the connection has not taken yet.
struct Queued {
    call: u64,
    bytes: usize,
    /// `None` once nobody waits for it any more.
    request: Option<wire::SubmitRequest>,
    answered: oneshot::Sender<Ended>,
}

/// Somebody who waits for an answer.
struct Waiting {
    link: Arc<Link>,
    call: u64,
    answer: oneshot::Receiver<Ended>,
    is_over: bool,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if !self.is_over {
            // In this order: once closed, it does not leave the queue for the connection.
            self.answer.close();
            self.link.state.lock().forget(self.call);
        }
    }
}

/// One stream, from its opening to its end.
#[derive(Default)]
struct Link {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// It takes no more submits; what is queued is still sent.
    is_closed: bool,
    last_call: u64,
    /// In the order of their calls.
    queue: VecDeque<Queued>,
    /// How many of them somebody waits for.
    waiting: usize,
    /// Taken by the connection, and not answered.
    sent: HashMap<u64, oneshot::Sender<Ended>>,
    /// Of the connection, when it has found the queue empty.
    waker: Option<Waker>,
}

/// What became of a submit that is to be queued.
enum Pushed {
    /// It is, as this call.
    Queued(u64),
    /// The stream takes no more.
    Closed(Queued),
    /// Too many wait.
    Full,
}

impl Link {
    fn push(&self, mut queued: Queued) -> Pushed {
        let mut state = self.state.lock();
        if state.is_closed {
            return Pushed::Closed(queued);
        }
        if state.waiting >= QUEUE_MAX {
            return Pushed::Full;
        }
        state.last_call += 1;
        let call = state.last_call;
        queued.call = call;
        state.queue.push_back(queued);
        state.waiting += 1;
        let waker = state.waker.take();
        drop(state);
        wake(waker);
        Pushed::Queued(call)
    }

    /// Takes no more submits. Sends what is queued, and then closes this side.
    fn close(&self) {
        let mut state = self.state.lock();
        state.is_closed = true;
        let waker = state.waker.take();
        drop(state);
        wake(waker);
    }

    fn on_answers(&self, message: wire::SubmitAnswers) {
        if message.closing {
            self.close();
        }
        let mut state = self.state.lock();
        // An answer for which nobody waits any more is dropped.
        let heard: Vec<_> = message
            .answers
            .into_iter()
            .filter_map(|answer| Some((state.sent.remove(&answer.call)?, answer.answer)))
            .collect();
        drop(state);
        for (answered, answer) in heard {
            let _ = answered.send(ended(answer));
        }
    }

    /// The stream is over. `why` is what happened to the submits that were sent.
    fn end(&self, why: &NoAnswer) {
        let mut state = self.state.lock();
        state.is_closed = true;
        let sent = std::mem::take(&mut state.sent);
        let queue = std::mem::take(&mut state.queue);
        state.waiting = 0;
        let waker = state.waker.take();
        drop(state);
        wake(waker);
        let of_queued = match why {
            NoAnswer::Failed(Failure::Lost(detail)) => {
                NoAnswer::Failed(Failure::NotSent(detail.clone()))
            }
            other => other.clone(),
        };
        for answered in sent.into_values() {
            let _ = answered.send(Err(why.clone()));
        }
        for queued in queue {
            let _ = queued.answered.send(Err(of_queued.clone()));
        }
    }
}

impl State {
    /// Waits until something is queued, and tells whether other submits are under way. `None` if
    /// nothing will be.
    fn poll_queued(&mut self, context: &mut Context<'_>) -> Poll<Option<bool>> {
        if !self.queue.is_empty() {
            return Poll::Ready(Some(!self.sent.is_empty()));
        }
        if self.is_closed {
            return Poll::Ready(None);
        }
        self.waker = Some(context.waker().clone());
        Poll::Pending
    }

    /// Nobody waits for this call any more: what it wanted need not be kept.
    fn forget(&mut self, call: u64) {
        if self.sent.remove(&call).is_some() {
            return;
        }
        let found = self.queue.binary_search_by_key(&call, |queued| queued.call);
        if let Ok(at) = found
            && self.queue[at].request.take().is_some()
        {
            self.queue[at].bytes = 0;
            self.waiting -= 1;
        }
        while self
            .queue
            .front()
            .is_some_and(|first| first.request.is_none())
        {
            self.queue.pop_front();
        }
    }

    /// Whatever is queued, as much as a message may have.
    fn next_message(&mut self) -> Option<wire::SubmitBatch> {
        let mut calls = Vec::with_capacity(self.queue.len());
        let mut bytes = 0;
        while let Some(next) = self.queue.front() {
            bytes += next.bytes;
            if bytes > sizes::SUBMIT_BATCH_BYTES_MAX {
                break;
            }
            let Some(queued) = self.queue.pop_front() else {
                break;
            };
            let Some(request) = queued.request else {
                continue;
            };
            self.waiting -= 1;
            if queued.answered.is_closed() {
                continue;
            }
            calls.push(wire::SubmitCall {
                call: queued.call,
                request: Some(request),
            });
            self.sent.insert(queued.call, queued.answered);
        }
        (!calls.is_empty()).then_some(wire::SubmitBatch { calls })
    }
}

fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}

/// The next message of a link, when the connection asks for one. `None` when there will be none.
async fn next_message(link: &Link) -> Option<wire::SubmitBatch> {
    loop {
        let has_company = poll_fn(|context| link.state.lock().poll_queued(context)).await?;
        if has_company {
            // Answers wake many callers at once: those who submit again ride along.
            tokio::task::yield_now().await;
        }
        let message = link.state.lock().next_message();
        if message.is_some() {
            return message;
        }
    }
}

/// Opens the stream and hands its answers out, until it is over.
async fn run(link: Arc<Link>, mut client: GavelClient<MarkingChannel>) {
    let next = |link: Arc<Link>| async move { Some((next_message(&link).await?, link)) };
    let messages = stream::unfold(Arc::clone(&link), next);
    let opened = client.submit_stream(messages).await;
    let why = match opened {
        Err(status) => refused(&status),
        Ok(response) => {
            let mut answers = response.into_inner();
            loop {
                match answers.message().await {
                    Ok(Some(message)) => link.on_answers(message),
                    Ok(None) => break lost("the coordinator ended the stream"),
                    // Whatever it says, it says it after the stream had begun.
                    Err(status) => {
                        break lost(format!("{:?}: {}", status.code(), status.message()));
                    }
                }
            }
        }
    };
    link.end(&why);
}

/// What it means that the stream did not begin.
fn refused(status: &Status) -> NoAnswer {
    match (proof(status), status.code()) {
        (Proof::Answered, Code::Unimplemented) => NoAnswer::NotStreamed,
        _ => NoAnswer::Failed(failure(status)),
    }
}

fn overloaded() -> NoAnswer {
    let message = format!("{QUEUE_MAX} submits wait in this client for the connection");
    let refusal = Refusal::new(RefusalCode::Overloaded, message);
    NoAnswer::Failed(Failure::Refused(refusal))
}

fn lost(detail: impl Into<String>) -> NoAnswer {
    NoAnswer::Failed(Failure::Lost(detail.into()))
}

fn ended(answer: Option<Kind>) -> Ended {
    match answer {
        Some(Kind::Response(response)) => Ok(response),
        Some(Kind::Error(error)) => {
            let code = i32::try_from(error.grpc_status).map_or(Code::Unknown, Code::from_i32);
            Err(NoAnswer::Failed(answered_with(code, &error.message)))
        }
        None => Err(NoAnswer::Failed(missing("answer"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queued() -> (Queued, oneshot::Receiver<Ended>) {
        sized(100)
    }

    fn sized(bytes: usize) -> (Queued, oneshot::Receiver<Ended>) {
        let (answered, answer) = oneshot::channel();
        let queued = Queued {
            call: 0,
            bytes,
            request: Some(wire::SubmitRequest::default()),
            answered,
        };
        (queued, answer)
    }

    fn push(link: &Link, (queued, answer): (Queued, oneshot::Receiver<Ended>)) -> Heard {
        assert!(matches!(link.push(queued), Pushed::Queued(_)));
        answer
    }

    type Heard = oneshot::Receiver<Ended>;

    fn sends(link: &Link) -> Vec<u64> {
        let message = link.state.lock().next_message();
        let calls = message.map(|message| message.calls).unwrap_or_default();
        calls.iter().map(|call| call.call).collect()
    }

    #[test]
    fn only_what_was_never_taken_was_certainly_not_sent() {
        let link = Link::default();
        let mut sent = push(&link, queued());
        assert_eq!(sends(&link), [1]);
        let mut waiting = push(&link, queued());
        link.end(&lost("cut"));
        assert_eq!(sent.try_recv().unwrap(), Err(lost("cut")));
        let not_sent = NoAnswer::Failed(Failure::NotSent("cut".to_owned()));
        assert_eq!(waiting.try_recv().unwrap(), Err(not_sent));
        assert!(matches!(link.push(queued().0), Pushed::Closed(_)));
    }

    #[test]
    fn a_stream_that_was_refused_has_done_nothing_for_anybody() {
        let link = Link::default();
        let mut sent = push(&link, queued());
        assert_eq!(sends(&link), [1]);
        let mut waiting = push(&link, queued());
        link.end(&NoAnswer::NotStreamed);
        for answer in [&mut sent, &mut waiting] {
            assert_eq!(answer.try_recv().unwrap(), Err(NoAnswer::NotStreamed));
        }
    }

    #[test]
    fn what_nobody_waits_for_is_not_sent() {
        let link = Link::default();
        drop(push(&link, queued()));
        let _waits = push(&link, queued());
        assert_eq!(sends(&link), [2]);
        assert!(sends(&link).is_empty());
    }

    #[test]
    fn a_message_takes_what_fits() {
        let link = Link::default();
        let half = sizes::SUBMIT_BATCH_BYTES_MAX / 2;
        let _wait = [half, half, 1, half].map(|bytes| push(&link, sized(bytes)));
        assert_eq!(sends(&link), [1, 2]);
        assert_eq!(sends(&link), [3, 4]);
    }

    #[test]
    fn a_closed_link_sends_what_it_has_and_takes_no_more() {
        let link = Link::default();
        let _waits = push(&link, queued());
        link.on_answers(wire::SubmitAnswers {
            closing: true,
            ..Default::default()
        });
        assert!(matches!(link.push(queued().0), Pushed::Closed(_)));
        assert_eq!(sends(&link), [1]);
    }

    #[test]
    fn a_queue_has_an_end_and_those_who_give_up_leave_it() {
        let link = Arc::new(Link::default());
        let mut waiting: VecDeque<Waiting> = VecDeque::new();
        for _ in 0..QUEUE_MAX {
            let (queued, answer) = queued();
            let Pushed::Queued(call) = link.push(queued) else {
                panic!("there is room")
            };
            let link = Arc::clone(&link);
            waiting.push_back(Waiting {
                link,
                call,
                answer,
                is_over: false,
            });
        }
        assert!(matches!(link.push(queued().0), Pushed::Full));
        // From the middle, and from the front.
        drop(waiting.remove(QUEUE_MAX / 2));
        drop(waiting.pop_front());
        assert_eq!(
            link.state.lock().queue.len(),
            QUEUE_MAX - 1,
            "the front is gone"
        );
        let _waits = [push(&link, queued()), push(&link, queued())];
        assert!(matches!(link.push(queued().0), Pushed::Full));
        waiting.clear();
        assert_eq!(link.state.lock().waiting, 2);
        assert_eq!(sends(&link).len(), 2);
        assert_eq!(link.state.lock().waiting, 0);
    }
}
