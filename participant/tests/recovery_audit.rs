//! The auditor on real shards: what a hand can break, and what it must not complain about.

mod recovery_support;

use std::time::{Duration, Instant};

use gavel_participant::audit::{AuditReport, audit, background, record};
use gavel_participant::metrics::Meters;
use gavel_protocol::recovery::DamageKind;
use gavel_protocol::{BatchId, ShardTag};
use recovery_support::{World, batch};

const NORTH: ShardTag = ShardTag(1);
const SOUTH: ShardTag = ShardTag(2);

fn kinds(report: &AuditReport) -> Vec<(BatchId, DamageKind)> {
    report
        .damage
        .iter()
        .map(|finding| (finding.batch, finding.kind))
        .collect()
}

async fn by_hand(world: &World, verb: &str, batch: BatchId) {
    let gid = world.gid(batch, NORTH, SOUTH);
    let sql = format!("{verb} PREPARED '{gid}'");
    world.hands(SOUTH).await.run(&sql).await.expect("finish");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r16_what_goes_by_the_book_is_clean() {
    let world = World::start(&["north", "south"]).await;
    let (_, directory) = world.peers().await;
    let (applied, in_flight, undecided, aborted) = (batch(), batch(), batch(), batch());
    for each in [applied, in_flight, undecided, aborted] {
        world.prepare(&world.gid(each, NORTH, SOUTH)).await;
    }
    for each in [applied, in_flight] {
        world.decide(each, NORTH, &[SOUTH]).await;
    }
    by_hand(&world, "COMMIT", applied).await;
    by_hand(&world, "ROLLBACK", aborted).await;
    let report = audit(&directory).await;
    assert!(report.is_clean(), "{report:?}");
    assert_eq!((report.branches, report.decisions), (1, 2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r16_finishing_by_hand_against_the_decision_is_damage() {
    let world = World::start(&["north", "south"]).await;
    let (peers, directory) = world.peers().await;
    let (lost, undecided, against, unnamed) = (batch(), batch(), batch(), batch());
    for each in [lost, undecided, against, unnamed] {
        world.prepare(&world.gid(each, NORTH, SOUTH)).await;
    }
    world.decide(lost, NORTH, &[SOUTH]).await;
    world.decide(unnamed, NORTH, &[ShardTag(1)]).await;
    world
        .hands(NORTH)
        .await
        .run(&format!("SELECT gavel.force_abort('{against}', 1)"))
        .await
        .expect("force");
    by_hand(&world, "ROLLBACK", lost).await;
    for each in [undecided, against, unnamed] {
        by_hand(&world, "COMMIT", each).await;
    }
    let report = audit(&directory).await;
    let mut found = kinds(&report);
    found.sort();
    let mut expected = vec![
        (lost, DamageKind::LostBranch),
        (undecided, DamageKind::AppliedButUndecided),
        (against, DamageKind::AppliedButAborted),
        (unnamed, DamageKind::AppliedButUnnamed),
        // Its decision names home itself, which never prepares.
        (unnamed, DamageKind::LostBranch),
    ];
    expected.sort();
    assert_eq!(found, expected, "{report:?}");
    assert!(report.not_audited.is_empty(), "{report:?}");

    // Recorded once, however often it is found.
    for _ in 0..2 {
        for finding in report.damage.iter().filter(|each| each.shard == SOUTH) {
            let recorded = record(peers[&SOUTH].service_pool(), finding).await;
            recorded.expect("record");
        }
    }
    let rows = world.admin(SOUTH, "SELECT kind FROM gavel.damage ORDER BY kind");
    let recorded: Vec<_> = rows.into_iter().flatten().flatten().collect();
    assert_eq!(
        recorded,
        [
            "abort_applied",
            "commit_lost",
            "undecided_applied",
            "unnamed_applied"
        ]
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r16_damage_is_found_without_being_asked_for() {
    let mut world = World::start(&["north", "south"]).await;
    world.limits.audit_interval_ms = 50;
    let (peers, directory) = world.peers().await;
    let _auditors = [NORTH, SOUTH].map(|tag| {
        let pool = peers[&tag].service_pool().clone();
        background::start(pool, tag, Meters::new("a_shard"), directory.clone())
    });
    let (lost, undecided) = (batch(), batch());
    for each in [lost, undecided] {
        world.prepare(&world.gid(each, NORTH, SOUTH)).await;
    }
    world.decide(lost, NORTH, &[SOUTH]).await;
    by_hand(&world, "ROLLBACK", lost).await;
    by_hand(&world, "COMMIT", undecided).await;
    // Each is found by the shard that holds the other half of the evidence.
    for (tag, broken, kind) in [
        (NORTH, lost, "commit_lost"),
        (SOUTH, undecided, "undecided_applied"),
    ] {
        let sql = format!("SELECT kind FROM gavel.damage WHERE batch = '{broken}'");
        let started = Instant::now();
        let found = loop {
            let found = world.admin(tag, &sql);
            if !found.is_empty() {
                break found;
            }
            assert!(started.elapsed() < Duration::from_secs(20), "not found");
            tokio::time::sleep(Duration::from_millis(20)).await;
        };
        assert_eq!(found, [[Some(kind.to_owned())]]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r16_a_shard_that_cannot_be_asked_is_not_audited() {
    let world = World::start(&["north", "south"]).await;
    let (_, directory) = world.peers().await;
    let applied = batch();
    world.prepare(&world.gid(applied, NORTH, SOUTH)).await;
    world.decide(applied, NORTH, &[SOUTH]).await;
    by_hand(&world, "COMMIT", applied).await;
    world.server(NORTH).kill9().expect("kill");
    let report = audit(&directory).await;
    assert!(report.damage.is_empty(), "{report:?}");
    let not_audited: Vec<ShardTag> = report.not_audited.keys().copied().collect();
    assert_eq!(not_audited, [NORTH, SOUTH], "{report:?}");
    assert!(!report.is_clean());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r14_r16_below_the_floors_nothing_is_compared() {
    let world = World::start(&["north", "south"]).await;
    let (_, directory) = world.peers().await;
    let (lost, undecided) = (batch(), batch());
    for each in [lost, undecided] {
        world.prepare(&world.gid(each, NORTH, SOUTH)).await;
    }
    world.decide(lost, NORTH, &[SOUTH]).await;
    by_hand(&world, "ROLLBACK", lost).await;
    by_hand(&world, "COMMIT", undecided).await;
    assert_eq!(audit(&directory).await.damage.len(), 2);
    world.admin(
        SOUTH,
        "UPDATE gavel.identity SET branch_floor = gavel.uuid_at(gavel.now_ms() + 60000)",
    );
    assert_eq!(
        kinds(&audit(&directory).await),
        [(undecided, DamageKind::AppliedButUndecided)]
    );
    world.admin(
        NORTH,
        "UPDATE gavel.identity SET (floor, verified_floor, dropped_floor) = \
         (SELECT u, u, u FROM (SELECT gavel.uuid_at(gavel.now_ms() + 60000) AS u) AS at)",
    );
    let report = audit(&directory).await;
    assert!(report.is_clean(), "{report:?}");
}
