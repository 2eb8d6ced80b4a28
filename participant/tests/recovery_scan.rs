//! In-doubt branches on real shards: when they are resolved, how, and what is left alone.

mod recovery_support;

use std::sync::Arc;
use std::time::{Duration, Instant};

use gavel_participant::{Directory, LocalParticipant, Participant as _};
use gavel_protocol::message::{Finished, Member, Prepare, Vote};
use gavel_protocol::{
    Access, DriverId, Gid, Incarnation, Isolation, RequestHash, ShardTag, Statement, Txid,
};
use recovery_support::{World, batch, eventually, eventually_async, now_ms};

const NORTH: ShardTag = ShardTag(1);
const SOUTH: ShardTag = ShardTag(2);
const WEST: ShardTag = ShardTag(3);

fn driver() -> DriverId {
    DriverId(uuid::Uuid::now_v7())
}

/// Prepares a branch as a coordinator's driver does.
async fn prepare_for(participant: &LocalParticipant, gid: &Gid, driver: DriverId) {
    let statement = Statement::new("SELECT pg_current_xact_id()", Vec::<String>::new());
    let member = Member {
        txid: Txid::mint(now_ms(), gid.home, rand::random()),
        request_hash: RequestHash([1; 32]),
        statements: Arc::from([statement]),
    };
    let prepare = Prepare {
        gid: gid.clone(),
        incarnation: Incarnation(1),
        driver,
        access: Access::ReadWrite,
        isolation: Isolation::ReadCommitted,
        batch_safe: true,
        in_chunks: false,
        members: vec![member],
    };
    let vote = participant.prepare(prepare).await.vote;
    assert!(matches!(vote, Vote::Yes { .. }), "{vote:?}");
}

