//! R14: floors, and the drop.

mod common;

use common::{
    Shard, decide, floor_call, force_abort, gid, id_at, open_branch, outcome, partitions, pid,
    prepare_branch, run, sqlstate, text, until_blocked, until_true, within,
};
use sqlx::postgres::PgConnection;
use uuid::Uuid;

const DAY: i64 = 24 * 3600;

/// The first id of today, by the server's clock.
async fn today(connection: &mut PgConnection) -> Uuid {
    let sql =
        "SELECT gavel.uuid_at(gavel.day_of(gavel.uuid_at(gavel.now_ms())) * 86400000::bigint)";
    sqlx::query_scalar(sql)
        .fetch_one(connection)
        .await
        .expect("today")
}

async fn floor_of(connection: &mut PgConnection, name: &str) -> String {
    text(connection, &format!("SELECT {name} FROM gavel.whoami()"))
        .await
        .expect("identity")
}

#[tokio::test]
async fn r14_floors_only_rise_and_refuse_what_is_below() {
    let shard = Shard::start().await;
    let mut home = shard.participant().await;
    let (low, high) = (id_at(-100), id_at(-50));
    floor_call(&mut home, "raise_floor", high)
        .await
        .expect("raise");
    floor_call(&mut home, "raise_floor", low)
        .await
        .expect("a lower one is ignored");
    assert_eq!(floor_of(&mut home, "floor").await, high.to_string());
    for (batch, txid) in [(low, id_at(0)), (id_at(0), low)] {
        assert_eq!(
            sqlstate(decide(&mut home, batch, &[id_at(0), txid]).await),
            "GV002"
        );
    }
    assert_eq!(
        sqlstate(floor_call(&mut home, "raise_floor", id_at(60)).await),
        "22023"
    );

    let above = floor_call(&mut home, "set_verified_floor", id_at(-40)).await;
    assert_eq!(sqlstate(above), "22023", "not above the floor");
    floor_call(&mut home, "set_verified_floor", high)
        .await
        .expect("verified");
    floor_call(&mut home, "set_verified_floor", low)
        .await
        .expect("ignored");
    assert_eq!(
        floor_of(&mut home, "verified_floor").await,
        high.to_string()
    );

    floor_call(&mut home, "set_branch_floor", high)
        .await
        .expect("branch floor");
    floor_call(&mut home, "set_branch_floor", low)
        .await
        .expect("ignored");
    assert_eq!(floor_of(&mut home, "branch_floor").await, high.to_string());
    assert_eq!(sqlstate(open_branch(&mut home, low).await), "GV002");
    open_branch(&mut home, id_at(0)).await.expect("above it");
}

/// The race of a decide with a rising floor: verified only once nothing older can commit.
#[tokio::test]
async fn r14_verifying_waits_for_decides_that_saw_the_old_floor() {
    let shard = Shard::start().await;
    let mut observer = shard.admin().await;
    let mut home = shard.participant().await;
    let mut keeper = shard.participant().await;
    let (old, floor) = (id_at(-60), id_at(-30));
    run(&mut home, "BEGIN").await.expect("begin");
    decide(&mut home, old, &[old])
        .await
        .expect("below no floor yet");

    run(&mut keeper, "BEGIN").await.expect("begin");
    floor_call(&mut keeper, "raise_floor", floor)
        .await
        .expect("raise");
    let same = floor_call(&mut keeper, "set_verified_floor", floor).await;
    assert_eq!(sqlstate(same), "55000", "an uncommitted floor stops nobody");
    run(&mut keeper, "ROLLBACK").await.expect("rollback");
    floor_call(&mut keeper, "raise_floor", floor)
        .await
        .expect("raise does not wait");

    let keeper_pid = pid(&mut keeper).await;
    let verifying = tokio::spawn(async move {
        floor_call(&mut keeper, "set_verified_floor", floor)
            .await
            .expect("verified");
    });
    let waits =
        format!("SELECT wait_event = 'PgSleep' FROM pg_stat_activity WHERE pid = {keeper_pid}");
    until_true(&mut observer, &waits).await;
    assert_ne!(
        floor_of(&mut observer, "verified_floor").await,
        floor.to_string()
    );
    run(&mut home, "COMMIT").await.expect("commit");
    within("verifying", verifying).await.expect("no panic");
    assert_eq!(
        floor_of(&mut observer, "verified_floor").await,
        floor.to_string()
    );
    assert_eq!(outcome(&mut home, old).await.as_deref(), Some("commit"));
}

/// The other half of that: a decide that could still read the old floor already holds the lock
/// that verifying looks for.
#[tokio::test]
async fn r14_the_deciders_lock_is_taken_before_the_floor_is_read() {
    let shard = Shard::start().await;
    let mut admin = shard.admin().await;
    let mut observer = shard.admin().await;
    let mut home = shard.participant().await;
    run(&mut admin, "BEGIN; LOCK TABLE gavel.identity")
        .await
        .expect("nobody reads the floor");
    let (home_pid, admin_pid) = (pid(&mut home).await, pid(&mut admin).await);
    let deciding = tokio::spawn(async move { decide(&mut home, id_at(0), &[id_at(0)]).await });
    until_blocked(&mut observer, home_pid, admin_pid).await;
    let holds = format!(
        "SELECT count(*) = 1 FROM pg_locks WHERE pid = {home_pid} AND granted \
         AND relation = 'gavel.decision'::regclass AND mode = 'RowExclusiveLock'"
    );
    assert_eq!(text(&mut observer, &holds).await.as_deref(), Some("true"));
    run(&mut admin, "ROLLBACK").await.expect("rollback");
    within("the decide", deciding)
        .await
        .expect("no panic")
        .expect("decide");
}

