//! What the client sends again: against a coordinator that answers, hangs, breaks off or is not
//! there, as scripted. Every submission must carry the same txid.

mod scripted;
mod streams;

use std::time::Duration;

use gavel_client::{
    BeginError, BuildError, CallError, Gavel, Isolation, Options, Outcome, RefusalCode, ShardMap,
    ShardTag, StatementError, Status, params,
};
use scripted::{Coordinator, Step, aborted, committed, refused};

fn options() -> Options {
    Options::new()
        .attempt_timeout(Duration::from_millis(300))
        .deadline(Duration::from_secs(5))
        .backoff(Duration::from_millis(5), Duration::from_millis(20))
}

async fn client(coordinators: &[&Coordinator]) -> Gavel {
    let endpoints = coordinators.iter().map(|each| each.endpoint());
    Gavel::connect_with(endpoints, options()).await.unwrap()
}

async fn submit(gavel: &Gavel) -> Outcome {
    let transaction = gavel.transaction();
    let transaction = transaction.on("beta").execute("select 1", params![]);
    let transaction = transaction.on("alpha").execute("select $1", params![7]);
    transaction.submit().await.unwrap()
}

/// Asserts that all tries carried this outcome's txid, and returns which were marked as retries.
fn same_txid(outcome: &Outcome, coordinator: &Coordinator) -> Vec<bool> {
    let txid = outcome.txid().to_string();
    let submits = coordinator.submits();
    assert!(submits.iter().all(|each| each.txid == txid), "{submits:?}");
    submits.iter().map(|each| each.is_retry).collect()
}

#[tokio::test]
async fn lost_answers_are_asked_for_again_under_the_same_txid() {
    let script = [Step::Hang, Step::BreakOff, Step::Answer(committed())];
    let coordinator = Coordinator::start(script).await;
    let outcome = submit(&client(&[&coordinator]).await).await;
    assert!(outcome.is_committed(), "{outcome}");
    assert_eq!(same_txid(&outcome, &coordinator), [false, true, true]);
}

#[tokio::test]
async fn refusals_that_can_pass_are_tried_again_and_are_no_lost_answers() {
    let script = [
        Step::Answer(refused(RefusalCode::LockTimeout)),
        Step::Answer(refused(RefusalCode::Overloaded)),
        Step::Answer(aborted()),
    ];
    let coordinator = Coordinator::start(script).await;
    let outcome = submit(&client(&[&coordinator]).await).await;
    assert!(matches!(outcome, Outcome::Aborted { .. }), "{outcome}");
    assert_eq!(same_txid(&outcome, &coordinator), [false, false, false]);
}

#[tokio::test]
async fn refusals_that_cannot_pass_are_told_at_once() {
    let script = [Step::Answer(refused(RefusalCode::TxidReused))];
    let coordinator = Coordinator::start(script).await;
    let outcome = submit(&client(&[&coordinator]).await).await;
    assert!(matches!(outcome, Outcome::Refused { .. }), "{outcome}");
    assert_eq!(same_txid(&outcome, &coordinator), [false]);
}

#[tokio::test]
async fn after_a_lost_answer_a_refusal_is_in_doubt() {
    let script = [
        Step::BreakOff,
        Step::Answer(refused(RefusalCode::TxidTooOld)),
    ];
    let coordinator = Coordinator::start(script).await;
    let outcome = submit(&client(&[&coordinator]).await).await;
    assert!(matches!(outcome, Outcome::InDoubt { .. }), "{outcome}");
}

#[tokio::test]
async fn the_next_coordinator_takes_over_with_the_same_txid() {
    let dead = Coordinator::start([]).await;
    let healthy = Coordinator::start(vec![Step::Answer(committed()); 20]).await;
    let gavel = client(&[&dead, &healthy]).await;
    dead.kill().await;
    for _ in 0..20 {
        let outcome = submit(&gavel).await;
        assert!(outcome.is_committed(), "{outcome}");
    }
    assert_eq!(healthy.submits().len(), 20);
}

#[tokio::test]
async fn with_nobody_there_nothing_was_sent_and_the_refusal_says_so() {
    let coordinator = Coordinator::start([]).await;
    coordinator.kill().await;
    // Told the shards, a client starts while nobody is there.
    let shards = ShardMap::new([("alpha".parse().unwrap(), ShardTag(1))]).unwrap();
    let options = options()
        .shards(shards)
        .deadline(Duration::from_millis(300));
    let gavel = Gavel::connect_with([coordinator.endpoint()], options)
        .await
        .unwrap();
    let transaction = gavel.transaction().on("alpha");
    let transaction = transaction.execute("select 1", params![]);
    match transaction.submit().await.unwrap() {
        Outcome::Refused { why, .. } => {
            assert_eq!(why.code, RefusalCode::CoordinatorUnavailable);
        }
        other => panic!("{other}"),
    }
    let asked = gavel.status(gavel.mint("alpha").unwrap()).await;
    assert!(matches!(asked, Err(CallError::Unreachable { .. })));
}

#[tokio::test]
async fn when_the_time_is_over_a_lost_answer_is_in_doubt() {
    let coordinator = Coordinator::start(vec![Step::Hang; 50]).await;
    let gavel = client(&[&coordinator]).await;
    let transaction = gavel.transaction().on("alpha");
    let transaction = transaction.execute("select 1", params![]);
    let transaction = transaction.deadline(Duration::from_secs(1));
    let outcome = transaction.submit().await.unwrap();
    assert!(matches!(outcome, Outcome::InDoubt { .. }), "{outcome}");
    assert!(same_txid(&outcome, &coordinator).len() > 1);
}

