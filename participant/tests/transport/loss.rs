//! What does not arrive is unknown, and is not sent again.

use std::net::SocketAddr;

use gavel_participant::api::Participant;
use gavel_protocol::message::*;
use gavel_protocol::{Incarnation, Limits, RefusalCode};
use tokio::net::TcpListener;

use crate::recorder::Recorder;
use crate::server::{Server, client_of};
use crate::{SHARD, values};

#[tokio::test]
async fn a_server_killed_in_the_middle_leaves_unknown_and_no_second_prepare() {
    let limits = Limits::default();
    let recorder = Recorder::gated(SHARD);
    let server = Server::start(recorder.clone(), &limits).await;
    let address = server.address;
    let remote = server.client(SHARD, &limits);

    let killing = async {
        recorder
            .wait("the prepare arrives", |seen| !seen.calls.is_empty())
            .await;
        server.kill();
    };
    let (answer, ()) = tokio::join!(remote.prepare(values::prepare(SHARD, 1)), killing);
    assert!(
        matches!(answer.vote, Vote::Unknown { .. }),
        "{:?}",
        answer.vote
    );

    // The next server at the address is reached by the next call, and by nothing before it.
    let successor = Recorder::open(SHARD);
    let _server = Server::start_at(address, successor.clone(), &limits).await;
    assert_eq!(remote.identity().await, Ok(values::identity(SHARD)));
    assert_eq!(successor.seen().calls, ["identity"]);
}

#[tokio::test]
async fn where_nobody_listens_nothing_was_sent() {
    let limits = Limits::default();
    let remote = client_of(closed_port().await, SHARD, &limits);

    let vote = remote.prepare(values::prepare(SHARD, 1)).await.vote;
    let Vote::No(NoVote::Refused(refusal)) = vote else {
        panic!("{vote:?}");
    };
    assert_eq!(refusal.code, RefusalCode::ShardUnavailable);
    let RecordAnswer::Refused(refusal) = remote.record_aborts(values::record_aborts()).await else {
        panic!("nothing can be recorded");
    };
    assert_eq!(refusal.code, RefusalCode::ShardUnavailable);

    // Where no value says "never sent", it is unknown.
    let decided = remote.decide(values::decide()).await.decided;
    assert!(matches!(decided, Decided::Unknown { .. }));
    let finished = remote.finish(values::finish(SHARD)).await;
    assert_eq!(finished.len(), 3);
    assert!(matches!(finished[0], Finished::Unknown { .. }));
    let answer = remote.resolve(values::batch(1), Incarnation(3)).await;
    assert!(matches!(answer, RegisterAnswer::Unreachable { .. }));
    let status = remote.status(values::txid(1), None).await;
    assert!(matches!(status, StatusAnswer::Unreachable { .. }));
    let decided = remote.session_commit(values::batch(1)).await;
    assert!(matches!(decided, Decided::Unknown { .. }));
    assert!(remote.attend(values::driver()).await.is_err());
}

#[tokio::test]
async fn a_deadline_is_unknown_and_the_call_goes_on() {
    let limits = Limits {
        prepare_timeout_ms: 100,
        ..Limits::default()
    };
    let recorder = Recorder::gated(SHARD);
    let server = Server::start(recorder.clone(), &limits).await;
    let remote = server.client(SHARD, &limits);

    // The first call also connects; only the second one measures the deadline alone.
    assert!(remote.identity().await.is_ok());
    let vote = remote.prepare(values::prepare(SHARD, 1)).await.vote;
    assert!(matches!(vote, Vote::Unknown { .. }), "{vote:?}");
    assert_eq!(recorder.seen().prepared, 0);
    recorder.let_go();
    recorder
        .wait("the prepare ends", |seen| seen.prepared == 1)
        .await;
}

#[tokio::test]
async fn a_cancelled_prepare_still_ends_on_the_server() {
    let limits = Limits::default();
    let recorder = Recorder::gated(SHARD);
    let server = Server::start(recorder.clone(), &limits).await;
    let remote = server.client(SHARD, &limits);

    tokio::select! {
        answer = remote.prepare(values::prepare(SHARD, 1)) => panic!("too early: {answer:?}"),
        () = recorder.wait("the prepare arrives", |seen| !seen.calls.is_empty()) => {}
    }
    // The reset of the stream is on its way. Calls behind it on the same connection are
    // answered only after the server has seen it.
    for _ in 0..3 {
        assert!(remote.identity().await.is_ok());
    }
    recorder.let_go();
    recorder
        .wait("the prepare ends", |seen| seen.prepared == 1)
        .await;
}

#[tokio::test]
async fn a_peer_that_is_no_participant_is_unknown() {
    let limits = Limits {
        prepare_timeout_ms: 500,
        ..Limits::default()
    };
    // Accepts connections, and never says a word.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let remote = client_of(listener.local_addr().unwrap(), SHARD, &limits);
    let vote = remote.prepare(values::prepare(SHARD, 1)).await.vote;
    assert!(matches!(vote, Vote::Unknown { .. }), "{vote:?}");
}

async fn closed_port() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    listener.local_addr().unwrap()
}
