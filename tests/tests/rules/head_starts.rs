//! Home at work ahead of the votes, where that goes wrong.

use std::sync::Arc;
use std::time::Duration;

use gavel_coordinator::{Coordinator, Engine as _};
use gavel_participant::{Directory, Participant};
use gavel_protocol::{Limits, Outcome, ShardTag};
use gavel_tests::bank;
use gavel_tests::embedded::{Embedded, Home, submission, wait_until_ready};
use rstest::rstest;

use crate::between::Between;

/// Far more than anything in these tests may take.
const NEVER: Duration = Duration::from_secs(60);

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn the_session_of_a_head_start_whose_answer_was_lost_ends_with_its_batch(
    #[values(Home::OnAShard, Home::Dedicated)] home: Home,
) {
    // Nobody sweeps idle sessions while the test runs.
    let limits = Limits {
        prepare_timeout_ms: 2 * u64::try_from(NEVER.as_millis()).expect("a minute"),
        ..Limits::default()
    };
    let gavel = Embedded::start_with(home, 2, limits, |options| options).await;
    let lossy = gavel
        .participants
        .iter()
        .map(|each| Arc::new(Between::new(each).losing_head_starts()) as Arc<dyn Participant>);
    let lossy = Directory::new(lossy);
    let coordinator = Coordinator::start(gavel.shards.clone(), lossy, gavel.limits.clone());
    wait_until_ready(&coordinator).await;
    // The payee does not exist: the branch fails, and home is never asked to decide.
    let txid = gavel.mint(1);
    let transfer = bank::transfer(txid, (ShardTag(1), 1), (ShardTag(2), 999_999), 1);
    let answer = tokio::time::timeout(NEVER, coordinator.submit(submission(txid, transfer))).await;
    let answer = answer.expect("home's rows stand in nobody's way");
    assert!(matches!(answer.outcome, Outcome::Aborted(_)), "{answer:?}");
    // Nor in that of the next one.
    let txid = gavel.mint(1);
    let transfer = bank::transfer(txid, (ShardTag(1), 1), (ShardTag(2), 1), 1);
    let answer = tokio::time::timeout(NEVER, coordinator.submit(submission(txid, transfer))).await;
    let answer = answer.expect("the account is free");
    assert!(
        matches!(answer.outcome, Outcome::Committed { .. }),
        "{answer:?}"
    );
    gavel.sound_books().await;
}
