//! Waits: bounded, and nobody waits for a stranger.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use gavel_coordinator::{Answer, Engine as _, Submission};
use gavel_protocol::message::{Finish, FinishKind, Finished, NoVote, Vote};
use gavel_protocol::{
    Access, BranchWork, Limits, Outcome, RefusalCode, ShardTag, Statement, Transaction,
};
use gavel_tests::bank;
use gavel_tests::embedded::{Embedded, Home, is_committed, submission};
use rstest::rstest;

use crate::{branch, fresh_batch, until};

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_deferred_check_that_waits_for_a_prepared_branch_ends(
    #[values(Home::OnAShard, Home::Dedicated)] home: Home,
) {
    let gavel = Embedded::start(home, 2).await;
    // Somebody's prepared branch holds the key that home's deferred check needs at COMMIT.
    let server = &gavel.cluster.servers()[0];
    let blocker =
        "BEGIN; UPDATE account SET id = 4711 WHERE id = 7; PREPARE TRANSACTION 'not-ours'";
    server.sql(bank::DATABASE, blocker).unwrap();
    let insert = Statement::new("INSERT INTO late VALUES (1, 7)", [""; 0]);
    let transaction = Transaction::new(vec![
        BranchWork::write(ShardTag(1), vec![insert.clone()]),
        BranchWork::write(ShardTag(2), vec![insert]),
    ]);
    let started = Instant::now();
    let answer = gavel.submit(gavel.mint(1), transaction).await;
    let Outcome::Refused(why) = &answer.outcome else {
        panic!("{answer:?}")
    };
    assert_eq!(why.code, RefusalCode::LockTimeout);
    assert!(
        started.elapsed() < Duration::from_secs(5),
        "the wait is bounded"
    );
    server
        .sql(bank::DATABASE, "ROLLBACK PREPARED 'not-ours'")
        .unwrap();
    gavel.sound_books().await;
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_lock_wait_ends_and_does_not_spread(
    #[values(Home::OnAShard, Home::Dedicated)] home: Home,
) {
    // Long enough for the neighbours to be done before it ends on a busy machine.
    let limits = Limits {
        lock_timeout_ms: 4_000,
        ..Limits::default()
    };
    let gavel = Embedded::start_with(home, 2, limits, |options| options).await;
    let server = gavel.server(ShardTag(2));
    let (client, connection) =
        tokio_postgres::connect(&server.url(bank::DATABASE), tokio_postgres::NoTls)
            .await
            .unwrap();
    tokio::spawn(connection);
    client
        .batch_execute("BEGIN; SELECT * FROM account WHERE id = 7 FOR UPDATE")
        .await
        .unwrap();
    let started = Instant::now();
    let mut stuck = pin!(gavel.transfer((1, 7), (2, 7), 1));
    let waits = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock'";
    let waiting = until("it waits", Duration::from_secs(5), || {
        !server.sql(bank::DATABASE, waits).unwrap().is_empty()
    });
    tokio::select! {
        answer = &mut stuck => panic!("the row is locked: {answer:?}"),
        _ = waiting => {}
    }
    // Rows that nobody holds. Another principal's lane goes on; its own lane comes after it.
    let behind = futures::future::join_all((10..20).map(|i| gavel.transfer((1, i), (2, i), 1)));
    let mut behind = pin!(behind);
    let beside = (20..30).map(|i| transfer_of("somebody", &gavel, i));
    tokio::select! {
        answer = &mut stuck => panic!("others waited for it: {answer:?}"),
        _ = &mut behind => panic!("R12: a lane has one batch at a time"),
        answers = futures::future::join_all(beside) => {
            assert!(answers.iter().all(|answer| is_committed(&answer.outcome)), "{answers:?}");
        }
    }
    let (stuck, behind) = tokio::join!(stuck, behind);
    assert!(
        behind.iter().all(|answer| is_committed(&answer.outcome)),
        "{behind:?}"
    );
    let Outcome::Refused(why) = &stuck.outcome else {
        panic!("{stuck:?}")
    };
    assert_eq!(why.code, RefusalCode::LockTimeout);
    assert!(
        started.elapsed() < Duration::from_secs(20),
        "the wait is bounded"
    );
    client.batch_execute("ROLLBACK").await.unwrap();
    let again = gavel.transfer((1, 7), (2, 7), 1).await;
    assert!(is_committed(&again.outcome), "{again:?}");
    gavel.sound_books().await;
}

/// A transfer between the accounts `i` by a principal of its own, and thus in another lane.
async fn transfer_of(principal: &str, gavel: &Embedded, i: i64) -> Answer {
    let txid = gavel.mint(1);
    let transaction = bank::transfer(txid, (ShardTag(1), i), (ShardTag(2), i), 1);
    let submission = Submission {
        principal: principal.parse().expect("a name"),
        ..submission(txid, transaction)
    };
    gavel.coordinator.submit(submission).await
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn hot_rows_crossed_both_ways_keep_moving(
    #[values(Home::OnAShard, Home::Dedicated)] home: Home,
) {
    let gavel = Arc::new(Embedded::start(home, 2).await);
    let committed = Arc::new(AtomicU32::new(0));
    let mut clients = tokio::task::JoinSet::new();
    for client in 0..16_u32 {
        let (gavel, committed) = (gavel.clone(), committed.clone());
        clients.spawn(async move {
            let mut number = i64::from(client);
            while committed.load(Ordering::Relaxed) < 40 {
                // Two accounts a shard; homes cross, which makes cross-shard deadlocks.
                let (from, to) = if number % 2 == 0 { (1, 2) } else { (2, 1) };
                let answer = gavel
                    .transfer((from, number % 2), (to, (number / 2) % 2), 1)
                    .await;
                committed.fetch_add(u32::from(is_committed(&answer.outcome)), Ordering::Relaxed);
                number += 7;
            }
        });
    }
    // Every deadlock costs a lock timeout of a second; a freeze is one that nobody ends.
    let moved = tokio::time::timeout(Duration::from_secs(60), clients.join_all()).await;
    let committed = committed.load(Ordering::Relaxed);
    assert!(moved.is_ok(), "it froze after {committed} commits");
    gavel.sound_books().await;
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn r12_exhausted_slots_are_an_early_refusal_and_recovery_still_works(
    #[values(Home::OnAShard, Home::Dedicated)] home: Home,
) {
    let gavel = Embedded::start_with(home, 2, Limits::default(), |mut options| {
        options.max_prepared_transactions = 2;
        options
    })
    .await;
    // Somebody else holds one slot; one of two is the home's share.
    let foreign = "BEGIN; INSERT INTO late VALUES (1, 1); PREPARE TRANSACTION 'not-ours'";
    gavel
        .server(ShardTag(2))
        .sql(bank::DATABASE, foreign)
        .unwrap();
    let transfers = (0..50).map(|i| gavel.transfer((1, i), (2, i), 1));
    for answer in futures::future::join_all(transfers).await {
        match &answer.outcome {
            Outcome::Committed { .. } => {}
            Outcome::Refused(why) => assert!(why.is_retryable(), "{why}"),
            other => panic!("{other:?}"),
        }
    }
    let ours = "SELECT 1 FROM pg_prepared_xacts WHERE gid LIKE 'gavel:%'";
    let ask = |sql: &str| gavel.server(ShardTag(2)).sql(bank::DATABASE, sql).unwrap();
    until("ours are finished", Duration::from_secs(10), || {
        ask(ours).is_empty()
    })
    .await;
    assert_eq!(
        ask("SELECT gid FROM pg_prepared_xacts").len(),
        1,
        "I6: foreign gids are untouched"
    );
    ask("ROLLBACK PREPARED 'not-ours'");
    gavel.sound_books().await;
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn r12_a_refusal_gives_no_slot_back(#[values(Home::OnAShard, Home::Dedicated)] home: Home) {
    // No scan sets the counts right while this runs, and nobody resolves the branch.
    let limits = Limits {
        scan_interval_ms: 60_000,
        in_doubt_after_ms: 60_000,
        ..Limits::default()
    };
    let gavel = Embedded::start_with(home, 2, limits, |mut options| {
        options.max_prepared_transactions = 2;
        options
    })
    .await;
    let shard = gavel.directory.shard(ShardTag(2)).expect("shard 2");
    let first = branch(&gavel, fresh_batch(), 1, 5);
    let vote = shard.prepare(first.clone()).await.vote;
    assert!(matches!(vote, Vote::Yes { .. }), "{vote:?}");
    for account in 2..5 {
        // What takes no slot gives none back: a read-only branch that fails.
        let mut reading = branch(&gavel, fresh_batch(), 1, 5);
        reading.access = Access::ReadOnly;
        let vote = shard.prepare(reading).await.vote;
        assert!(
            matches!(vote, Vote::No(NoVote::NoneExecuted { .. })),
            "{vote:?}"
        );
        let vote = shard
            .prepare(branch(&gavel, fresh_batch(), account, 5))
            .await
            .vote;
        let Vote::No(NoVote::Refused(why)) = &vote else {
            panic!("one of two slots is the home's share: {vote:?}")
        };
        assert_eq!(why.code, RefusalCode::SlotsExhausted, "{why}");
    }
    let rollback = Finish {
        gid: first.gid,
        kind: FinishKind::Rollback,
    };
    assert_eq!(shard.finish(vec![rollback]).await, [Finished::Done]);
    let vote = shard
        .prepare(branch(&gavel, fresh_batch(), 2, 5))
        .await
        .vote;
    assert!(
        matches!(vote, Vote::Yes { .. }),
        "the slot is free: {vote:?}"
    );
}