/// With an old snapshot a decide cannot see the new floor, so it must fail.
#[tokio::test]
async fn r14_a_decide_with_an_older_snapshot_cannot_miss_the_floor() {
    let shard = Shard::start().await;
    let mut home = shard.participant().await;
    let mut keeper = shard.participant().await;
    for isolation in ["REPEATABLE READ", "SERIALIZABLE"] {
        run(
            &mut home,
            &format!("BEGIN ISOLATION LEVEL {isolation}; SELECT 1 FROM pg_class"),
        )
        .await
        .expect("a snapshot");
        let old = id_at(-20);
        floor_call(&mut keeper, "raise_floor", id_at(-10))
            .await
            .expect("raise");
        floor_call(&mut keeper, "raise_floor", id_at(-9))
            .await
            .expect("raise");
        assert_eq!(sqlstate(decide(&mut home, old, &[id_at(0)]).await), "40001");
        run(&mut home, "ROLLBACK").await.expect("rollback");
        run(&mut home, &format!("BEGIN ISOLATION LEVEL {isolation}"))
            .await
            .expect("begin");
        decide(&mut home, id_at(0), &[id_at(0)])
            .await
            .expect("decide");
        run(&mut home, "COMMIT").await.expect("commit");
    }
}

/// Dropping decisions: verified only, whole days only, and what was dropped never comes back.
#[tokio::test]
async fn r14_decisions_are_dropped_below_the_verified_floor_only() {
    let shard = Shard::start().await;
    let mut admin = shard.admin().await;
    let mut home = shard.participant().await;
    let below = today(&mut admin).await;
    let yesterday = id_at(60 - DAY);
    decide(&mut home, yesterday, &[yesterday])
        .await
        .expect("decide");
    let kept = id_at(0);
    decide(&mut home, kept, &[kept]).await.expect("decide");
    let drop = format!("SELECT gavel.drop_decision_partitions('{below}')");
    assert_eq!(
        sqlstate(run(&mut home, &drop).await),
        "55000",
        "not verified"
    );

    floor_call(&mut home, "raise_floor", below)
        .await
        .expect("raise");
    assert_eq!(
        sqlstate(run(&mut home, &drop).await),
        "55000",
        "raised is not verified"
    );
    floor_call(&mut home, "set_verified_floor", below)
        .await
        .expect("verify");
    let dropped = text(
        &mut home,
        &format!("gavel.drop_decision_partitions('{below}')"),
    )
    .await;
    assert_eq!(dropped.as_deref(), Some("4"), "two days of two tables");
    assert_eq!(
        floor_of(&mut home, "dropped_floor").await,
        below.to_string()
    );
    assert_eq!(outcome(&mut home, yesterday).await, None);
    assert_eq!(outcome(&mut home, kept).await.as_deref(), Some("commit"));

    // The commit of yesterday is gone: forcing an abort now would contradict it.
    assert_eq!(sqlstate(force_abort(&mut home, yesterday).await), "GV002");
    assert_eq!(
        text(&mut home, "gavel.ensure_partitions(5, 7)")
            .await
            .as_deref(),
        Some("0")
    );
    assert_eq!(partitions(&mut admin, "decision").await.len(), 8);
    run(&mut home, &drop).await.expect("again drops nothing");
}

/// Dropping branches never makes the shard queue behind a prepared branch for long.
#[tokio::test]
async fn r14_dropping_branches_gives_way_to_prepared_ones() {
    let shard = Shard::start().await;
    let mut admin = shard.admin().await;
    let mut participant = shard.participant().await;
    let below = today(&mut admin).await;
    let drop = format!("SELECT gavel.drop_branch_partitions('{below}')");

    let old = id_at(60 - DAY);
    prepare_branch(&mut participant, old).await;
    let stale = floor_call(&mut participant, "drop_branch_partitions", id_at(0)).await;
    assert_eq!(
        sqlstate(stale),
        "55006",
        "a branch to be dropped is still prepared"
    );
    run(
        &mut participant,
        &format!("ROLLBACK PREPARED '{}'", gid(old)),
    )
    .await
    .expect("rollback");

    let young = id_at(0);
    prepare_branch(&mut participant, young).await;
    assert_eq!(
        sqlstate(run(&mut participant, &drop).await),
        "55P03",
        "short wait, then no"
    );
    until_true(
        &mut admin,
        "SELECT min(age_seconds) > 1.1 FROM gavel.prepared()",
    )
    .await;
    let error = run(&mut participant, &drop).await.expect_err("in doubt");
    assert!(
        error.to_string().contains("in-doubt branch"),
        "no wait at all: {error}"
    );
    open_branch(&mut participant, id_at(0))
        .await
        .expect("the shard goes on");

    run(
        &mut participant,
        &format!("COMMIT PREPARED '{}'", gid(young)),
    )
    .await
    .expect("commit");
    run(&mut participant, &drop).await.expect("drop");
    assert_eq!(partitions(&mut admin, "branch").await.len(), 8);
    assert_eq!(
        partitions(&mut admin, "decision").await.len(),
        10,
        "branch goes first"
    );
    assert_eq!(
        floor_of(&mut admin, "branch_floor").await,
        below.to_string()
    );
    assert_eq!(
        text(&mut participant, "gavel.ensure_partitions(2, 7)")
            .await
            .as_deref(),
        Some("0")
    );
}
