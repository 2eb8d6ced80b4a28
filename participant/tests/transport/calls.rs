//! What is said arrives.

use gavel_participant::api::{Participant, Unavailable};
use gavel_participant::remote::RemoteParticipant;
use gavel_protocol::message::*;
use gavel_protocol::{Incarnation, Limits, RefusalCode};
use gavel_wire::participant as wire;
use gavel_wire::participant::participant_service_client::ParticipantServiceClient;
use tonic::Code;

use crate::recorder::Recorder;
use crate::server::Server;
use crate::{SHARD, values};

#[tokio::test]
async fn batch_calls_make_the_round_trip() {
    let limits = Limits::default();
    let recorder = Recorder::open(SHARD);
    let server = Server::start(recorder.clone(), &limits).await;
    let remote = server.client(SHARD, &limits);

    let prepare = values::prepare(SHARD, 1);
    let answer = remote.prepare(prepare.clone()).await;
    assert_eq!(answer.vote, values::yes(1));
    assert_eq!(answer.results, values::results());
    let answer = remote.decide(values::decide()).await;
    assert_eq!(answer.decided, values::decided());
    assert_eq!(answer.results, values::results());
    let finished = remote.finish(values::finish(SHARD)).await;
    assert_eq!(finished, values::finished());
    let recorded = remote.record_aborts(values::record_aborts()).await;
    assert_eq!(recorded, values::recorded());

    let asked = [
        format!("{prepare:?}"),
        format!("{:?}", values::decide()),
        format!("{:?}", values::finish(SHARD)),
        format!("{:?}", values::record_aborts()),
    ];
    assert_eq!(recorder.seen().calls, asked);
}

#[tokio::test]
async fn questions_make_the_round_trip() {
    let limits = Limits::default();
    let recorder = Recorder::open(SHARD);
    let server = Server::start(recorder.clone(), &limits).await;
    let remote = server.client(SHARD, &limits);
    let batches: Vec<_> = (1..=4).map(values::batch).collect();

    assert_eq!(remote.identity().await, Ok(values::identity(SHARD)));
    let answer = remote.resolve(batches[0], Incarnation(3)).await;
    assert_eq!(answer, values::register()[0]);
    let answers = remote.look_up_decisions(batches.clone()).await;
    assert_eq!(answers, values::register());
    let rows = remote.look_up_branches(batches.clone()).await;
    assert_eq!(rows, Ok(values::branch_rows()));
    for asker in [Some(values::alice()), None] {
        assert_eq!(
            remote.status(values::txid(1), asker).await,
            values::status()
        );
    }
    assert_eq!(remote.in_doubt().await, Ok(values::in_doubt()));
    let finished = remote.resolve_now(values::gid(SHARD)).await;
    assert_eq!(finished, Ok(values::finished().remove(1)));
    let rows = remote.page_decisions(None, 10).await;
    assert_eq!(rows, Ok(values::decision_rows()));
    let rows = remote.page_branches(Some(batches[1]), 10).await;
    assert_eq!(rows, Ok(values::branch_rows()));

    let asked = [
        "identity".to_owned(),
        format!("{:?}", (batches[0], Incarnation(3))),
        format!("{batches:?}"),
        format!("{batches:?}"),
        format!("{:?}", (values::txid(1), Some(values::alice()))),
        format!("{:?}", (values::txid(1), None::<gavel_protocol::Principal>)),
        "in_doubt".to_owned(),
        format!("{:?}", values::gid(SHARD)),
        format!("{:?}", (None::<gavel_protocol::BatchId>, 10)),
        format!("{:?}", (Some(batches[1]), 10)),
    ];
    assert_eq!(recorder.seen().calls, asked);
}

#[tokio::test]
async fn session_calls_make_the_round_trip() {
    let limits = Limits::default();
    let recorder = Recorder::open(SHARD);
    let server = Server::start(recorder.clone(), &limits).await;
    let remote = server.client(SHARD, &limits);
    let batch = values::batch(1);

    let step = remote.session_open(values::session_open(SHARD)).await;
    assert_eq!(step, SessionStep::Done);
    let executed = remote.session_execute(values::session_execute()).await;
    let result = values::results().remove(0).remove(0);
    assert_eq!(executed, Executed::Done(result));
    assert_eq!(remote.session_prepare(batch).await, values::yes(1));
    let step = remote.session_enter_decision(values::decide()).await;
    assert_eq!(step, SessionStep::Failed(values::failure()));
    assert_eq!(remote.session_commit(batch).await, Decided::Committed);
    let step = remote.session_rollback(batch).await;
    assert_eq!(step, SessionStep::Lost(values::refusal()));

    let asked = [
        format!("{:?}", values::session_open(SHARD)),
        format!("{:?}", values::session_execute()),
        format!("{batch:?}"),
        format!("{:?}", values::decide()),
        format!("{batch:?}"),
        format!("{batch:?}"),
    ];
    assert_eq!(recorder.seen().calls, asked);
}

