//! What a primary acknowledges without its standbys counts for nothing (facts 2, R6).

use std::time::{Duration, Instant};

use gavel_protocol::message::{
    Decided, Decision, Finish, FinishKind, Finished, RegisterAnswer, Vote,
};
use gavel_protocol::{ShardTag, Statement};
use gavel_tests::bank;
use gavel_tests::embedded::{Embedded, Home, is_committed};
use local_postgres::Server;
use rstest::rstest;

use crate::{FIRST, branch, decide, fresh_batch, prepared_on, until};

const WAITING: &str = "SELECT pid FROM pg_stat_activity WHERE wait_event = 'SyncRep'";

/// A server whose commits wait for a standby that does not exist, until this is dropped.
struct WithoutStandby<'a>(&'a Server);

impl<'a> WithoutStandby<'a> {
    /// Returns once commits do wait: the checkpointer tells the others of the setting in its own
    /// time.
    async fn begin(server: &'a Server) -> Self {
        let this = Self(server);
        this.set("nobody");
        let url = server.url(bank::DATABASE);
        let started = Instant::now();
        loop {
            let url = url.clone();
            let probe = tokio::spawn(async move {
                let (client, connection) =
                    tokio_postgres::connect(&url, tokio_postgres::NoTls).await?;
                tokio::spawn(connection);
                let commit = "SELECT pg_logical_emit_message(true, 'test', 'does it wait?')";
                client.batch_execute(commit).await
            });
            // Others may wait as well, before the probe does.
            let mut waits = 0;
            while !probe.is_finished() {
                tokio::time::sleep(Duration::from_millis(10)).await;
                waits += this.waiting();
                this.cancel_waiting();
            }
            if waits > 0 {
                return this;
            }
            let waited = started.elapsed();
            assert!(waited < Duration::from_secs(20), "commits never wait");
        }
    }

    fn set(&self, value: &str) {
        let alter = format!("ALTER SYSTEM SET synchronous_standby_names = '{value}'");
        self.0.sql("postgres", &alter).expect("alter");
        let reload = self.0.sql("postgres", "SELECT pg_reload_conf()");
        reload.expect("reload");
    }

    fn waiting(&self) -> usize {
        self.0.sql("postgres", WAITING).expect("ask").len()
    }

    fn cancel_waiting(&self) {
        let cancel = format!("SELECT pg_cancel_backend(pid) FROM ({WAITING}) AS waiting");
        self.0.sql("postgres", &cancel).expect("cancel");
    }

    /// Lets a call run, and cancels every wait for the standby until it has answered. Panics if
    /// there was none.
    async fn cancelling<T>(&self, call: impl Future<Output = T>) -> T {
        let mut cancelled = 0;
        let mut call = std::pin::pin!(call);
        loop {
            tokio::select! {
                answer = &mut call => {
                    assert!(cancelled > 0, "nothing waited for the standby");
                    return answer;
                }
                () = tokio::time::sleep(Duration::from_millis(20)) => {
                    let waiting = self.waiting();
                    if waiting > 0 {
                        self.cancel_waiting();
                        cancelled += waiting;
                    }
                }
            }
        }
    }
}

