//! The stream of submits: each call is answered as a call of its own would be, whatever is wrong
//! with its neighbours, and no stream outlives its coordinator.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use gavel_coordinator::api::{Authenticator, Role};
use gavel_protocol::{Limits, Outcome, RefusalCode};
use gavel_wire::api as wire;
use gavel_wire::api::submit_answer::Answer as Kind;
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::{Code, Status, Streaming};

use crate::grpc::{client, submit};
use crate::scripted::{A, Script, Server, txid_at};

/// An open stream.
struct Stream {
    messages: mpsc::UnboundedSender<wire::SubmitBatch>,
    answers: Streaming<wire::SubmitAnswers>,
}

impl Stream {
    async fn open(server: &Server) -> Self {
        let (messages, outgoing) = mpsc::unbounded_channel();
        let outgoing = UnboundedReceiverStream::new(outgoing);
        let opened = client(server).await.submit_stream(outgoing).await;
        Self {
            messages,
            answers: opened.expect("a stream").into_inner(),
        }
    }

    /// Sends one message.
    fn send(&self, calls: impl IntoIterator<Item = (u64, wire::SubmitRequest)>) {
        let calls = calls.into_iter().map(|(call, request)| wire::SubmitCall {
            call,
            request: Some(request),
        });
        let calls = calls.collect();
        let sent = self.messages.send(wire::SubmitBatch { calls });
        sent.expect("an open stream");
    }

    /// The next message. It says nothing about closing.
    async fn next(&mut self) -> Vec<wire::SubmitAnswer> {
        let message = self.answers.message().await.expect("a message");
        let message = message.expect("an open stream");
        assert!(!message.closing);
        message.answers
    }

    /// Answers by number, once there are this many.
    async fn heard(&mut self, count: usize) -> BTreeMap<u64, Kind> {
        let mut heard = BTreeMap::new();
        while heard.len() < count {
            for answer in self.next().await {
                let before = heard.insert(answer.call, answer.answer.expect("an answer"));
                assert_eq!(before, None, "call {} was answered twice", answer.call);
            }
        }
        heard
    }

    /// How it ends, without another answer.
    async fn end(mut self) -> Result<(), Status> {
        let last = self.answers.message().await?;
        assert_eq!(last, None);
        Ok(())
    }
}

fn committing() -> Script {
    Script {
        outcome: Some(Outcome::Committed { applied: true }),
        ..Script::default()
    }
}

fn holding() -> Script {
    Script {
        holds: true,
        ..committing()
    }
}

fn good() -> wire::SubmitRequest {
    submit(txid_at(A), "alpha", "select 1")
}

fn outcome(answer: &Kind) -> Outcome {
    match answer {
        Kind::Response(response) => {
            let outcome = response.outcome.clone().expect("an outcome");
            Outcome::try_from(outcome).expect("a whole outcome")
        }
        Kind::Error(error) => panic!("{error:?}"),
    }
}

fn error(answer: &Kind) -> (Code, &str) {
    match answer {
        Kind::Error(error) => {
            let status = i32::try_from(error.grpc_status).expect("a status code");
            (Code::from_i32(status), &error.code)
        }
        Kind::Response(response) => panic!("{response:?}"),
    }
}

#[tokio::test]
async fn every_call_of_a_message_is_answered_by_its_number() {
    let server = Server::start(committing()).await;
    let mut stream = Stream::open(&server).await;
    stream.send((1..=500).map(|call| (call, good())));
    let heard = stream.heard(500).await;
    assert_eq!(
        heard.keys().copied().collect::<Vec<_>>(),
        Vec::from_iter(1..=500)
    );
    for answer in heard.values() {
        assert_eq!(outcome(answer), Outcome::Committed { applied: true });
    }
    // A number that was answered is free again.
    stream.send([(1, good())]);
    assert_eq!(stream.heard(1).await.len(), 1);
    drop(stream.messages);
    assert_eq!(stream.answers.message().await.unwrap(), None);
}

#[tokio::test]
async fn what_is_wrong_with_a_call_is_told_to_that_call() {
    let limits = Limits {
        request_bytes_max: 2000,
        ..Limits::default()
    };
    let server = Server::start_with(committing(), Authenticator::open(), limits).await;
    let mut stream = Stream::open(&server).await;
    let at = |shard: &str, sql: &str| submit(txid_at(A), shard, sql);
    let many = (100..200).map(|call| (call, good()));
    stream.send(many.chain([
        (1, at("alpha", "commit")),
        (2, at("gamma", "select 1")),
        (3, at("alpha", &"x".repeat(3000))),
        (0, good()),
    ]));
    let missing = wire::SubmitCall {
        call: 4,
        request: None,
    };
    let calls = vec![missing];
    stream.messages.send(wire::SubmitBatch { calls }).unwrap();
    let heard = stream.heard(105).await;
    for call in 100..200 {
        assert_eq!(outcome(&heard[&call]), Outcome::Committed { applied: true });
    }
    let invalid = Code::InvalidArgument;
    assert_eq!(error(&heard[&1]), (invalid, "transaction_control"));
    match outcome(&heard[&2]) {
        Outcome::Refused(why) => assert_eq!(why.code, RefusalCode::UnknownShard),
        other => panic!("{other:?}"),
    }
    assert_eq!(error(&heard[&3]), (Code::OutOfRange, "body_too_large"));
    assert_eq!(error(&heard[&0]), (invalid, "malformed_message"));
    assert_eq!(error(&heard[&4]), (invalid, "malformed_message"));
}

