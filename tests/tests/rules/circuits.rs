//! A shard that does not answer (I7): its own transactions are refused at once, and nobody else
//! notices.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use gavel_coordinator::{Answer, Coordinator, Engine as _};
use gavel_participant::{Directory, Participant};
use gavel_protocol::{Outcome, RefusalCode, ShardTag};
use gavel_tests::bank;
use gavel_tests::embedded::{Embedded, Home, is_committed, submission, wait_until_ready};
use rstest::rstest;

use crate::between::Between;
use crate::until;

const LIMIT: Duration = Duration::from_secs(60);
const SILENT: ShardTag = ShardTag(3);

struct Stage {
    gavel: Embedded,
    coordinator: Coordinator,
}

impl Stage {
    async fn transfer(&self, to: ShardTag, account: i64) -> Answer {
        let txid = self.gavel.mint(1);
        let transfer = bank::transfer(txid, (ShardTag(1), account), (to, account), 1);
        self.coordinator.submit(submission(txid, transfer)).await
    }

    fn is_silent(&self) -> bool {
        let health = self.coordinator.shard_health();
        health
            .iter()
            .any(|(tag, why)| *tag == SILENT && why.is_some())
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn i7_a_shard_that_freezes_costs_nobody_else_anything(
    #[values(Home::OnAShard, Home::Dedicated)] home: Home,
) {
    let gavel = Embedded::start(home, 3).await;
    let each = gavel.participants.iter().map(Between::new);
    let each: Vec<Arc<Between>> = each.map(Arc::new).collect();
    let prepares = each[2].prepares();
    let directory = Directory::new(each.into_iter().map(|each| each as Arc<dyn Participant>));
    let coordinator = Coordinator::start(gavel.shards.clone(), directory, gavel.limits.clone());
    wait_until_ready(&coordinator).await;
    let stage = Arc::new(Stage { gavel, coordinator });
    let committed = stage.transfer(SILENT, 1).await;
    assert!(is_committed(&committed.outcome), "{committed:?}");

    let server = stage.gavel.server(SILENT);
    server.pause().expect("freeze the server");
    let victim = tokio::spawn({
        let stage = stage.clone();
        async move { stage.transfer(SILENT, 1).await }
    });
    until("the silence is noticed", LIMIT, || stage.is_silent()).await;
    let before = prepares.load(Ordering::Relaxed);
    for _ in 0..100 {
        let refused = stage.transfer(SILENT, 2).await;
        let Outcome::Refused(why) = &refused.outcome else {
            panic!("{refused:?}")
        };
        assert_eq!(why.code, RefusalCode::ShardUnavailable, "{why}");
        let other = stage.transfer(ShardTag(2), 3).await;
        assert!(is_committed(&other.outcome), "{other:?}");
    }
    assert_eq!(
        prepares.load(Ordering::Relaxed),
        before,
        "somebody was sent there"
    );

    // Its rows at home are free again, too: it does not wait for a vote that will not come.
    let victim = tokio::time::timeout(LIMIT, victim)
        .await
        .expect("an answer");
    let victim = victim.expect("no panic");
    assert!(matches!(victim.outcome, Outcome::Refused(_)), "{victim:?}");
    server.resume();
    until("it is used again", LIMIT, || !stage.is_silent()).await;
    let mut again = stage.transfer(SILENT, 2).await;
    while let Outcome::Refused(why) = &again.outcome {
        // Another one tries at this moment.
        assert_eq!(why.code, RefusalCode::ShardUnavailable, "{why}");
        again = stage.transfer(SILENT, 2).await;
    }
    assert!(is_committed(&again.outcome), "{again:?}");
    stage.gavel.sound_books().await;
}
