//! Prepared branches: once, explained, and never left behind.

use std::time::Duration;

use gavel_protocol::message::{
    Decision, Finish, FinishKind, Finished, Member, MemberReport, NoVote, RegisterAnswer, Vote,
};
use gavel_protocol::{AbortCode, Guard, Limits, RequestHash, ShardTag, Statement, Txid};
use gavel_tests::bank;
use gavel_tests::embedded::{Embedded, Home, is_committed};
use rstest::rstest;

use crate::{FIRST, branch, fresh_batch, prepared_on, until};

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn r1_a_second_execution_of_a_batch_fails_before_and_after_it_is_applied(
    #[values(Home::OnAShard, Home::Dedicated)] home: Home,
) {
    let gavel = Embedded::start(home, 2).await;
    let shard = gavel.directory.shard(ShardTag(2)).expect("shard 2");
    let message = branch(&gavel, fresh_batch(), 1, 5);
    let (a, b) = tokio::join!(
        shard.prepare(message.clone()),
        shard.prepare(message.clone())
    );
    let yes = [&a.vote, &b.vote]
        .iter()
        .filter(|vote| matches!(vote, Vote::Yes { .. }))
        .count();
    assert_eq!(yes, 1, "one of two may prepare: {:?} {:?}", a.vote, b.vote);
    let commit = Finish {
        gid: message.gid.clone(),
        kind: FinishKind::Commit,
    };
    assert_eq!(shard.finish(vec![commit.clone()]).await, [Finished::Done]);
    let late = shard.prepare(message).await;
    assert!(matches!(late.vote, Vote::Unknown { .. }), "{:?}", late.vote);
    // "Does not exist" is explained by the branch row: applied, not damaged.
    assert_eq!(shard.finish(vec![commit]).await, [Finished::Done]);
    let marks = gavel
        .server(ShardTag(2))
        .sql(bank::DATABASE, "SELECT 1 FROM mark")
        .unwrap();
    assert_eq!(marks.len(), 1, "I5: applied once");
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn r1_does_not_exist_is_never_success_by_itself(
    #[values(Home::OnAShard, Home::Dedicated)] home: Home,
) {
    let gavel = Embedded::start(home, 2).await;
    let shard = gavel.directory.shard(ShardTag(2)).expect("shard 2");
    let never_prepared = branch(&gavel, fresh_batch(), 1, 5).gid;
    let commit = Finish {
        gid: never_prepared,
        kind: FinishKind::Commit,
    };
    let [finished] = &shard.finish(vec![commit]).await[..] else {
        panic!("one answer")
    };
    assert!(matches!(finished, Finished::Damaged { .. }), "{finished:?}");
    let damage = gavel
        .server(ShardTag(2))
        .sql(bank::DATABASE, "SELECT kind FROM gavel.damage");
    assert_eq!(damage.unwrap(), vec![vec![Some("commit_lost".to_owned())]]);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn r15_a_zombie_prepare_after_the_abort_is_rolled_back_by_the_scan(
    #[values(Home::OnAShard, Home::Dedicated)] home: Home,
) {
    let gavel = Embedded::start(home, 2).await;
    let home = gavel.directory.shard(gavel.home(1)).expect("home");
    let shard = gavel.directory.shard(ShardTag(2)).expect("shard 2");
    let message = branch(&gavel, fresh_batch(), 1, 5);
    let answer = home.resolve(message.gid.batch, FIRST).await;
    assert_eq!(answer, RegisterAnswer::Decision(Decision::Abort));
    let vote = shard.prepare(message).await.vote;
    assert!(matches!(vote, Vote::Yes { .. }), "{vote:?}");
    until("the zombie is gone", Duration::from_secs(10), || {
        prepared_on(&gavel, ShardTag(2)) == 0
    })
    .await;
    gavel.sound_books().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn r17_a_deployment_that_was_stopped_leaves_nothing_behind() {
    let gavel = Embedded::start(Home::OnAShard, 2).await;
    let answer = gavel.transfer((1, 1), (2, 1), 1).await;
    assert!(is_committed(&answer.outcome), "{answer:?}");
    let cluster = gavel.stop().await;
    // Whoever still scans or audits has a connection.
    let sessions = "SELECT 1 FROM pg_stat_activity
                    WHERE datname = current_database() AND pid <> pg_backend_pid()";
    until(
        "the last session has ended",
        Duration::from_secs(10),
        || {
            let servers = cluster.servers().iter();
            servers.fold(0, |count, server| {
                count + server.sql(bank::DATABASE, sessions).expect("rows").len()
            }) == 0
        },
    )
    .await;
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn r17_an_embedded_deployment_resolves_at_its_next_start(
    #[values(Home::OnAShard, Home::Dedicated)] home: Home,
) {
    let gavel = Embedded::start(home, 2).await;
    let message = branch(&gavel, fresh_batch(), 1, 5);
    let shard = gavel.directory.shard(ShardTag(2)).expect("shard 2");
    assert!(matches!(
        shard.prepare(message).await.vote,
        Vote::Yes { .. }
    ));
    let again = gavel.restart().await;
    until("resolved at start", Duration::from_secs(10), || {
        prepared_on(&again, ShardTag(2)) == 0
    })
    .await;
    let answer = again.transfer((1, 1), (2, 1), 1).await;
    assert!(is_committed(&answer.outcome), "{answer:?}");
    again.sound_books().await;
}

/// Guards are judged when everybody has answered. By then a later member may have stumbled over
/// what the one with the broken guard has written.
#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn r10_a_broken_guard_is_found_before_what_came_of_it(
    #[values(Home::OnAShard, Home::Dedicated)] home: Home,
    #[values(false, true)] in_chunks: bool,
) {
    let gavel = Embedded::start(home, 2).await;
    let shard = gavel.directory.shard(ShardTag(2)).expect("shard 2");
    let mut message = branch(&gavel, fresh_batch(), 1, 5);
    let sql = "SELECT -balance FROM account WHERE id = 1";
    let balance = gavel.server(ShardTag(2)).sql(bank::DATABASE, sql);
    let all = balance.expect("rows")[0][0].clone().expect("a balance");
    let take_all = Statement::new(bank::UPDATE, [all, "1".to_owned()]);
    let divide = Statement::new("SELECT 1 / balance FROM account WHERE id = 1", [""; 0]);
    let no_such_account = Statement::new(bank::UPDATE, ["1".to_owned(), "999999".to_owned()])
        .expecting(Guard::RowsExactly(1));
    let member = |number: u8, statements: Vec<Statement>| Member {
        txid: Txid::mint(crate::now_ms(), message.gid.home, [number; 16]),
        request_hash: RequestHash([number; 32]),
        statements: statements.into(),
    };
    message.members = vec![
        member(1, vec![take_all, no_such_account]),
        member(2, vec![divide]),
    ];
    message.in_chunks = in_chunks;
    let Vote::Yes { reports, .. } = shard.prepare(message.clone()).await.vote else {
        panic!("the second member can be prepared")
    };
    let [MemberReport::Failed(reason), MemberReport::Executed] = &reports[..] else {
        panic!("{reports:?}")
    };
    assert_eq!(reason.code, AbortCode::GuardFailed, "{reason}");
    let rollback = Finish {
        gid: message.gid,
        kind: FinishKind::Rollback,
    };
    assert_eq!(shard.finish(vec![rollback]).await, [Finished::Done]);
}

/// A failure behind a neighbour that gets no turn in the end says nothing.
#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn r10_nobody_fails_behind_a_neighbour_that_is_not_executed(
    #[values(Home::OnAShard, Home::Dedicated)] home: Home,
    #[values(false, true)] in_chunks: bool,
) {
    let one_try = Limits {
        savepoints_max: 1,
        ..Limits::default()
    };
    let gavel = Embedded::start_with(home, 2, one_try, |options| options).await;
    let shard = gavel.directory.shard(ShardTag(2)).expect("shard 2");
    let mut message = branch(&gavel, fresh_batch(), 1, 5);
    let empty = Statement::new("UPDATE account SET balance = 0 WHERE id = 1", [""; 0]);
    let divide = Statement::new("SELECT 1 / balance FROM account WHERE id = 1", [""; 0]);
    let member = |number: u8, statement: Statement| Member {
        txid: Txid::mint(crate::now_ms(), message.gid.home, [number; 16]),
        request_hash: RequestHash([number; 32]),
        statements: vec![statement].into(),
    };
    message.members = vec![member(1, empty), member(2, divide)];
    message.in_chunks = in_chunks;
    let Vote::No(NoVote::NoneExecuted { reports }) = shard.prepare(message).await.vote else {
        panic!("there is one try, and the second member fails in it")
    };
    assert_eq!(reports, [MemberReport::NotRun, MemberReport::NotRun]);
}
