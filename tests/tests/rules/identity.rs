//! Who is who (R13).

use std::sync::Arc;

use gavel_coordinator::{Coordinator, Engine as _};
use gavel_participant::{Directory, Participant};
use gavel_protocol::message::Vote;
use gavel_protocol::{Outcome, ShardTag};
use gavel_tests::bank;
use gavel_tests::embedded::{Embedded, Home, submission};
use rstest::rstest;

use crate::between::Between;
use crate::{branch, fresh_batch};

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn r13_a_branch_meant_for_another_shard_is_refused(
    #[values(Home::OnAShard, Home::Dedicated)] home: Home,
) {
    let gavel = Embedded::start(home, 2).await;
    let wrong = gavel.directory.shard(ShardTag(1)).expect("shard 1");
    let answer = wrong.prepare(branch(&gavel, fresh_batch(), 1, 5)).await;
    assert!(matches!(answer.vote, Vote::No(_)), "{:?}", answer.vote);
    // A directory whose addresses are crossed never becomes ready, and commits nothing.
    let crossed: [Arc<dyn Participant>; 2] = [
        Arc::new(Between::new(&gavel.participants[1]).under_tag(ShardTag(1))),
        Arc::new(Between::new(&gavel.participants[0]).under_tag(ShardTag(2))),
    ];
    let crossed = Directory::new(crossed);
    let coordinator = Coordinator::start(gavel.shards.clone(), crossed, gavel.limits.clone());
    let txid = gavel.mint(1);
    let transfer = bank::transfer(txid, (ShardTag(1), 1), (ShardTag(2), 1), 1);
    let answer = coordinator.submit(submission(txid, transfer)).await;
    assert!(matches!(answer.outcome, Outcome::Refused(_)), "{answer:?}");
    gavel.sound_books().await;
}
