//! Interactive transactions over real servers.

use std::time::{Duration, Instant};

use gavel_coordinator::{Engine, InteractiveAnswer};
use gavel_protocol::outcome::{StatementResult, Status};
use gavel_protocol::{
    AbortCode, Ack, Guard, Isolation, Limits, Outcome, Principal, RefusalCode, ShardTag, Statement,
    Txid,
};
use gavel_tests::bank;
use gavel_tests::embedded::{Embedded, Home, is_committed};
use rstest::rstest;

const READ_COMMITTED: Isolation = Isolation::ReadCommitted;

fn me() -> Principal {
    Principal::local()
}

async fn begin(gavel: &Embedded) -> Txid {
    let txid = gavel.mint(1);
    gavel
        .coordinator
        .begin(txid, READ_COMMITTED, me())
        .await
        .expect("begin");
    txid
}

async fn done(
    gavel: &Embedded,
    txid: Txid,
    sequence: u64,
    shard: u16,
    statement: Statement,
) -> StatementResult {
    let shard = ShardTag(shard);
    let answer = gavel
        .coordinator
        .execute(txid, &me(), sequence, shard, statement)
        .await;
    match answer.expect("the session goes on") {
        InteractiveAnswer::Done(result) => result,
        InteractiveAnswer::Ended(outcome) => panic!("statement {sequence} ended it: {outcome:?}"),
    }
}