#[tokio::test]
async fn a_number_that_is_under_way_is_not_taken_twice() {
    let server = Server::start(holding()).await;
    let mut stream = Stream::open(&server).await;
    stream.send([(7, good())]);
    server.wait_for_asked(1).await;
    stream.send([(7, good())]);
    let heard = stream.heard(1).await;
    let refused = (Code::InvalidArgument, "malformed_message");
    assert_eq!(error(&heard[&7]), refused);
    // Still under way: the refusal was not its answer.
    stream.send([(7, good())]);
    assert_eq!(error(&stream.heard(1).await[&7]), refused);
    server.engine.go_on.notify_one();
    let heard = stream.heard(1).await;
    assert_eq!(outcome(&heard[&7]), Outcome::Committed { applied: true });
    assert_eq!(server.asked().len(), 1);
}

#[tokio::test]
async fn a_message_that_is_too_large_ends_the_stream_after_what_came_before() {
    let limits = Limits {
        request_bytes_max: 2000,
        ..Limits::default()
    };
    let server = Server::start_with(holding(), Authenticator::open(), limits).await;
    let mut stream = Stream::open(&server).await;
    stream.send([(1, good())]);
    server.wait_for_asked(1).await;
    let large = submit(txid_at(A), "alpha", &"x".repeat(2 << 20));
    stream.send([(2, large)]);
    server.engine.go_on.notify_one();
    assert_eq!(stream.heard(1).await.len(), 1);
    assert_eq!(stream.end().await.unwrap_err().code(), Code::OutOfRange);
}

#[tokio::test]
async fn an_engine_that_breaks_leaves_calls_in_doubt() {
    let server = Server::start(Script {
        panics: true,
        ..Script::default()
    })
    .await;
    let mut stream = Stream::open(&server).await;
    stream.send([(1, good()), (2, good())]);
    for answer in stream.heard(2).await.values() {
        assert!(matches!(outcome(answer), Outcome::InDoubt { .. }));
    }
}

#[tokio::test]
async fn strangers_get_no_stream() {
    let mut auth = Authenticator::open();
    let token = "client-token-0123456789abc";
    auth.add("alice".parse().unwrap(), Role::Client, token)
        .unwrap();
    let server = Server::start_with(committing(), auth, Limits::default()).await;
    let opened = client(&server).await;
    let opened = { opened }.submit_stream(tokio_stream::empty()).await;
    assert_eq!(opened.unwrap_err().code(), Code::Unauthenticated);
    assert_eq!(server.asked(), []);
}

#[tokio::test]
async fn a_call_goes_on_when_its_caller_has_gone() {
    let server = Server::start(holding()).await;
    let stream = Stream::open(&server).await;
    stream.send([(1, good())]);
    server.wait_for_asked(1).await;
    drop(stream);
    server.engine.go_on.notify_one();
    server.engine.ended.notified().await;
}

#[tokio::test]
async fn a_server_that_stops_answers_what_is_under_way_and_what_still_comes() {
    let server = Server::start(holding()).await;
    let engine = server.engine.clone();
    let mut stream = Stream::open(&server).await;
    stream.send([(1, good())]);
    server.wait_for_asked(1).await;
    let stopped = server.stop();
    let told = stream.answers.message().await.unwrap().unwrap();
    assert!(told.closing && told.answers.is_empty());
    // This was under way to the server when it said so.
    stream.send([(2, good())]);
    engine.go_on.notify_one();
    engine.ended.notified().await;
    engine.go_on.notify_one();
    let Stream {
        messages,
        mut answers,
    } = stream;
    drop(messages);
    let mut heard = Vec::new();
    while let Some(message) = answers.message().await.unwrap() {
        heard.extend(message.answers.into_iter().map(|answer| answer.call));
    }
    heard.sort_unstable();
    assert_eq!(heard, [1, 2]);
    stopped.await.unwrap().unwrap();
}

#[tokio::test]
async fn an_idle_stream_does_not_keep_a_server_that_stops() {
    let server = Server::start(committing()).await;
    // This client does not close its side.
    let mut stream = Stream::open(&server).await;
    stream.send([(1, good())]);
    stream.heard(1).await;
    let began = Instant::now();
    let stopped = server.stop();
    let told = stream.answers.message().await.unwrap().unwrap();
    assert!(told.closing);
    stream.end().await.unwrap();
    stopped.await.unwrap().unwrap();
    assert!(
        began.elapsed() < Duration::from_secs(8),
        "{:?}",
        began.elapsed()
    );
}
