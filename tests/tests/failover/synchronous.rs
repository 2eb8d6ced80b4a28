//! A failover to a standby that has everything, while money moves.

use std::time::Duration;

use gavel_tests::bank::assert_sound;
use gavel_tests::fleet::RESOLVED_WITHIN;
use gavel_tests::load::{Load, assert_told_the_truth};
use rstest::rstest;

use crate::stage::{BETA, DECISIONS, Stage};

const SOME: usize = 20;
const LIMIT: Duration = Duration::from_secs(30);

/// The incarnation stays, and the operator gives the new address and restarts the participant.
#[rstest]
#[case::of_a_home(DECISIONS)]
#[case::of_another_shard(BETA)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r13_a_failover_that_loses_nothing_breaks_nothing(#[case] shard: usize) {
    let mut stage = Stage::set(shard).await;
    tokio::task::block_in_place(|| {
        let primary = stage.server(shard);
        let synchronous = primary.acknowledge_after(stage.standby());
        synchronous.expect("the standby is synchronous");
    });
    let shards = stage.fleet.data_shards();
    let load = Load::start(&stage.gavel, 6, shards, Some("decisions"));
    load.wait_committed(SOME, LIMIT).await;
    // It dies in the middle of something.
    stage
        .until("a branch is prepared", || !stage.prepared(BETA).is_empty())
        .await;
    stage.fail_over();
    stage.come_back();
    // What counts from here on was committed on the new primary.
    let before = load.committed();
    load.wait_committed(before + SOME, LIMIT).await;
    let told = load.stop().await;
    let none_left = || (0..3).all(|shard| stage.prepared(shard).is_empty());
    let resolved = tokio::time::timeout(RESOLVED_WITHIN, stage.until("at rest", none_left));
    resolved.await.expect("I6: resolved within the bound");
    let books = stage.books();
    assert_sound(&books, 3);
    let counts = assert_told_the_truth(&stage.gavel, &told, &books).await;
    println!("{counts:?}");
    assert!(stage.audit().is_empty());
    assert!(stage.recorded().is_empty());
}
