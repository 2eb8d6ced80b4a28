//! Prepared branches: once, explained, and never left behind.

use std::time::{Duration, Instant};

use gavel_protocol::ShardTag;
use gavel_protocol::message::{Decision, Finish, FinishKind, Finished, RegisterAnswer, Vote};
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

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn f2_a_cancelled_wait_for_standbys_is_unknown_not_yes(
    #[values(Home::OnAShard, Home::Dedicated)] home: Home,
) {
    let gavel = Embedded::start(home, 2).await;
    let server = &gavel.server(ShardTag(2));
    let shard = gavel.directory.shard(ShardTag(2)).expect("shard 2").clone();
    // Opens and warms the connection before the standby is missed.
    assert!(is_committed(
        &gavel.transfer((1, 1), (2, 1), 1).await.outcome
    ));
    gavel.sound_books().await;
    let set = |value: &str| {
        let alter = format!("ALTER SYSTEM SET synchronous_standby_names = '{value}'");
        server.sql(bank::DATABASE, &alter).expect("alter");
        server
            .sql(bank::DATABASE, "SELECT pg_reload_conf()")
            .expect("reload");
    };
    set("nobody");
    let waiting = "SELECT pid FROM pg_stat_activity WHERE wait_event = 'SyncRep' \
                   AND query LIKE 'PREPARE%'";
    let ask = |sql: &str| server.sql("postgres", sql).unwrap_or_default();
    // The checkpointer tells the others of the setting in its own time: until it has, PREPARE
    // does not wait.
    let started = Instant::now();
    let vote = loop {
        let (shard, message) = (shard.clone(), branch(&gavel, fresh_batch(), 2, 5));
        let gid = message.gid.clone();
        let vote = tokio::spawn(async move { shard.prepare(message).await.vote });
        while !vote.is_finished() && ask(waiting).is_empty() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        if !vote.is_finished() {
            break vote;
        }
        assert!(
            started.elapsed() < Duration::from_secs(10),
            "PREPARE never waited"
        );
        set("");
        server
            .sql("postgres", "SELECT 1")
            .expect("the server answers");
        let rollback = Finish {
            gid,
            kind: FinishKind::Rollback,
        };
        let shard = gavel.directory.shard(ShardTag(2)).expect("shard 2");
        assert_eq!(shard.finish(vec![rollback]).await, [Finished::Done]);
        set("nobody");
    };
    ask(&format!("SELECT pg_cancel_backend(pid) FROM ({waiting}) w"));
    let vote = vote.await.expect("the vote");
    assert!(matches!(vote, Vote::Unknown { .. }), "facts 2: {vote:?}");
    set("");
    until("resolved", Duration::from_secs(15), || {
        prepared_on(&gavel, ShardTag(2)) == 0
    })
    .await;
    gavel.sound_books().await;
}
