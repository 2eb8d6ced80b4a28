//! What one transaction leaves on a connection for the next: nothing.

use std::time::Duration;

use gavel_coordinator::{Engine as _, Submission};
use gavel_protocol::{BranchWork, Guard, Outcome, ShardTag, Statement, Transaction};
use gavel_tests::bank::{self, ACCOUNTS};
use gavel_tests::embedded::{Embedded, Home, is_committed, submission};
use rstest::rstest;

use crate::until;

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn r11_principals_share_no_batch_and_settings_do_not_leak(
    #[values(Home::OnAShard, Home::Dedicated)] home: Home,
) {
    let gavel = Embedded::start(home, 2).await;
    let principal = |i: i64| if i % 2 == 0 { "alice" } else { "bob" };
    let submits = (0..60).map(|i: i64| {
        let gavel = &gavel;
        async move {
            let txid = gavel.mint(1);
            let account = i % ACCOUNTS;
            let transaction =
                bank::transfer(txid, (ShardTag(1), account), (ShardTag(2), account), 1);
            let submission = Submission {
                principal: principal(i).parse().expect("a name"),
                ..submission(txid, transaction)
            };
            (i, gavel.coordinator.submit(submission).await)
        }
    });
    let ask = |sql: &str| gavel.home_server(1).sql(bank::DATABASE, sql).unwrap();
    for (i, answer) in futures::future::join_all(submits).await {
        assert!(is_committed(&answer.outcome), "{answer:?}");
        let recorded = format!(
            "SELECT principal FROM gavel.transaction WHERE txid = '{}'",
            answer.txid
        );
        assert_eq!(ask(&recorded), [[Some(principal(i).to_owned())]]);
    }
    let shared = "SELECT 1 FROM gavel.transaction GROUP BY batch HAVING count(*) > 1";
    let may_form = gavel.limits.batch_members_max > 1;
    assert_eq!(!ask(shared).is_empty(), may_form, "batches did form");

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
        // In the midst of others that would like to share a batch.
        let others = (0..20).map(|i| gavel.transfer((1, i), (2, i), 1));
        let (_, answer, _) = tokio::join!(
            gavel.transfer((1, 40), (2, 40), 1),
            gavel.submit(gavel.mint(1), transaction),
            futures::future::join_all(others),
        );
        assert!(is_committed(&answer.outcome), "{setting}: {answer:?}");
        let company = format!(
            "SELECT 1 FROM gavel.transaction AS own JOIN gavel.transaction USING (batch)
             WHERE own.txid = '{}'",
            answer.txid
        );
        assert_eq!(ask(&company).len(), 1, "{setting} shared a batch");
    }
    make_temporary_tables(&gavel, home).await;
    let after = (0..30).map(|i| gavel.transfer((1, i), (2, i), 1));
    for answer in futures::future::join_all(after).await {
        assert!(
            is_committed(&answer.outcome),
            "a setting leaked: {answer:?}"
        );
    }
    gavel.sound_books().await;
}

/// Each would stand in front of the real table for whoever comes next on its connection.
async fn make_temporary_tables(gavel: &Embedded, home: Home) {
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

/// Waits until a participant's session runs `sql` on a shard, and ends that session.
async fn terminate_when_running(gavel: &Embedded, shard: ShardTag, sql: &str) {
    let kill = format!(
        "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity
         WHERE application_name = 'gavel' AND state = 'active' AND query LIKE '{sql}%'"
    );
    until("it runs", Duration::from_secs(10), || {
        let killed = gavel.server(shard).sql(bank::DATABASE, &kill);
        !killed.unwrap().is_empty()
    })
    .await;
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_terminated_backend_is_nobodys_abort(
    #[values(Home::OnAShard, Home::Dedicated)] home: Home,
    #[values(1, 2)] struck: u16,
) {
    let gavel = Embedded::start(home, 2).await;
    let txid = gavel.mint(1);
    // It waits until it is struck, the first time; then the row is there and it goes on.
    let slow = "SELECT CASE WHEN count(*) = 0 THEN pg_sleep(30) END FROM late WHERE id = 4711";
    let branch = |shard: u16, amount| {
        let mut work = bank::entry(txid, 1, amount);
        if shard == struck {
            work.insert(0, Statement::new(slow, [""; 0]));
        }
        BranchWork::write(ShardTag(shard), work)
    };
    let transaction = Transaction::new(vec![branch(1, -5), branch(2, 5)]);
    let (answer, ()) = tokio::join!(
        gavel.submit(txid, transaction.clone()),
        terminate_when_running(&gavel, ShardTag(struck), "SELECT CASE"),
    );
    let Outcome::Refused(why) = &answer.outcome else {
        panic!("{answer:?}")
    };
    assert!(why.is_retryable(), "{why}");
    assert!(!gavel.sound_books().await.has(txid));
    let marker = "INSERT INTO late VALUES (4711, NULL)";
    gavel
        .server(ShardTag(struck))
        .sql(bank::DATABASE, marker)
        .unwrap();
    let again = gavel.submit(txid, transaction).await;
    assert!(is_committed(&again.outcome), "the txid is open: {again:?}");
    assert!(gavel.sound_books().await.has(txid));
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn r11_what_failed_leaves_no_session_lock_behind(
    #[values(Home::OnAShard, Home::Dedicated)] home: Home,
    #[values(1, 2)] failing: u16,
) {
    let gavel = Embedded::start(home, 2).await;
    let branch = |shard: u16| {
        let mut work = vec![Statement::new("SELECT pg_advisory_lock(4711)", [""; 0])];
        if shard == failing {
            work.push(Statement::new("SELECT 1 / 0", [""; 0]));
        }
        BranchWork::write(ShardTag(shard), work)
    };
    let transaction = Transaction::new(vec![branch(1), branch(2)]);
    let answer = gavel.submit(gavel.mint(1), transaction).await;
    let Outcome::Aborted(why) = &answer.outcome else {
        panic!("{answer:?}")
    };
    assert_eq!(why.sqlstate.as_deref(), Some("22012"), "{why}");
    let held = "SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND objid = 4711";
    for shard in [1, 2] {
        let server = gavel.server(ShardTag(shard));
        until(
            "a closed connection's locks are free",
            Duration::from_secs(10),
            || server.sql(bank::DATABASE, held).unwrap().is_empty(),
        )
        .await;
    }
    gavel.sound_books().await;
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn r11_a_connection_of_more_than_plain_queries_is_used_once(
    #[values(Home::OnAShard, Home::Dedicated)] home: Home,
) {
    let gavel = Embedded::start(home, 2).await;
    let both = |statement: Statement| {
        let branches = [1, 2].map(|tag| BranchWork::write(ShardTag(tag), vec![statement.clone()]));
        gavel.submit(gavel.mint(1), Transaction::new(branches.into()))
    };
    // Outlives the transaction, and no reset but closing removes it without the plans.
    let leak = "DO $$ BEGIN EXECUTE 'PREPARE leak AS SELECT 1'; END $$";
    let answer = both(Statement::new(leak, [""; 0])).await;
    assert!(is_committed(&answer.outcome), "{answer:?}");
    for _ in 0..4 {
        let found = "SELECT 1 FROM pg_prepared_statements WHERE name = 'leak'";
        let none = Statement::new(found, [""; 0]).expecting(Guard::RowsExactly(0));
        let answer = both(none).await;
        assert!(is_committed(&answer.outcome), "it leaked: {answer:?}");
    }
}
