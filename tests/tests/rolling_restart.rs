//! Every process is told to stop and started again, one after the other, while money moves: an
//! upgrade, as clients with the library see it.

use std::time::{Duration, Instant};

use gavel_client::{Gavel, Outcome};
use gavel_devkit::Role;
use gavel_tests::bank::assert_sound;
use gavel_tests::crowd::Crowd;
use gavel_tests::fleet::{Fleet, RESOLVED_WITHIN};
use gavel_tests::load::assert_told_the_truth;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rolling_restart_fails_no_call() {
    let fleet = Fleet::start();
    // The library's own patience: a process may take its time to come back.
    let urls = fleet.dev.coordinator_urls();
    let gavel = Gavel::connect(urls).await.expect("connect");
    let crowd = Crowd::start(&gavel, fleet.data_shards());
    let roles = [
        Role::Coordinator(0),
        Role::Participant(0),
        Role::Participant(1),
        Role::Participant(2),
        Role::Coordinator(1),
    ];
    for role in roles {
        crowd.goes_on().await;
        tokio::task::block_in_place(|| {
            fleet.dev.terminate(role);
            fleet.dev.restart(role).expect("start it again");
        });
    }
    no_call_failed(&fleet, &gavel, crowd).await;
}

/// An operator has a coordinator take nothing new, and lets it go on later.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn draining_a_coordinator_fails_no_call() {
    let fleet = Fleet::start();
    let urls = fleet.dev.coordinator_urls();
    let gavel = Gavel::connect(urls.clone()).await.expect("connect");
    let one = Gavel::connect([urls[0].clone()]).await.expect("connect");
    let crowd = Crowd::start(&gavel, fleet.data_shards());
    crowd.goes_on().await;
    one.set_draining(true, "ticket 1").await.expect("drained");
    until_it_holds_nothing(&one).await;
    crowd.goes_on().await;
    let standing = one.standing().await.expect("a standing");
    assert!(standing.is_draining);
    assert_eq!((standing.in_flight, standing.sessions), (0, 0));
    one.set_draining(false, "ticket 2").await.expect("resumed");
    no_call_failed(&fleet, &gavel, crowd).await;
}

async fn no_call_failed(fleet: &Fleet, gavel: &Gavel, crowd: Crowd) {
    crowd.goes_on().await;
    let told = crowd.stop().await;
    for each in &told {
        let is_committed = matches!(each.outcome, Outcome::Committed(_));
        assert!(is_committed, "{each:?}");
    }
    fleet.wait_resolved(RESOLVED_WITHIN).await;
    let books = fleet.books();
    assert_sound(&books, 3);
    assert_told_the_truth(gavel, &told, &books).await;
}

async fn until_it_holds_nothing(coordinator: &Gavel) {
    let deadline = Instant::now() + RESOLVED_WITHIN;
    loop {
        let standing = coordinator.standing().await.expect("a standing");
        if standing.in_flight + standing.sessions == 0 {
            return;
        }
        assert!(Instant::now() < deadline, "{standing:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
