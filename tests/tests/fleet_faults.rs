//! Faults from outside, under load: servers killed, a coordinator frozen, no coordinator left.

use std::time::{Duration, Instant};

use gavel_client::Gavel;
use gavel_devkit::Role;
use gavel_tests::bank::{self, assert_sound};
use gavel_tests::fleet::{Fleet, RESOLVED_WITHIN};
use gavel_tests::load::{Load, assert_told_the_truth, declared};
use local_postgres::Mode;

const READY_WITHIN: Duration = Duration::from_secs(30);
/// The participant of the shard that only decides.
const HOME: Role = Role::Participant(2);

/// Somebody restores home's database from a backup, says so as they should, and starts its
/// participant, which must not be running.
fn restore_home(fleet: &Fleet) {
    fleet.dev.servers()[2]
        .sql(bank::DATABASE, "SELECT gavel.new_incarnation('test')")
        .expect("begin another incarnation");
    fleet.dev.restart(HOME).expect("start the participant");
    fleet
        .dev
        .wait_ready(READY_WITHIN)
        .expect("everybody is back");
}

/// Waits until a branch is prepared, so that the fault strikes something (a fault that misses
/// proves nothing).
async fn until_prepared(fleet: &Fleet) {
    let started = Instant::now();
    while fleet.prepared().is_empty() {
        assert!(
            started.elapsed() < READY_WITHIN,
            "nothing was ever seen prepared"
        );
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn servers_killed_under_load_lose_nothing() {
    let fleet = Fleet::start();
    let gavel = fleet.client().await;
    let load = Load::start(&gavel, 6, fleet.data_shards(), None);
    for server in &fleet.dev.servers()[..2] {
        for immediate in [false, true] {
            until_prepared(&fleet).await;
            tokio::task::block_in_place(|| {
                if immediate {
                    server.stop(Mode::Immediate).expect("stop the server");
                } else {
                    server.kill9().expect("kill the server");
                }
                server.start().expect("start the server again");
                server.wait_ready().expect("the server is back");
            });
            fleet
                .dev
                .wait_ready(READY_WITHIN)
                .expect("everybody is back");
        }
    }
    until_prepared(&fleet).await;
    let told = load.stop().await;
    fleet.wait_resolved(RESOLVED_WITHIN).await;
    let books = fleet.books();
    assert_sound(&books, 3);
    let counts = assert_told_the_truth(&gavel, &told, &books).await;
    assert!(counts.committed > 0, "{counts:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_any_coordinator_the_participants_resolve() {
    let fleet = Fleet::start();
    let gavel = fleet.client().await;
    // Both die right after they know of a decision, so that committed branches are left behind.
    for index in 0..2 {
        fleet.arm(Role::Coordinator(index), "coordinator.decide.answered@5");
    }
    fleet.dev.wait_ready(READY_WITHIN).expect("ready");
    let load = Load::start(&gavel, 6, fleet.data_shards(), None);
    for index in 0..2 {
        let died = tokio::task::block_in_place(|| {
            fleet.dev.wait_exit(Role::Coordinator(index), READY_WITHIN)
        });
        died.expect("the coordinator reached the point");
    }
    let resolved = fleet.wait_resolved(RESOLVED_WITHIN).await;
    println!("at rest {resolved:.1?} after the last coordinator died");
    // Their answers come from the books once a coordinator is back.
    fleet
        .dev
        .restart(Role::Coordinator(0))
        .expect("one coordinator comes back");
    let told = load.stop().await;
    fleet.wait_resolved(RESOLVED_WITHIN).await;
    let books = fleet.books();
    assert_sound(&books, 3);
    assert_told_the_truth(&gavel, &told, &books).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_coordinator_is_resolved_by_others_and_changes_nothing_when_it_wakes() {
    let fleet = Fleet::start();
    let gavel = fleet.client().await;
    let load = Load::start(&gavel, 6, fleet.data_shards(), None);
    let frozen = Role::Coordinator(0);
    for _ in 0..3 {
        // Freeze it while one of its branches is prepared.
        let started = Instant::now();
        loop {
            until_prepared(&fleet).await;
            fleet.dev.pause(frozen).expect("freeze");
            if !fleet.prepared().is_empty() {
                break;
            }
            fleet.dev.resume(frozen).expect("wake");
            assert!(
                started.elapsed() < READY_WITHIN,
                "nothing was prepared when it froze"
            );
        }
        // The other coordinator's traffic goes on, so ask only for what is prepared now.
        let stuck = fleet.prepared();
        let deadline = Instant::now() + RESOLVED_WITHIN;
        while fleet.prepared().iter().any(|gid| stuck.contains(gid)) {
            assert!(
                Instant::now() < deadline,
                "still prepared: {:?}",
                fleet.prepared()
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        fleet.dev.resume(frozen).expect("wake");
    }
    let told = load.stop().await;
    fleet.wait_resolved(RESOLVED_WITHIN).await;
    let books = fleet.books();
    assert_sound(&books, 3);
    assert_told_the_truth(&gavel, &told, &books).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_home_delays_nobody_but_its_own() {
    let fleet = Fleet::start();
    let gavel = fleet.client().await;
    let own = Load::start(&gavel, 3, fleet.data_shards(), Some("decisions"));
    until_prepared(&fleet).await;
    let home = &fleet.dev.servers()[2];
    tokio::task::block_in_place(|| home.kill9().expect("kill the home"));
    let others = Load::start(&gavel, 3, fleet.data_shards(), None);
    others.wait_committed(100, READY_WITHIN).await;
    let told_others = others.stop().await;
    tokio::task::block_in_place(|| {
        home.start().expect("start the home again");
        home.wait_ready().expect("the home is back");
    });
    let told_own = own.stop().await;
    fleet
        .dev
        .wait_ready(READY_WITHIN)
        .expect("everybody is back");
    fleet.wait_resolved(RESOLVED_WITHIN).await;
    let books = fleet.books();
    assert_sound(&books, 3);
    assert_told_the_truth(&gavel, &told_own, &books).await;
    assert_told_the_truth(&gavel, &told_others, &books).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_coordinator_told_to_stop_finishes_what_it_holds() {
    let fleet = Fleet::start();
    let gavel = fleet.client_of(0).await;
    let load = Load::start(&gavel, 6, fleet.data_shards(), None);
    load.wait_committed(20, READY_WITHIN).await;
    until_prepared(&fleet).await;
    tokio::task::block_in_place(|| fleet.dev.terminate(Role::Coordinator(0)));
    assert_eq!(
        fleet.prepared(),
        Vec::<String>::new(),
        "it left something in doubt"
    );
    fleet.dev.restart(Role::Coordinator(0)).expect("start it");
    let told = load.stop().await;
    for each in &told {
        assert!(
            !matches!(each.outcome, gavel_client::Outcome::InDoubt { .. }),
            "it did not answer for what it had taken: {each:?}"
        );
    }
    fleet.wait_resolved(RESOLVED_WITHIN).await;
    let books = fleet.books();
    assert_sound(&books, 3);
    assert_told_the_truth(&gavel, &told, &books).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r13_a_home_restored_while_a_session_is_open_commits_nothing_of_it() {
    let fleet = Fleet::start();
    let gavel = fleet.client_of(0).await;
    let [first, second] = fleet.data_shards();
    let isolation = gavel_protocol::Isolation::ReadCommitted;
    let mut session = gavel
        .begin_at("decisions", isolation)
        .await
        .expect("begin with the dedicated home");
    let txid = session.txid();
    let name = txid.to_string();
    for (shard, amount) in [(first, -1), (second, 1)] {
        for (sql, params) in [
            (
                "UPDATE account SET balance = balance + $1 WHERE id = $2",
                gavel_client::params![amount, 1],
            ),
            (
                "INSERT INTO mark VALUES ($1, $2, $3)",
                gavel_client::params![name.as_str(), 1, amount],
            ),
        ] {
            let rows = session.execute(shard, sql, params).await;
            assert_eq!(rows.expect("the session is open"), 1);
        }
    }
    fleet.dev.kill(HOME).expect("stop the participant");
    restore_home(&fleet);
    let outcome = session.commit().await;
    // Its branches name home's earlier life. (The register would refuse it, too: its batch is
    // older than the new life. But nobody needs to be told that its outcome is unknown.)
    let gavel_client::Outcome::Refused { why, .. } = &outcome else {
        panic!("{outcome:?}")
    };
    assert_eq!(why.code, gavel_protocol::RefusalCode::SessionLost, "{why}");
    fleet.wait_resolved(RESOLVED_WITHIN).await;
    let books = fleet.books();
    assert_sound(&books, 3);
    assert!(!books.has(txid));
}

/// Its batch can never learn its outcome. That must not keep the lane from everybody else.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r13_a_home_restored_while_it_decides_leaves_its_batch_in_doubt_and_its_lane_free() {
    let fleet = Fleet::start();
    let gavel = fleet.client_of(0).await;
    let [first, second] = fleet.data_shards();
    let transfer = async |gavel: Gavel, account: i64| {
        let txid = gavel.mint("decisions").expect("a shard");
        declared(&gavel, txid, (first, account), (second, account)).await
    };
    fleet.arm(HOME, "participant.decide.executed");
    fleet
        .dev
        .wait_ready(READY_WITHIN)
        .expect("everybody is there");
    let doubtful = tokio::spawn(transfer(gavel.clone(), 1));
    let died = Instant::now();
    while fleet.hits().is_empty() {
        assert!(died.elapsed() < READY_WITHIN, "home has never decided");
        tokio::task::yield_now().await;
    }
    restore_home(&fleet);
    let outcome = transfer(gavel.clone(), 2).await;
    assert!(outcome.is_committed(), "the same lane: {outcome:?}");
    let outcome = doubtful.await.expect("no panic");
    let gavel_client::Outcome::InDoubt { txid, .. } = outcome else {
        panic!("{outcome:?}")
    };
    // Nobody knows what was decided, so nobody but a person ends its branches.
    assert_eq!(fleet.prepared().len(), 2);
    for (server, gid) in fleet.dev.servers().iter().zip(fleet.prepared()) {
        let rollback = format!("ROLLBACK PREPARED '{gid}'");
        server.sql(bank::DATABASE, &rollback).expect("by hand");
    }
    let books = fleet.books();
    assert_sound(&books, 3);
    assert!(!books.has(txid));
}