#[tokio::test]
async fn home_is_the_lowest_shard_that_is_written() {
    let coordinator = Coordinator::start(vec![Step::Answer(committed()); 3]).await;
    let gavel = client(&[&coordinator]).await;
    let alpha = gavel.mint("alpha").unwrap().home();
    let beta = gavel.mint("beta").unwrap().home();
    assert_eq!(submit(&gavel).await.txid().home(), alpha);
    let reading = gavel.transaction().read_only("alpha");
    let reading = reading.query("select 1", params![]);
    let outcome = reading.on("beta").execute("select 1", params![]);
    assert_eq!(outcome.submit().await.unwrap().txid().home(), beta);
    let told = gavel.transaction().home("beta").on("alpha");
    let outcome = told.execute("select 1", params![]).submit().await;
    assert_eq!(outcome.unwrap().txid().home(), beta);
}

#[tokio::test]
async fn mistakes_are_told_before_anything_is_sent() {
    let coordinator = Coordinator::start([]).await;
    let gavel = client(&[&coordinator]).await;
    let new = || gavel.transaction();
    let at_beta = gavel.mint("beta").unwrap();
    let on_alpha = || new().on("alpha").execute("select 1", params![]);
    for (transaction, mistake) in [
        (new(), "at least one statement"),
        (new().on("alpha"), "at least one statement"),
        (new().execute("select 1", params![]), "name a shard"),
        (new().on("alpha").expect_rows(1), "behind the statement"),
        (
            new().on("gamma").execute("x", params![]),
            "no shard `gamma`",
        ),
        (on_alpha().read_only("alpha"), "both with"),
        (on_alpha().home("alpha").txid(at_beta), "not on the one"),
    ] {
        let error: BuildError = transaction.submit().await.unwrap_err();
        assert!(error.to_string().contains(mistake), "{error}");
    }
    assert!(coordinator.submits().is_empty());
}

#[tokio::test]
async fn a_statement_whose_answer_was_lost_is_sent_again_with_its_number() {
    let coordinator = Coordinator::start([Step::BreakOff, Step::Hang, Step::Ok, Step::Ok]).await;
    let gavel = client(&[&coordinator]).await;
    let mut tx = gavel.begin().await.unwrap();
    tx.query("alpha", "select 1", params![]).await.unwrap();
    tx.query("beta", "select 2", params![]).await.unwrap();
    let heard = coordinator.executes();
    let heard: Vec<_> = heard
        .iter()
        .map(|(sequence, sql)| (*sequence, sql.as_str()))
        .collect();
    assert_eq!(
        heard,
        [0, 0, 0, 1].map(|n| (n, if n == 0 { "select 1" } else { "select 2" }))
    );
}

#[tokio::test]
async fn a_shard_that_is_taken_out_is_nobodys_home() {
    let coordinator = Coordinator::start([]).await;
    let gavel = client(&[&coordinator]).await;
    let home = |tx: &gavel_client::Interactive| tx.txid().home();
    let before = gavel.begin().await.unwrap();
    assert_eq!(home(&before), ShardTag(1));
    coordinator.drain(ShardTag(1));
    let after = gavel.begin().await.unwrap();
    assert_eq!(home(&after), ShardTag(2));
    // Who names it is told.
    let named = gavel.begin_at("alpha", Isolation::default()).await;
    match named.unwrap_err() {
        BeginError::Call(CallError::Refused(why)) => {
            assert_eq!(why.code, RefusalCode::ShardDraining);
        }
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn a_dropped_statement_ends_its_session() {
    let coordinator = Coordinator::start([Step::Hang]).await;
    let gavel = client(&[&coordinator]).await;
    let mut tx = gavel.begin().await.unwrap();
    let time = Duration::from_millis(50);
    let dropped = tokio::time::timeout(time, tx.query("alpha", "select 1", params![])).await;
    assert!(dropped.is_err());
    let error = tx.query("alpha", "select 2", params![]).await.unwrap_err();
    assert!(
        matches!(error, StatementError::SessionLost { .. }),
        "{error}"
    );
    assert!(!tx.commit().await.is_committed());
    assert_eq!(coordinator.commits(), 0);
}

#[tokio::test]
async fn the_lost_answer_of_a_commit_is_looked_up() {
    let coordinator = Coordinator::start([Step::BreakOff]).await;
    coordinator.record_after(3);
    let gavel = client(&[&coordinator]).await;
    let tx = gavel.begin().await.unwrap();
    let outcome = tx.commit().await;
    assert!(outcome.is_committed(), "{outcome}");
    assert_eq!(coordinator.commits(), 1);
    assert_eq!(
        gavel.status(outcome.txid()).await.unwrap(),
        Status::Committed
    );
}

#[tokio::test]
async fn a_dropped_transaction_is_rolled_back() {
    let coordinator = Coordinator::start([]).await;
    let gavel = client(&[&coordinator]).await;
    drop(gavel.begin().await.unwrap());
    let waiting = coordinator.wait_for_rollback();
    tokio::time::timeout(Duration::from_secs(5), waiting)
        .await
        .unwrap();
}
