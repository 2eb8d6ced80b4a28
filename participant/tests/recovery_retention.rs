//! Retention cycles on real shards: nothing is dropped before everybody has agreed.

mod recovery_support;

use gavel_participant::Directory;
use gavel_participant::retention::{CycleReport, cycle};
use gavel_protocol::message::RegisterAnswer;
use gavel_protocol::{BatchId, Incarnation, ShardTag};
use recovery_support::{World, batch_at, now_ms};

const NORTH: ShardTag = ShardTag(1);
const SOUTH: ShardTag = ShardTag(2);
const DAY_MS: u64 = 24 * 60 * 60 * 1000;

/// Two shards that have been running for ten days and keep two.
async fn old_world() -> World {
    let mut world = World::start(&["north", "south"]).await;
    world.limits.retention_ms = 2 * DAY_MS;
    for tag in [NORTH, SOUTH] {
        world.admin(tag, "SELECT gavel.ensure_partitions(10, 7)");
    }
    world
}

async fn run(world: &World, directory: &Directory, tag: ShardTag) -> CycleReport {
    let pool = world.pool(tag);
    cycle(&pool, tag, directory)
        .await
        .expect("its own shard is up")
}

fn waits_for(report: &CycleReport, what: &str) {
    let waits_for = report.waits_for.as_deref().expect("waits");
    assert!(waits_for.contains(what), "{waits_for}");
    assert_eq!(report.floors.verified_floor_ms, 0);
    assert_eq!(report.decision_partitions_dropped, 0);
}

fn partitions(world: &World, tag: ShardTag, table: &str) -> usize {
    let sql = format!("SELECT FROM pg_inherits WHERE inhparent = 'gavel.{table}'::regclass");
    world.admin(tag, &sql).len()
}

fn decided(world: &World, batch: BatchId) {
    let sql = format!("INSERT INTO gavel.decision VALUES ('{batch}', 'commit', 1, '{{2}}')");
    world.admin(NORTH, &sql);
}

fn applied(world: &World, batch: BatchId) {
    let gid = world.gid(batch, NORTH, SOUTH);
    let sql = format!("INSERT INTO gavel.branch VALUES ('{batch}', '{gid}', 1, 1)");
    world.admin(SOUTH, &sql);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r14_branches_are_dropped_first_and_decisions_last_when_all_agree() {
    let world = old_world().await;
    let (_peers, directory) = world.peers().await;
    let (old, recent) = (batch_at(now_ms() - 5 * DAY_MS), batch_at(now_ms()));
    for batch in [old, recent] {
        decided(&world, batch);
        applied(&world, batch);
    }
    let kept = 1 + 2 + 7; // today, retention, ahead

    let north = run(&world, &directory, NORTH).await;
    assert_eq!(north.waits_for, None);
    assert_eq!(north.floors.verified_floor_ms, north.floors.floor_ms);
    assert_eq!(north.floors.floor_ms % DAY_MS, 0);
    assert_eq!(north.branch_partitions_dropped, 0, "south has not verified");
    assert!(world.is_applied(SOUTH, old));

    let south = run(&world, &directory, SOUTH).await;
    assert_eq!(south.branch_partitions_dropped, 8);
    assert_eq!(south.decision_partitions_dropped, 0, "north keeps branches");
    assert!(!world.is_applied(SOUTH, old));
    assert!(world.outcome(NORTH, old).is_some());

    for tag in [NORTH, SOUTH] {
        let report = run(&world, &directory, tag).await;
        assert_eq!(report.decision_partitions_dropped, 16);
        assert_eq!(report.floors.dropped_floor_ms, report.floors.floor_ms);
        for table in ["decision", "transaction", "branch"] {
            assert_eq!(partitions(&world, tag, table), kept, "{table}");
        }
    }
    assert_eq!(world.outcome(NORTH, old), None);
    assert!(world.outcome(NORTH, recent).is_some());
    assert!(world.is_applied(SOUTH, recent));
    let home = directory.shard(NORTH).expect("configured");
    let answer = home.resolve(old, Incarnation(1)).await;
    assert_eq!(answer, RegisterAnswer::BelowFloor, "never an abort");

    let again = run(&world, &directory, NORTH).await;
    assert_eq!(
        (again.days_created, again.branch_partitions_dropped),
        (0, 0)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r14_nothing_is_verified_while_something_old_is_open_or_unknown() {
    let world = old_world().await;
    let (_peers, directory) = world.peers().await;
    let old = batch_at(now_ms() - 5 * DAY_MS);
    let gid = world.gid(old, NORTH, SOUTH);
    let hands = world.hands(SOUTH).await;
    for sql in [
        "BEGIN".to_owned(),
        "SELECT pg_current_xact_id()".to_owned(),
        format!("PREPARE TRANSACTION '{gid}'"),
    ] {
        hands.run(&sql).await.expect("prepare");
    }
    let report = run(&world, &directory, NORTH).await;
    waits_for(&report, "still prepared on shard 2");
    let finish = format!("ROLLBACK PREPARED '{gid}'");
    hands.run(&finish).await.expect("finish");

    decided(&world, old);
    let report = run(&world, &directory, NORTH).await;
    waits_for(&report, "not applied on shard 2");
    assert!(
        report.floors.floor_ms > 0,
        "the floor is raised all the same"
    );
    applied(&world, old);

    world.server(SOUTH).kill9().expect("kill");
    let report = run(&world, &directory, NORTH).await;
    waits_for(&report, "shard 2 is unavailable");
    world.server(SOUTH).start().expect("start");

    let report = run(&world, &directory, NORTH).await;
    assert_eq!(report.waits_for, None);
    assert_eq!(report.floors.verified_floor_ms, report.floors.floor_ms);
}