#[tokio::test]
async fn an_unavailable_shard_says_so() {
    let limits = Limits::default();
    let server = Server::start(Recorder::open(SHARD), &limits).await;
    let remote = server.client(SHARD, &limits);
    let Err(Unavailable { shard, detail }) = remote.retention().await else {
        panic!("the recorder has no shard");
    };
    assert_eq!(shard, SHARD);
    assert!(detail.contains("no shard behind this"), "{detail}");
}

#[tokio::test]
async fn a_malformed_request_is_refused_by_the_name_of_its_field() {
    let limits = Limits::default();
    let recorder = Recorder::open(SHARD);
    let server = Server::start(recorder.clone(), &limits).await;
    let address = format!("http://{}", server.address);
    let mut client = ParticipantServiceClient::connect(address).await.unwrap();

    let mut request = wire::PrepareRequest::from(values::prepare(SHARD, 1));
    request.shard = Some(u32::from(SHARD.0));
    request.driver = "short".into();
    let status = client.prepare(request.clone()).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    assert!(status.message().contains("PrepareRequest.driver"));

    // And without an address, it is for nobody.
    request.shard = None;
    let status = client.prepare(request).await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition);
    assert!(recorder.seen().calls.is_empty());
}

#[tokio::test]
async fn r13_a_participant_under_a_wrong_address_decides_nothing() {
    let limits = Limits::default();
    let recorder = Recorder::open(gavel_protocol::ShardTag(9));
    let server = Server::start(recorder.clone(), &limits).await;
    let remote = server.client(SHARD, &limits);

    let decided = remote.decide(values::decide()).await.decided;
    assert!(matches!(decided, Decided::Unknown { .. }), "{decided:?}");
    let answer = remote.resolve(values::batch(1), Incarnation(3)).await;
    assert!(matches!(answer, RegisterAnswer::Unreachable { .. }));
    assert!(remote.identity().await.is_err());
    assert!(remote.attend(values::driver()).await.is_err());
    let seen = recorder.seen();
    assert!(seen.calls.is_empty() && seen.attending.is_empty());
}

#[tokio::test]
async fn an_answer_that_miscounts_is_no_answer() {
    let limits = Limits::default();
    let recorder = Recorder::voting(SHARD, values::yes(2));
    let server = Server::start(recorder, &limits).await;
    let remote = server.client(SHARD, &limits);
    let vote = remote.prepare(values::prepare(SHARD, 1)).await.vote;
    assert!(matches!(vote, Vote::Unknown { .. }), "{vote:?}");
    // The recorder always gives three answers.
    let finished = remote.finish(values::finish(SHARD)[..2].to_vec()).await;
    assert_eq!(finished.len(), 2);
    assert!(
        finished
            .iter()
            .all(|each| matches!(each, Finished::Unknown { .. }))
    );
}

#[tokio::test]
async fn an_oversized_message_is_refused_and_the_service_goes_on() {
    let small = Limits {
        request_bytes_max: 2_000,
        ..Limits::default()
    };
    let recorder = Recorder::open(SHARD);
    let server = Server::start(recorder.clone(), &small).await;
    let too_large = values::prepare(SHARD, 200);

    // Where the sender knows the limit, the batch certainly never left.
    let vote = server
        .client(SHARD, &small)
        .prepare(too_large.clone())
        .await
        .vote;
    let Vote::No(NoVote::Refused(refusal)) = vote else {
        panic!("{vote:?}");
    };
    assert_eq!(refusal.code, RefusalCode::InvalidRequest);

    // Where it does not, the server says no, which proves nothing to the sender.
    let remote = server.client(SHARD, &Limits::default());
    let vote = remote.prepare(too_large).await.vote;
    assert!(matches!(vote, Vote::Unknown { .. }), "{vote:?}");
    assert!(recorder.seen().calls.is_empty());
    let vote = remote.prepare(values::prepare(SHARD, 1)).await.vote;
    assert_eq!(vote, values::yes(1));
}

#[tokio::test]
async fn only_addresses_are_addresses() {
    let limits = Limits::default();
    for bad in [
        "",
        "localhost",
        "localhost:1",
        "https://localhost:1",
        "http://localhost",
    ] {
        assert!(
            RemoteParticipant::connect_lazy(SHARD, bad, &limits, None).is_err(),
            "{bad}"
        );
    }
    assert!(RemoteParticipant::connect_lazy(SHARD, "http://[::1]:7000", &limits, None).is_ok());
}
