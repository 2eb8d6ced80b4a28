//! A home loses decisions that it had acknowledged, while other shards have applied their branches.

use std::collections::BTreeSet;

use gavel_client::{Ack, Outcome, RefusalCode, Status};
use rstest::rstest;

use crate::stage::{ALPHA, BETA, DECISIONS, Damage, Stage, Transfer};

const KEPT: usize = 5;
const LOST: usize = 6;

/// What was told before the failover.
struct Told {
    kept: Vec<Transfer>,
    lost: Vec<Transfer>,
    /// Decided, and prepared on beta; its decision is lost.
    stuck: Transfer,
}

/// All of it was told as committed; then the home dies, and the stale standby takes over.
async fn lose_decisions(stage: &mut Stage) -> (Told, BTreeSet<String>) {
    let home = stage.shard;
    let kept = stage.transfers(home, KEPT).await;
    stage.cut_off_standby();
    let lost = stage.transfers(home, LOST).await;
    let stuck = stage.stuck_transfer(home).await;
    let batches = stage.fail_over();
    assert_eq!(batches.len(), LOST + 1, "one at a time: one batch each");
    let told = Told { kept, lost, stuck };
    (told, batches)
}

/// Every branch row whose decision is gone. Which these are is read from the tables.
fn orphaned(stage: &Stage, batches: &BTreeSet<String>) -> Damage {
    let kind = "undecided_applied".to_owned();
    let of = |batch: &String| {
        let shards = stage.applied_on(batch);
        let row = |shard: &str| (batch.clone(), shard.to_owned(), kind.clone());
        shards.into_iter().map(row).collect::<Vec<_>>()
    };
    batches.iter().flat_map(of).collect()
}

#[rstest]
#[case::that_holds_decisions_only(DECISIONS)]
#[case::that_holds_data(ALPHA)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r16_what_a_home_has_lost_is_reported_and_never_done_twice(#[case] home: usize) {
    let mut stage = Stage::set(home).await;
    let (told, batches) = lose_decisions(&mut stage).await;
    stage.begin_new_incarnation();
    stage.come_back();

    let damage = orphaned(&stage, &batches);
    let shards_per_batch = if home == DECISIONS { 2 } else { 1 };
    let stuck_on = shards_per_batch - 1;
    assert_eq!(damage.len(), LOST * shards_per_batch + stuck_on);
    stage.until_recorded(&damage).await;
    assert_eq!(stage.audit(), damage, "no more and no less");
    assert_eq!(stage.recorded(), batches_and_kinds(&damage));

    // Nobody knows the outcome of what is prepared any more: it waits for a person.
    let waiting = stage.prepared(BETA);
    assert_eq!(waiting.len(), 1);
    until_it_waits_for_the_other_life(&stage).await;
    assert_eq!(stage.prepared(BETA), waiting, "nobody has ended it");
    // As docs/operations.md says: commit if another shard has applied it, roll back if none has.
    let verb = match home == DECISIONS {
        true => "COMMIT",
        false => "ROLLBACK",
    };
    let end = format!("{verb} PREPARED '{}'", waiting[0]);
    stage.server(BETA).sql("app", &end).expect("end it by hand");
    let expected = orphaned(&stage, &batches);
    stage.until_recorded(&expected).await;
    assert_eq!(stage.audit(), expected);

    // A txid of the earlier life is neither told as an outcome nor executed again.
    for transfer in told.lost.iter().chain([&told.stuck]) {
        let before = stage.marked(transfer);
        let status = stage.gavel.status(transfer.txid).await;
        assert_eq!(status.expect("a status"), Status::TooOld);
        let again = transfer.submit(Ack::Applied).await;
        let Outcome::Refused { why, .. } = &again else {
            panic!("{again:?}")
        };
        assert_eq!(why.code, RefusalCode::TxidTooOld);
        assert_eq!(stage.marked(transfer), before);
    }
    assert_kept(&stage, &told.kept).await;
    // The new life goes on, and is clean.
    stage.transfers(home, KEPT).await;
    assert_eq!(stage.audit(), expected);
    assert_eq!(stage.recorded(), batches_and_kinds(&expected));
}

#[rstest]
#[case::that_holds_decisions_only(DECISIONS)]
#[case::that_holds_data(ALPHA)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r16_without_a_new_incarnation_the_loss_is_reported_but_may_be_done_twice(
    #[case] home: usize,
) {
    let mut stage = Stage::set(home).await;
    let (told, batches) = lose_decisions(&mut stage).await;
    // The one that drove the stuck transaction knows its outcome, and would finish it.
    stage.kill_coordinators();
    stage.come_back();

    // Home looks as if it had never decided, so what is prepared is rolled back: the one told as
    // committed is then on no shard but those that had applied it.
    stage
        .until("the branch is resolved", || stage.prepared(BETA).is_empty())
        .await;
    assert!(!stage.marked(&told.stuck).contains(&BETA));
    let found = stage.audit();
    let pairs = |damage: &Damage| -> BTreeSet<(String, String)> {
        let pairs = damage
            .iter()
            .map(|(batch, shard, _)| (batch.clone(), shard.clone()));
        pairs.collect()
    };
    let orphaned = orphaned(&stage, &batches);
    // Of the one that was rolled back home says "aborted" now, instead of nothing.
    assert_eq!(pairs(&found), pairs(&orphaned));
    stage.until_recorded(&found).await;

    // This is why the new incarnation is needed: what was done can be done again.
    let transfer = &told.lost[0];
    let before = stage.marked(transfer);
    let status = stage.gavel.status(transfer.txid).await;
    assert_eq!(status.expect("a status"), Status::NoneYet);
    assert!(transfer.submit(Ack::Applied).await.is_committed());
    assert_eq!(stage.marked(transfer).len(), before.len() + 2);
    assert_kept(&stage, &told.kept).await;
    assert_eq!(stage.audit(), found, "which no auditor can see");
}

fn batches_and_kinds(damage: &Damage) -> BTreeSet<(String, String)> {
    let pairs = damage
        .iter()
        .map(|(batch, _, kind)| (batch.clone(), kind.clone()));
    pairs.collect()
}

/// Whatever had reached the standby is as it was.
async fn assert_kept(stage: &Stage, kept: &[Transfer]) {
    for transfer in kept {
        assert_eq!(stage.marked(transfer), [ALPHA, BETA]);
        let status = stage.gavel.status(transfer.txid).await;
        assert_eq!(status.expect("a status"), Status::Committed);
    }
}

/// Waits until `gavel in-doubt list` says why nobody ends the branch.
async fn until_it_waits_for_the_other_life(stage: &Stage) {
    stage
        .until("the branch says what it waits for", || {
            let (_, said) = stage.gavel(&["in-doubt", "list"]);
            said.to_string().contains("another incarnation")
        })
        .await;
}