/// What the shard's list of in-doubt branches says about `gid`.
async fn waits_for(directory: &Directory, gid: &Gid) -> Option<String> {
    let shard = directory.shard(gid.shard).expect("configured");
    let listed = shard.in_doubt().await.ok()?;
    let branch = listed.into_iter().find(|branch| branch.gid == *gid)?;
    Some(branch.waits_for)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r15_live_driver_left_alone_closed_driver_resolved_at_once() {
    let mut world = World::start(&["north", "south"]).await;
    world.limits.in_doubt_after_ms = 30_000; // Nothing here is resolved because of its age.
    let (peers, directory) = world.peers().await;
    let south = &peers[&SOUTH];
    let driver = driver();
    let attendance = south.attend(driver).await.expect("attend");
    let (committed, undecided) = (batch(), batch());
    for each in [committed, undecided] {
        let gid = world.gid(each, NORTH, SOUTH);
        prepare_for(south, &gid, driver).await;
    }
    world.decide(committed, NORTH, &[SOUTH]).await;
    south.start(directory.clone());

    // The branch of a driver that nobody knows goes by its age, so a scan has seen both when
    // the list says what they wait for.
    let gid = world.gid(undecided, NORTH, SOUTH);
    eventually_async("the scan has seen it", async || {
        waits_for(&directory, &gid).await.as_deref() == Some("its driver")
    })
    .await;
    assert_eq!(world.prepared(SOUTH).len(), 2, "left to their driver");
    assert_eq!(world.outcome(NORTH, undecided), None);

    drop(attendance);
    eventually("both resolved", || world.prepared(SOUTH).is_empty()).await;
    assert!(world.is_applied(SOUTH, committed));
    assert!(!world.is_applied(SOUTH, undecided));
    assert_eq!(world.outcome(NORTH, undecided).as_deref(), Some("abort"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r15_unknown_driver_gets_in_doubt_after() {
    let world = World::start(&["north", "south"]).await;
    let (peers, directory) = world.peers().await;
    let gid = world.gid(batch(), NORTH, SOUTH);
    world.prepare(&gid).await;
    let started = Instant::now();
    peers[&SOUTH].start(directory.clone());
    eventually("resolved", || world.prepared(SOUTH).is_empty()).await;
    let patience = Duration::from_millis(world.limits.in_doubt_after_ms);
    assert!(started.elapsed() >= patience, "{:?}", started.elapsed());
    assert_eq!(world.outcome(NORTH, gid.batch).as_deref(), Some("abort"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r15_old_by_the_databases_clock_is_resolved_without_waiting_again() {
    let mut world = World::start(&["north", "south"]).await;
    world.limits.in_doubt_after_ms = 200;
    let (peers, directory) = world.peers().await;
    let (south, driver) = (&peers[&SOUTH], driver());
    let _attendance = south.attend(driver).await.expect("attend");
    let gid = world.gid(batch(), NORTH, SOUTH);
    prepare_for(south, &gid, driver).await;
    let age = "SELECT 1 FROM pg_prepared_xacts WHERE prepared < now() - interval '2.1 seconds'";
    eventually("old enough", || !world.admin(SOUTH, age).is_empty()).await;
    // Its driver attends, yet ten times in_doubt_after is too old.
    south.start(directory.clone());
    eventually("resolved", || world.prepared(SOUTH).is_empty()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_home_that_is_down_holds_up_only_its_own_branches() {
    let world = World::start(&["north", "south", "west"]).await;
    let (peers, directory) = world.peers().await;
    let stuck: Vec<Gid> = (0..6).map(|_| world.gid(batch(), NORTH, WEST)).collect();
    let free = world.gid(batch(), SOUTH, WEST);
    for gid in stuck.iter().chain([&free]) {
        world.prepare(gid).await;
    }
    world.decide(stuck[0].batch, NORTH, &[WEST]).await;
    world.decide(free.batch, SOUTH, &[WEST]).await;
    world.server(NORTH).kill9().expect("kill");
    peers[&WEST].start(directory.clone());

    eventually("the other home's branch is applied", || {
        world.is_applied(WEST, free.batch)
    })
    .await;
    eventually_async("the wait is shown with its reason", async || {
        let shown = waits_for(&directory, &stuck[0]).await;
        shown.is_some_and(|text| text.contains("home 1: cannot connect"))
    })
    .await;
    assert_eq!(world.prepared(WEST).len(), stuck.len());

    world.server(NORTH).start().expect("start");
    eventually("all resolved", || world.prepared(WEST).is_empty()).await;
    assert!(world.is_applied(WEST, stuck[0].batch));
    for gid in &stuck[1..] {
        assert!(!world.is_applied(WEST, gid.batch));
        assert_eq!(world.outcome(NORTH, gid.batch).as_deref(), Some("abort"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r13_another_incarnation_of_home_is_waited_for() {
    let world = World::start(&["north", "south"]).await;
    let (peers, directory) = world.peers().await;
    let of_before = world.gid(batch(), NORTH, SOUTH);
    world.prepare(&of_before).await;
    world.admin(NORTH, "SELECT gavel.new_incarnation('test')");
    let of_now = Gid {
        home_incarnation: Incarnation(2),
        ..world.gid(batch(), NORTH, SOUTH)
    };
    world.prepare(&of_now).await;
    peers[&SOUTH].start(directory.clone());
    eventually("the other one is resolved", || {
        world.prepared(SOUTH) == [of_before.to_string()]
    })
    .await;
    eventually_async("the wait is shown with its reason", async || {
        let shown = waits_for(&directory, &of_before).await;
        shown.is_some_and(|text| text.contains("another incarnation"))
    })
    .await;
    assert_eq!(world.outcome(NORTH, of_before.batch), None, "never forced");
    let asked = directory.shard(SOUTH).expect("configured");
    let finished = asked
        .resolve_now(of_before.clone())
        .await
        .expect("reachable");
    assert!(matches!(finished, Finished::Unknown { .. }), "{finished:?}");
    assert_eq!(world.prepared(SOUTH), [of_before.to_string()]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn foreign_gids_are_never_touched() {
    let world = World::start(&["north", "south"]).await;
    let (peers, directory) = world.peers().await;
    let ours = world.gid(batch(), NORTH, SOUTH);
    let other_deployment = Gid {
        deployment: "other".parse().expect("a name"),
        ..world.gid(batch(), NORTH, SOUTH)
    };
    let other_shard = world.gid(batch(), NORTH, WEST);
    let mut foreign = vec![
        "pg_gid_16394_766".to_owned(),
        "gavel".to_owned(),
        "gavel:test:1:1:not-a-batch:2".to_owned(),
        format!("{ours} "),
        other_deployment.to_string(),
        other_shard.to_string(),
    ];
    foreign.sort();
    let hands = world.hands(SOUTH).await;
    for gid in &foreign {
        let sql = format!("BEGIN; SELECT pg_current_xact_id(); PREPARE TRANSACTION '{gid}'");
        for statement in sql.split("; ") {
            hands.run(statement).await.expect("prepare");
        }
    }
    world.prepare(&ours).await;
    peers[&SOUTH].start(directory.clone());
    eventually("ours is resolved", || {
        world.prepared(SOUTH).len() == foreign.len()
    })
    .await;
    assert_eq!(world.prepared(SOUTH), foreign);
    let listed = directory.shard(SOUTH).expect("configured").in_doubt().await;
    assert_eq!(listed, Ok(vec![]));
    let asked = directory.shard(SOUTH).expect("configured");
    let finished = asked
        .resolve_now(other_deployment)
        .await
        .expect("reachable");
    assert!(matches!(finished, Finished::Unknown { .. }), "{finished:?}");
    assert_eq!(world.prepared(SOUTH), foreign);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_zombie_prepare_after_the_abort_is_rolled_back() {
    let world = World::start(&["north", "south"]).await;
    let (peers, directory) = world.peers().await;
    peers[&SOUTH].start(directory.clone());
    let zombie = world.gid(batch(), NORTH, SOUTH);
    let answer = directory.shard(NORTH).expect("configured");
    answer.resolve(zombie.batch, Incarnation(1)).await;
    assert_eq!(world.outcome(NORTH, zombie.batch).as_deref(), Some("abort"));
    world.prepare(&zombie).await;
    eventually("it is gone", || world.prepared(SOUTH).is_empty()).await;
    assert!(!world.is_applied(SOUTH, zombie.batch));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_scan_survives_kill_9_of_its_server_and_of_homes() {
    let world = World::start(&["north", "south"]).await;
    let (peers, directory) = world.peers().await;
    peers[&SOUTH].start(directory.clone());
    let (committed, aborted) = (batch(), batch());
    for each in [committed, aborted] {
        world.prepare(&world.gid(each, NORTH, SOUTH)).await;
    }
    world.decide(committed, NORTH, &[SOUTH]).await;
    for tag in [NORTH, SOUTH] {
        world.server(tag).kill9().expect("kill");
    }
    for tag in [SOUTH, NORTH] {
        world.server(tag).start().expect("start");
    }
    eventually("both resolved", || world.prepared(SOUTH).is_empty()).await;
    assert!(world.is_applied(SOUTH, committed));
    assert!(!world.is_applied(SOUTH, aborted));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r14_below_the_floor_is_left_to_an_operator() {
    let world = World::start(&["north", "south"]).await;
    let (peers, directory) = world.peers().await;
    let gid = world.gid(batch(), NORTH, SOUTH);
    world.prepare(&gid).await;
    let floor = "UPDATE gavel.identity SET (floor, verified_floor, dropped_floor) = \
         (SELECT u, u, u FROM (SELECT gavel.uuid_at(gavel.now_ms() + 60000) AS u) AS at)";
    world.admin(NORTH, floor);
    peers[&SOUTH].start(directory.clone());
    eventually_async("it is shown as stuck", async || {
        let shown = waits_for(&directory, &gid).await;
        shown.is_some_and(|text| text.contains("an operator"))
    })
    .await;
    assert_eq!(world.prepared(SOUTH), [gid.to_string()]);
    assert_eq!(world.outcome(NORTH, gid.batch), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_resolves_one_branch_now() {
    let mut world = World::start(&["north", "south"]).await;
    world.limits.in_doubt_after_ms = 30_000;
    let (peers, directory) = world.peers().await;
    peers[&SOUTH].start(directory.clone());
    let gid = world.gid(batch(), NORTH, SOUTH);
    world.prepare(&gid).await;
    world.decide(gid.batch, NORTH, &[SOUTH]).await;
    let asked = directory.shard(SOUTH).expect("configured");
    assert_eq!(asked.resolve_now(gid.clone()).await, Ok(Finished::Done));
    assert!(world.is_applied(SOUTH, gid.batch));
    let again = asked.resolve_now(gid).await.expect("reachable");
    assert!(matches!(again, Finished::Unknown { .. }), "{again:?}");
}
