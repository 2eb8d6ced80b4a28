//! Decisions: written once, and never half open.

use std::time::{Duration, Instant};

use gavel_participant::pg::Target;
use gavel_protocol::message::{Decide, Decided, Decision, RegisterAnswer};
use gavel_protocol::{Isolation, Limits, Outcome, Principal, ShardTag};
use gavel_tests::bank;
use gavel_tests::embedded::{Embedded, Home};
use rstest::rstest;

use crate::{FIRST, branch, fresh_batch};

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
async fn r5_a_late_duplicate_of_a_decide_loses_against_the_register(
    #[values(Home::OnAShard, Home::Dedicated)] home: Home,
) {
    let gavel = Embedded::start(home, 2).await;
    let home = gavel.directory.shard(gavel.home(1)).expect("home");
    let batch = fresh_batch();
    let answer = home.resolve(batch, FIRST).await;
    assert_eq!(answer, RegisterAnswer::Decision(Decision::Abort));
    let member = branch(&gavel, batch, 1, 5).members.remove(0);
    let decide = Decide {
        batch,
        incarnation: FIRST,
        prepared: vec![ShardTag(2)],
        principal: Principal::local(),
        isolation: Isolation::ReadCommitted,
        batch_safe: true,
        members: vec![member],
        failed: Vec::new(),
    };
    let decided = home.decide(decide).await.decided;
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
