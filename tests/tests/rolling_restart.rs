//! Every process is told to stop and started again, one after the other, while money moves: an
//! upgrade, as clients with the library see it.

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
    crowd.goes_on().await;
    let told = crowd.stop().await;
    for each in &told {
        let is_committed = matches!(each.outcome, Outcome::Committed(_));
        assert!(is_committed, "{each:?}");
    }
    fleet.wait_resolved(RESOLVED_WITHIN).await;
    let books = fleet.books();
    assert_sound(&books, 3);
    assert_told_the_truth(&gavel, &told, &books).await;
}