fn read(account: i64) -> Statement {
    let sql = "SELECT balance FROM account WHERE id = $1 FOR UPDATE";
    Statement::new(sql, [account.to_string()])
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn statements_see_results_and_commit_on_all_shards(
    #[values(Home::OnAShard, Home::Dedicated)] home: Home,
) {
    let gavel = Embedded::start(home, 2).await;
    let txid = begin(&gavel).await;
    let balance = done(&gavel, txid, 0, 1, read(1)).await;
    assert_eq!(balance.rows, vec![vec![Some("1000".to_owned())]]);
    let entries = [(1, -10), (2, 10)].map(|(shard, amount)| {
        let entry = bank::entry(txid, 1, amount);
        entry.into_iter().map(move |statement| (shard, statement))
    });
    for (sequence, (shard, statement)) in (1..).zip(entries.into_iter().flatten()) {
        let result = done(&gavel, txid, sequence, shard, statement).await;
        assert_eq!(result.row_count, 1);
    }
    let answer = gavel.coordinator.commit(txid, &me(), Ack::Applied).await;
    assert_eq!(answer.outcome, Outcome::Committed { applied: true });
    // A lost answer, asked for again: never "refused", it has committed.
    let again = gavel.coordinator.commit(txid, &me(), Ack::Applied).await;
    assert!(is_committed(&again.outcome), "{again:?}");
    assert!(gavel.sound_books().await.has(txid));
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_gap_is_refused_and_a_repeat_gets_the_stored_answer(
    #[values(Home::OnAShard, Home::Dedicated)] home: Home,
) {
    let gavel = Embedded::start(home, 2).await;
    let txid = begin(&gavel).await;
    let add = || {
        Statement::new(
            "UPDATE account SET balance = balance + 1 WHERE id = 1 RETURNING balance",
            [""; 0],
        )
    };
    let first = done(&gavel, txid, 0, 1, add()).await;
    assert_eq!(
        done(&gavel, txid, 0, 1, add()).await,
        first,
        "a repeat runs nothing"
    );
    let gap = gavel
        .coordinator
        .execute(txid, &me(), 2, ShardTag(1), add())
        .await;
    assert_eq!(gap.expect_err("a gap").code, RefusalCode::OutOfSequence);
    let second = done(&gavel, txid, 1, 1, add()).await;
    assert_eq!(second.rows, vec![vec![Some("1002".to_owned())]]);
    let mallory: Principal = "mallory".parse().expect("a name");
    let stolen = gavel
        .coordinator
        .execute(txid, &mallory, 2, ShardTag(1), add())
        .await;
    assert_eq!(
        stolen.expect_err("somebody else's").code,
        RefusalCode::NotYours
    );
    gavel
        .coordinator
        .rollback(txid, &me())
        .await
        .expect("roll back");
    gavel.sound_books().await;
    assert_eq!(
        gavel.coordinator.status(txid, None).await,
        Ok(Status::NoneYet)
    );
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_failure_ends_the_transaction_and_is_recorded(
    #[values(Home::OnAShard, Home::Dedicated)] home: Home,
) {
    let gavel = Embedded::start(home, 2).await;
    let txid = begin(&gavel).await;
    done(&gavel, txid, 0, 1, bank::entry(txid, 1, -5).remove(0)).await;
    let guarded = read(9_999).expecting(Guard::RowsExactly(1));
    let answer = gavel
        .coordinator
        .execute(txid, &me(), 1, ShardTag(2), guarded)
        .await;
    let Ok(InteractiveAnswer::Ended(Outcome::Aborted(reason))) = answer else {
        panic!("the guard did not hold: {answer:?}");
    };
    assert_eq!(reason.code, AbortCode::GuardFailed);
    assert_eq!(
        gavel.coordinator.status(txid, None).await,
        Ok(Status::Aborted(reason))
    );
    gavel.sound_books().await;
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn transaction_control_is_refused_and_the_session_goes_on(
    #[values(Home::OnAShard, Home::Dedicated)] home: Home,
) {
    let gavel = Embedded::start(home, 2).await;
    let txid = begin(&gavel).await;
    let commit = Statement::new("COMMIT", [""; 0]);
    let refused = gavel
        .coordinator
        .execute(txid, &me(), 0, ShardTag(1), commit)
        .await;
    assert_eq!(
        refused.expect_err("transaction control").code,
        RefusalCode::InvalidRequest
    );
    done(&gavel, txid, 0, 1, read(1)).await;
    gavel
        .coordinator
        .rollback(txid, &me())
        .await
        .expect("roll back");
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn an_idle_session_is_rolled_back_and_never_continues_in_a_new_one(
    #[values(Home::OnAShard, Home::Dedicated)] home: Home,
) {
    let limits = Limits {
        interactive_idle_ms: 300,
        ..Limits::default()
    };
    let gavel = Embedded::start_with(home, 2, limits, |options| options).await;
    let txid = begin(&gavel).await;
    done(&gavel, txid, 0, 1, bank::entry(txid, 1, -5).remove(0)).await;
    // Its row lock is free again once it has been rolled back.
    let started = Instant::now();
    while !is_committed(&gavel.transfer((1, 1), (2, 1), 1).await.outcome) {
        assert!(
            started.elapsed() < Duration::from_secs(10),
            "the idle session keeps its lock"
        );
    }
    let late = gavel
        .coordinator
        .execute(txid, &me(), 1, ShardTag(1), read(1))
        .await;
    assert_eq!(late.expect_err("lost").code, RefusalCode::SessionLost);
    gavel.sound_books().await;
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn failed_sessions_do_not_fill_the_table(
    #[values(Home::OnAShard, Home::Dedicated)] home: Home,
) {
    let limits = Limits {
        interactive_max: 2,
        ..Limits::default()
    };
    let gavel = Embedded::start_with(home, 1, limits, |options| options).await;
    for _ in 0..6 {
        let txid = begin(&gavel).await;
        let wrong = Statement::new("SELECT 1 / 0", [""; 0]);
        let answer = gavel
            .coordinator
            .execute(txid, &me(), 0, ShardTag(1), wrong)
            .await;
        assert!(
            matches!(answer, Ok(InteractiveAnswer::Ended(Outcome::Aborted(_)))),
            "{answer:?}"
        );
    }
    let open = [begin(&gavel).await, begin(&gavel).await];
    let third = gavel
        .coordinator
        .begin(gavel.mint(1), READ_COMMITTED, me())
        .await;
    assert_eq!(
        third.expect_err("two are open").code,
        RefusalCode::Overloaded
    );
    for txid in open {
        gavel
            .coordinator
            .rollback(txid, &me())
            .await
            .expect("roll back");
    }
}

/// Sessions of participants that have a transaction open on a shard.
fn open_sessions(gavel: &Embedded, shard: ShardTag) -> usize {
    let open = "SELECT 1 FROM pg_stat_activity
                WHERE application_name = 'gavel' AND state = 'idle in transaction'";
    let rows = gavel.server(shard).sql(bank::DATABASE, open);
    rows.expect("ask the server").len()
}

/// The session is gone although nobody asked for it: that is refused, and the txid stays open.
async fn assert_lost(gavel: &Embedded, txid: Txid) {
    let answer = gavel
        .coordinator
        .execute(txid, &me(), 1, ShardTag(1), read(1))
        .await;
    let Ok(InteractiveAnswer::Ended(Outcome::Refused(why))) = &answer else {
        panic!("nothing of its own making failed: {answer:?}");
    };
    assert_eq!(why.code, RefusalCode::SessionLost, "{why}");
    let commit = gavel.coordinator.commit(txid, &me(), Ack::Applied).await;
    assert!(
        matches!(commit.outcome, Outcome::Refused(_)),
        "a lost session cannot commit: {commit:?}"
    );
    let status = gavel.coordinator.status(txid, None).await;
    assert_eq!(status, Ok(Status::NoneYet));
    let books = gavel.sound_books().await;
    assert!(!books.has(txid));
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_terminated_backend_ends_the_session_but_not_the_txid(
    #[values(Home::OnAShard, Home::Dedicated)] home: Home,
) {
    let gavel = Embedded::start(home, 2).await;
    let txid = begin(&gavel).await;
    done(&gavel, txid, 0, 1, bank::entry(txid, 1, -5).remove(0)).await;
    let kill = "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity
                WHERE application_name = 'gavel' AND state = 'idle in transaction'";
    let killed = gavel.server(ShardTag(1)).sql(bank::DATABASE, kill);
    assert_eq!(killed.unwrap().len(), 1, "the fault must strike");
    assert_lost(&gavel, txid).await;
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_the_server_ended_for_idleness_is_refused(
    #[values(Home::OnAShard, Home::Dedicated)] home: Home,
) {
    let limits = Limits {
        lock_timeout_ms: 200,
        statement_timeout_ms: 400,
        idle_in_transaction_ms: 500,
        interactive_idle_ms: 60_000,
        ..Limits::default()
    };
    let gavel = Embedded::start_with(home, 2, limits, |options| options).await;
    let txid = begin(&gavel).await;
    done(&gavel, txid, 0, 1, bank::entry(txid, 1, -5).remove(0)).await;
    let started = Instant::now();
    while open_sessions(&gavel, ShardTag(1)) > 0 {
        assert!(
            started.elapsed() < Duration::from_secs(20),
            "the server never ended it"
        );
    }
    assert_lost(&gavel, txid).await;
}
