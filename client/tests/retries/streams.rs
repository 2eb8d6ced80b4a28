//! The stream that submits share: whose answer is whose, and what is known when it ends.

use std::time::Duration;

use gavel_client::{Gavel, Outcome, RefusalCode, params};
use tonic::Code;

use crate::scripted::{Coordinator, Step, aborted, committed};
use crate::{client, same_txid, submit};

/// Submits in a task of its own.
fn start(gavel: &Gavel) -> tokio::task::JoinHandle<Outcome> {
    let gavel = gavel.clone();
    tokio::spawn(async move { submit(&gavel).await })
}

#[tokio::test]
async fn many_submits_share_one_stream() {
    let coordinator = Coordinator::start(vec![Step::Answer(committed()); 200]).await;
    let gavel = client(&[&coordinator]).await;
    let all: Vec<_> = (0..200).map(|_| start(&gavel)).collect();
    for each in all {
        assert!(each.await.unwrap().is_committed());
    }
    assert_eq!(coordinator.submits().len(), 200);
    assert_eq!((coordinator.streams(), coordinator.calls()), (1, 0));
}

#[tokio::test]
async fn answers_come_in_any_order() {
    let script = [Step::Held(aborted()), Step::Answer(committed())];
    let coordinator = Coordinator::start(script).await;
    let gavel = client(&[&coordinator]).await;
    let held = start(&gavel);
    coordinator.wait_for_submits(1).await;
    assert!(submit(&gavel).await.is_committed());
    coordinator.go_on();
    let held = held.await.unwrap();
    assert!(matches!(held, Outcome::Aborted { .. }), "{held}");
    assert_eq!(coordinator.streams(), 1);
}

#[tokio::test]
async fn a_stream_that_breaks_loses_every_answer_under_way_and_all_are_asked_for_again() {
    let script = [
        Step::Held(committed()),
        Step::BreakOff,
        Step::Answer(committed()),
        Step::Answer(committed()),
    ];
    let coordinator = Coordinator::start(script).await;
    let gavel = client(&[&coordinator]).await;
    let first = start(&gavel);
    coordinator.wait_for_submits(1).await;
    let second = start(&gavel);
    assert!(first.await.unwrap().is_committed());
    assert!(second.await.unwrap().is_committed());
    let retries = coordinator.submits().into_iter().map(|each| each.is_retry);
    assert_eq!(retries.collect::<Vec<_>>(), [false, false, true, true]);
    assert_eq!(coordinator.streams(), 2);
}

#[tokio::test]
async fn who_stops_waiting_disturbs_nobody() {
    let script = [Step::Hang, Step::Answer(committed())];
    let coordinator = Coordinator::start(script).await;
    let gavel = client(&[&coordinator]).await;
    let dropped = start(&gavel);
    coordinator.wait_for_submits(1).await;
    dropped.abort();
    assert!(submit(&gavel).await.is_committed());
    assert_eq!(coordinator.streams(), 1);
}

#[tokio::test]
async fn a_refused_stream_is_a_refused_call() {
    let coordinator = Coordinator::start([]).await;
    let gavel = client(&[&coordinator]).await;
    coordinator.refuse_streams(Code::Unauthenticated);
    match submit(&gavel).await {
        Outcome::Refused { why, .. } => assert_eq!(why.code, RefusalCode::Unauthenticated),
        other => panic!("{other}"),
    }
    assert_eq!((coordinator.streams(), coordinator.calls()), (1, 0));
}

#[tokio::test]
async fn an_older_coordinator_gets_calls_and_is_not_asked_for_a_stream_again() {
    let coordinator = Coordinator::start(vec![Step::Answer(committed()); 3]).await;
    let gavel = client(&[&coordinator]).await;
    coordinator.refuse_streams(Code::Unimplemented);
    for _ in 0..3 {
        let outcome = submit(&gavel).await;
        assert!(outcome.is_committed(), "{outcome}");
    }
    assert_eq!((coordinator.streams(), coordinator.calls()), (1, 3));
    let retries = coordinator.submits().into_iter().map(|each| each.is_retry);
    assert_eq!(retries.collect::<Vec<_>>(), [false, false, false]);
}

#[tokio::test]
async fn an_error_is_the_error_of_one_submit() {
    let script = [
        Step::Held(committed()),
        Step::Error(Code::InvalidArgument),
        Step::Error(Code::Internal),
        Step::Answer(committed()),
    ];
    let coordinator = Coordinator::start(script).await;
    let gavel = client(&[&coordinator]).await;
    let held = start(&gavel);
    coordinator.wait_for_submits(1).await;
    match submit(&gavel).await {
        Outcome::Refused { why, .. } => assert_eq!(why.code, RefusalCode::InvalidRequest),
        other => panic!("{other}"),
    }
    // A coordinator that broke may have done anything: it is asked again.
    let outcome = submit(&gavel).await;
    assert!(outcome.is_committed(), "{outcome}");
    coordinator.go_on();
    assert!(held.await.unwrap().is_committed());
    assert!(coordinator.submits()[3].is_retry);
    assert_eq!(coordinator.streams(), 1);
}

#[tokio::test]
async fn a_coordinator_that_leaves_answers_what_it_was_sent_and_gets_no_more() {
    let script = [
        Step::Held(committed()),
        Step::Answer(committed()),
        Step::Answer(committed()),
    ];
    let coordinator = Coordinator::start(script).await;
    let gavel = client(&[&coordinator]).await;
    let held = start(&gavel);
    coordinator.wait_for_submits(1).await;
    coordinator.close_stream();
    coordinator.wait_for_close().await;
    let outcome = submit(&gavel).await;
    assert_eq!(same_txid_at(&outcome, &coordinator, 1), [false]);
    assert_eq!(coordinator.streams(), 2);
    coordinator.go_on();
    assert!(held.await.unwrap().is_committed());
    // Nothing was lost on the way, so nothing was asked for twice.
    assert_eq!(coordinator.submits().len(), 2);
}

/// Asserts that one submit, and those behind it, carried this outcome's txid.
fn same_txid_at(outcome: &Outcome, coordinator: &Coordinator, index: usize) -> Vec<bool> {
    assert!(outcome.is_committed(), "{outcome}");
    let txid = outcome.txid().to_string();
    let submits = coordinator.submits().split_off(index);
    assert!(submits.iter().all(|each| each.txid == txid), "{submits:?}");
    submits.iter().map(|each| each.is_retry).collect()
}

#[tokio::test]
async fn a_client_that_goes_closes_its_stream() {
    let coordinator = Coordinator::start([Step::Answer(committed())]).await;
    let gavel = client(&[&coordinator]).await;
    assert!(submit(&gavel).await.is_committed());
    drop(gavel);
    let closing = coordinator.wait_for_close();
    tokio::time::timeout(Duration::from_secs(5), closing)
        .await
        .unwrap();
}

#[tokio::test]
async fn a_large_submit_is_a_call_of_its_own() {
    let coordinator = Coordinator::start(vec![Step::Answer(committed()); 2]).await;
    let gavel = client(&[&coordinator]).await;
    let transaction = gavel.transaction().on("alpha");
    let transaction = transaction.execute("select $1", params!["x".repeat(100_000)]);
    let outcome = transaction.submit().await.unwrap();
    assert_eq!(same_txid(&outcome, &coordinator), [false]);
    assert_eq!((coordinator.streams(), coordinator.calls()), (0, 1));
    assert!(submit(&gavel).await.is_committed());
    assert_eq!((coordinator.streams(), coordinator.calls()), (1, 1));
}