impl Drop for WithoutStandby<'_> {
    fn drop(&mut self) {
        self.set("");
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn f2_a_cancelled_wait_for_standbys_is_unknown_not_yes(
    #[values(Home::OnAShard, Home::Dedicated)] home: Home,
) {
    let gavel = Embedded::start(home, 2).await;
    // Opens and warms the connection before the standby is missed.
    let warm = gavel.transfer((1, 1), (2, 1), 1).await;
    assert!(is_committed(&warm.outcome), "{warm:?}");
    gavel.sound_books().await;
    let shard = gavel.directory.shard(ShardTag(2)).expect("shard 2");
    let message = branch(&gavel, fresh_batch(), 2, 5);
    let alone = WithoutStandby::begin(gavel.server(ShardTag(2))).await;
    let vote = alone.cancelling(shard.prepare(message)).await.vote;
    drop(alone);
    assert!(matches!(vote, Vote::Unknown { .. }), "facts 2: {vote:?}");
    until("resolved", Duration::from_secs(15), || {
        prepared_on(&gavel, ShardTag(2)) == 0
    })
    .await;
    gavel.sound_books().await;
}

#[rstest]
#[case::that_commits(1)]
#[case::that_fails(4711)]
#[tokio::test(flavor = "multi_thread")]
async fn r6_a_decision_that_may_not_be_replicated_is_unknown(
    #[values(Home::OnAShard, Home::Dedicated)] home: Home,
    #[case] account: i64,
) {
    let gavel = Embedded::start(home, 2).await;
    let home = gavel.directory.shard(gavel.home(1)).expect("home");
    let batch = fresh_batch();
    let alone = WithoutStandby::begin(gavel.home_server(1)).await;
    let decide = decide(&gavel, batch, account);
    let decided = alone.cancelling(home.decide(decide)).await.decided;
    drop(alone);
    assert!(matches!(decided, Decided::Unknown { .. }), "{decided:?}");
    // Home has lost nothing here, so the register knows.
    let expected = match account {
        1 => Decision::Commit {
            prepared: vec![ShardTag(2)],
        },
        _ => Decision::Abort,
    };
    let answer = home.resolve(batch, FIRST).await;
    assert_eq!(answer, RegisterAnswer::Decision(expected));
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn r6_an_abort_of_somebody_else_is_told_behind_a_barrier(
    #[values(Home::OnAShard, Home::Dedicated)] home: Home,
) {
    let gavel = Embedded::start(home, 2).await;
    let home = gavel.directory.shard(gavel.home(1)).expect("home");
    let batch = fresh_batch();
    let abort = RegisterAnswer::Decision(Decision::Abort);
    assert_eq!(home.resolve(batch, FIRST).await, abort);
    // The decide collides with that row, and writes nothing of its own that would wait.
    let alone = WithoutStandby::begin(gavel.home_server(1)).await;
    let decide = decide(&gavel, batch, 1);
    let decided = alone.cancelling(home.decide(decide)).await.decided;
    drop(alone);
    assert!(
        matches!(decided, Decided::Unknown { .. }),
        "the row it read may be lost: {decided:?}"
    );
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn r11_a_setting_of_the_transaction_does_not_weaken_its_vote(
    #[values(Home::OnAShard, Home::Dedicated)] home: Home,
) {
    let gavel = Embedded::start(home, 2).await;
    let shard = gavel.directory.shard(ShardTag(2)).expect("shard 2");
    let server = gavel.server(ShardTag(2));
    let setting = |account: i64, sql: &str| {
        let mut message = branch(&gavel, fresh_batch(), account, 5);
        message.batch_safe = false;
        let work = message.members[0].statements.iter().cloned();
        message.members[0].statements = work.chain([Statement::new(sql, [""; 0])]).collect();
        message
    };
    // Without the pin PREPARE would not wait for the standby.
    let alone = WithoutStandby::begin(server).await;
    let message = setting(2, "SET LOCAL synchronous_commit = off");
    let vote = alone.cancelling(shard.prepare(message)).await.vote;
    drop(alone);
    assert!(matches!(vote, Vote::Unknown { .. }), "{vote:?}");

    // Without the pin the branch would belong to a role that cannot finish it (facts 9).
    let role = "CREATE ROLE somebody; GRANT somebody TO app";
    server.sql(bank::DATABASE, role).unwrap();
    let message = setting(3, "SET LOCAL ROLE somebody");
    let gid = message.gid.clone();
    let vote = shard.prepare(message).await.vote;
    assert!(matches!(vote, Vote::Yes { .. }), "{vote:?}");
    let owner = format!("SELECT owner FROM pg_prepared_xacts WHERE gid = '{gid}'");
    let owner = server.sql(bank::DATABASE, &owner).unwrap();
    assert_eq!(owner, [[Some(bank::ROLE.to_owned())]]);
    let rollback = Finish {
        gid,
        kind: FinishKind::Rollback,
    };
    assert_eq!(shard.finish(vec![rollback]).await, [Finished::Done]);
}
