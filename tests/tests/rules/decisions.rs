//! Decisions: written once, and never half open.

use std::time::{Duration, Instant};

use gavel_participant::pg::Target;
use gavel_protocol::message::{Decided, Decision, RegisterAnswer};
use gavel_protocol::{Limits, Outcome, ShardTag};
use gavel_tests::bank;
use gavel_tests::embedded::{Embedded, Home};
use rstest::rstest;

use crate::{FIRST, decide, fresh_batch, until};

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn r3_a_failed_guard_stops_prepare_and_commit_from_being_sent(
    #[values(Home::OnAShard, Home::Dedicated)] home: Home,
) {
    let gavel = Embedded::start_with(home, 2, Limits::default(), |options| {
        options.setting("log_statement", "all")
    })
    .await;
    // The guard fails on the prepared shard, then at home.
    for (from, to) in [((1, 1), (2, 9_999)), ((1, 9_999), (2, 1))] {
        let answer = gavel.transfer(from, to, 1).await;
        assert!(matches!(answer.outcome, Outcome::Aborted(_)), "{answer:?}");
        if to.1 == 9_999 {
            let log = gavel.server(ShardTag(2)).log_tail(2_000);
            assert!(
                !log.contains("PREPARE TRANSACTION"),
                "PREPARE was sent:\n{log}"
            );
        }
    }
    let decisions = "SELECT outcome FROM gavel.decision WHERE outcome = 'commit'";
    let rows = gavel.home_server(1).sql(bank::DATABASE, decisions).unwrap();
    assert_eq!(rows.len(), 0);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn r3_a_vanished_participant_does_not_leave_a_decision_open(
    #[values(Home::OnAShard, Home::Dedicated)] home: Home,
) {
    let limits = Limits {
        lock_timeout_ms: 200,
        statement_timeout_ms: 500,
        idle_in_transaction_ms: 1_000,
        ..Limits::default()
    };
    let gavel = Embedded::start_with(home, 1, limits.clone(), |options| options).await;
    let url = gavel.home_server(1).url(bank::DATABASE);
    let mut vanished = Target::from_url(&url, &limits)
        .unwrap()
        .connect()
        .await
        .unwrap();
    let batch = fresh_batch();
    let open = format!(
        "SELECT gavel.open_decision('{batch}', 1, '{{}}', '{{}}', '{{}}', '{{}}', '{{}}', 'local')"
    );
    let segments = vanished.run(|pipeline| {
        pipeline.run("BEGIN", &[]).run(&open, &[]).sync();
    });
    assert_eq!(segments.await.unwrap()[0].error, None);
    // Its socket stays open, and nothing is ever sent on it again.
    let home = gavel.directory.shard(gavel.home(1)).expect("home");
    let started = Instant::now();
    loop {
        match home.resolve(batch, FIRST).await {
            RegisterAnswer::Decision(decision) => {
                assert_eq!(decision, Decision::Abort);
                break;
            }
            other => assert!(started.elapsed() < Duration::from_secs(10), "{other:?}"),
        }
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn r4_a_resolver_waits_for_a_home_at_work(
    #[values(Home::OnAShard, Home::Dedicated)] home: Home,
) {
    let limits = Limits {
        lock_timeout_ms: 4_000,
        ..Limits::default()
    };
    let gavel = Embedded::start_with(home, 2, limits, |options| options).await;
    let home = gavel.directory.shard(gavel.home(1)).expect("home").clone();
    let server = gavel.home_server(1);
    let (locker, connection) =
        tokio_postgres::connect(&server.url(bank::DATABASE), tokio_postgres::NoTls)
            .await
            .unwrap();
    tokio::spawn(connection);
    locker
        .batch_execute("BEGIN; SELECT * FROM account WHERE id = 7 FOR UPDATE")
        .await
        .unwrap();
    let batch = fresh_batch();
    let message = decide(&gavel, batch, 7);
    let at_work = tokio::spawn({
        let home = home.clone();
        async move { home.decide(message).await.decided }
    });
    let waiting = |count: usize| {
        let waits = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock'";
        move || server.sql(bank::DATABASE, waits).unwrap().len() == count
    };
    until("home works", Duration::from_secs(4), waiting(1)).await;
    let resolver = tokio::spawn(async move { home.resolve(batch, FIRST).await });
    until("the resolver waits too", Duration::from_secs(4), waiting(2)).await;
    locker.batch_execute("ROLLBACK").await.unwrap();
    assert_eq!(at_work.await.unwrap(), Decided::Committed);
    let prepared = vec![ShardTag(2)];
    assert_eq!(
        resolver.await.unwrap(),
        RegisterAnswer::Decision(Decision::Commit { prepared })
    );
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn r5_a_late_duplicate_of_a_decide_loses_against_the_register(
    #[values(Home::OnAShard, Home::Dedicated)] home: Home,
) {
    let gavel = Embedded::start(home, 2).await;
    let home = gavel.directory.shard(gavel.home(1)).expect("home");
    let batch = fresh_batch();
    let answer = home.resolve(batch, FIRST).await;
    assert_eq!(answer, RegisterAnswer::Decision(Decision::Abort));
    let decided = home.decide(decide(&gavel, batch, 1)).await.decided;
    assert!(
        matches!(decided, Decided::Aborted(_)),
        "the register said abort first: {decided:?}"
    );
    let marks = gavel
        .home_server(1)
        .sql(bank::DATABASE, "SELECT 1 FROM mark")
        .unwrap();
    assert_eq!(marks.len(), 0);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn r5_an_abort_is_told_only_once_a_late_duplicate_must_lose(
    #[values(Home::OnAShard, Home::Dedicated)] home: Home,
) {
    let gavel = Embedded::start(home, 2).await;
    let home = gavel.directory.shard(gavel.home(1)).expect("home");
    let decide = decide(&gavel, fresh_batch(), 4711);
    // No such account: home's own work fails, after its rows were inserted.
    let decided = home.decide(decide.clone()).await.decided;
    assert!(matches!(decided, Decided::Aborted(_)), "{decided:?}");
    // What arrives now would succeed, if the register did not stand in its way.
    let account = "INSERT INTO account VALUES (4711, 0)";
    gavel.home_server(1).sql(bank::DATABASE, account).unwrap();
    let decided = home.decide(decide).await.decided;
    assert!(
        !matches!(decided, Decided::Committed),
        "its coordinator was told that it is aborted: {decided:?}"
    );
    let marks = gavel
        .home_server(1)
        .sql(bank::DATABASE, "SELECT 1 FROM mark");
    assert_eq!(marks.unwrap().len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn f1_a_commit_with_nothing_open_is_no_commit() {
    let limits = Limits::default();
    let gavel = Embedded::start(Home::OnAShard, 1).await;
    let url = gavel.server(ShardTag(1)).url(bank::DATABASE);
    let target = Target::from_url(&url, &limits).unwrap();
    let mut connection = target.connect().await.unwrap();
    let segments = connection.run(|pipeline| {
        pipeline.run("COMMIT", &[]).sync();
        pipeline.run("BEGIN", &[]).run("COMMIT", &[]).sync();
    });
    let segments = segments.await.unwrap();
    assert_eq!(
        segments[0].last_tag(),
        "COMMIT",
        "the tag alone says nothing"
    );
    let committed: Vec<bool> = segments.iter().map(|each| each.is_committed()).collect();
    assert_eq!(committed, [false, true]);
}

#[tokio::test(flavor = "multi_thread")]
async fn f1_what_failed_before_is_neither_prepared_nor_committed() {
    let limits = Limits::default();
    let gavel = Embedded::start(Home::OnAShard, 1).await;
    let url = gavel.server(ShardTag(1)).url(bank::DATABASE);
    let target = Target::from_url(&url, &limits).unwrap();
    let mut connection = target.connect().await.unwrap();
    for end in ["PREPARE TRANSACTION 'nobody'", "COMMIT"] {
        let segments = connection.run(|pipeline| {
            pipeline.run("BEGIN", &[]).run("SELECT 1 / 0", &[]).sync();
            pipeline.run(end, &[]).sync();
        });
        let segments = segments.await.unwrap();
        let ended = &segments[1];
        // Success, says the protocol; only the tag tells.
        assert_eq!((&ended.error, ended.last_tag()), (&None, "ROLLBACK"));
        assert!(!ended.is_prepared() && !ended.is_committed());
    }
}
