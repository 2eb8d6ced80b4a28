//! What one transaction leaves on a connection for the next: nothing.

use gavel_coordinator::{Engine as _, Submission};
use gavel_protocol::{BranchWork, Outcome, ShardTag, Statement, Transaction};
use gavel_tests::bank::{self, ACCOUNTS};
use gavel_tests::embedded::{Embedded, Home, is_committed, submission};
use rstest::rstest;

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn r11_principals_share_no_batch_and_settings_do_not_leak(
    #[values(Home::OnAShard, Home::Dedicated)] home: Home,
) {
    let gavel = Embedded::start(home, 2).await;
    let submits = (0..60).map(|i: i64| {
        let gavel = &gavel;
        async move {
            let txid = gavel.mint(1);
            let account = i % ACCOUNTS;
            let transaction =
                bank::transfer(txid, (ShardTag(1), account), (ShardTag(2), account), 1);
            let principal = if i % 2 == 0 { "alice" } else { "bob" }
                .parse()
                .expect("a name");
            let submission = Submission {
                principal,
                ..submission(txid, transaction)
            };
            gavel.coordinator.submit(submission).await
        }
    });
    for answer in futures::future::join_all(submits).await {
        assert!(is_committed(&answer.outcome), "{answer:?}");
    }
    let ask = |sql: &str| gavel.home_server(1).sql(bank::DATABASE, sql).unwrap();
    let shared = "SELECT 1 FROM gavel.transaction GROUP BY batch HAVING count(*) > 1";
    assert!(!ask(shared).is_empty(), "batches did form");
    let mixed =
        "SELECT 1 FROM gavel.transaction GROUP BY batch HAVING count(DISTINCT principal) > 1";
    assert_eq!(ask(mixed).len(), 0, "two principals shared a batch");

    // Settings that would break every later transaction on the same connection, or weaken it.
    for setting in [
        "SET search_path = nowhere",
        "SET synchronous_commit = off",
        "SET ROLE NONE",
    ] {
        let statements = vec![Statement::new(setting, [""; 0])];
        let transaction = Transaction::new(vec![
            BranchWork::write(ShardTag(1), statements.clone()),
            BranchWork::write(ShardTag(2), statements),
        ]);
        let answer = gavel.submit(gavel.mint(1), transaction).await;
        assert!(is_committed(&answer.outcome), "{setting}: {answer:?}");
    }
    // A temporary table would stand in front of the real one for whoever comes next.
    for _ in 0..8 {
        let shadow = Statement::new("SELECT * INTO TEMP account FROM account", [""; 0]);
        let transaction = Transaction::new(vec![BranchWork::write(ShardTag(1), vec![shadow])]);
        match (home, gavel.submit(gavel.mint(1), transaction).await.outcome) {
            (Home::OnAShard, Outcome::Committed { .. }) => {}
            // PostgreSQL does not prepare what has touched a temporary table.
            (Home::Dedicated, Outcome::Aborted(why)) => {
                assert_eq!(why.sqlstate.as_deref(), Some("0A000"), "{why}");
            }
            (_, other) => panic!("{other:?}"),
        }
    }
    let after = (0..30).map(|i| gavel.transfer((1, i), (2, i), 1));
    for answer in futures::future::join_all(after).await {
        assert!(
            is_committed(&answer.outcome),
            "a setting leaked: {answer:?}"
        );
    }
    gavel.sound_books().await;
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn ddl_makes_no_transaction_fail_for_good(
    #[values(Home::OnAShard, Home::Dedicated)] home: Home,
) {
    let gavel = Embedded::start(home, 2).await;
    let submit = || async {
        let update = "UPDATE account SET balance = balance WHERE id = 1 RETURNING *";
        let statements = vec![Statement::new(update, [""; 0])];
        let transaction = Transaction::new(vec![
            BranchWork::write(ShardTag(1), statements.clone()),
            BranchWork::write(ShardTag(2), statements),
        ]);
        gavel.submit(gavel.mint(1), transaction).await
    };
    assert!(is_committed(&submit().await.outcome));
    for server in gavel.cluster.servers() {
        server
            .sql(bank::DATABASE, "ALTER TABLE account ADD COLUMN note text")
            .unwrap();
    }
    // The connections' prepared statements are stale; each try replaces one.
    for _ in 0..4 {
        match submit().await.outcome {
            Outcome::Committed { .. } => return,
            Outcome::Refused(why) => assert!(why.is_retryable(), "{why}"),
            other => panic!("DDL is not the transaction's fault: {other:?}"),
        }
    }
    panic!("stale statements were never replaced");
}
