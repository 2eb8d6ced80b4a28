//! A shard that is not home loses branches that it had applied, while home has decided to commit.

use gavel_client::{Ack, Outcome, Status};
use gavel_devkit::Role;
use rstest::rstest;

use crate::stage::{ALPHA, BETA, DECISIONS, Damage, Stage, Transfer};

const KEPT: usize = 5;
const LOST: usize = 6;

/// What an operator does after the failover.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operator {
    BeginsANewIncarnation,
    DoesNothing,
}

#[rstest]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r16_what_a_shard_has_lost_is_reported(
    #[values(Operator::BeginsANewIncarnation, Operator::DoesNothing)] operator: Operator,
) {
    let mut stage = Stage::set(BETA).await;
    let kept = stage.transfers(DECISIONS, KEPT).await;
    // The standby gets its PREPARE, and never its COMMIT PREPARED.
    let resumed = stage.stuck_transfer(DECISIONS).await;
    stage.cut_off_standby();
    stage.come_back();
    stage
        .until("beta applies it", || stage.prepared(BETA).is_empty())
        .await;
    let lost = stage.transfers(DECISIONS, LOST).await;
    let local = stage.local(BETA).await;
    // Somebody waits until this one is applied, which it never will be.
    let (waiting, waits) = wait_in_vain(&mut stage).await;
    let decisions = stage.fail_over();
    assert_eq!(decisions.len(), 1, "beta is nobody else's home");
    if operator == Operator::BeginsANewIncarnation {
        stage.begin_new_incarnation();
    }
    stage.come_back();

    // The standby had its vote, and the decision is at home: it is applied once more.
    stage
        .until("what is prepared is resolved", || {
            stage.prepared(BETA).is_empty()
        })
        .await;
    assert_eq!(stage.marked(&resumed), [ALPHA, BETA]);
    let outcome = waits.await.expect("no panic");
    let lied = matches!(&outcome, Outcome::Committed(done) if done.applied);
    assert!(!lied, "beta does not have it: {outcome:?}");

    let missing: Vec<&Transfer> = lost.iter().chain([&waiting]).collect();
    let damage = lost_on_beta(&stage, &missing);
    assert_eq!(damage.len(), LOST + 1);
    stage.until_recorded(&damage).await;
    assert_eq!(stage.audit(), damage, "no more and no less");
    // It is gone, and left no trace on any other shard: not even an auditor can see that.
    assert!(stage.marked(&local).is_empty());
    for transfer in missing {
        assert_eq!(stage.marked(transfer), [ALPHA]);
        // What was decided was decided; that it is damaged is another matter.
        let status = stage.gavel.status(transfer.txid).await;
        assert_eq!(status.expect("a status"), Status::Committed);
        let again = transfer.submit(Ack::Applied).await;
        let lied = matches!(&again, Outcome::Committed(done) if done.applied);
        assert!(!lied, "{again:?}");
        assert_eq!(stage.marked(transfer), [ALPHA], "it is not done again");
    }
    for transfer in kept.iter().chain(&stage.transfers(DECISIONS, KEPT).await) {
        assert_eq!(stage.marked(transfer), [ALPHA, BETA]);
    }
    assert_eq!(stage.audit(), damage);
    let kinds: Vec<String> = stage.recorded().into_iter().map(|(_, kind)| kind).collect();
    assert_eq!(kinds, vec!["commit_lost"; LOST + 1]);
}

/// A transfer that is decided and prepared on beta, whose participant is dead; and its client.
async fn wait_in_vain(stage: &mut Stage) -> (Transfer, tokio::task::JoinHandle<Outcome>) {
    let beta = Role::Participant(BETA);
    stage.fleet.arm(beta, "participant.finish.received");
    stage.come_back();
    let transfer = stage.next_transfer(DECISIONS);
    let waits = tokio::spawn({
        let transfer = transfer.clone();
        async move { transfer.submit(Ack::Applied).await }
    });
    stage
        .until("the participant reaches the point", || {
            stage.fleet.dev.pid(beta).is_none()
        })
        .await;
    (transfer, waits)
}

/// By home's rows: the batch of every one of these, missing on beta.
fn lost_on_beta(stage: &Stage, transfers: &[&Transfer]) -> Damage {
    let batch_of = |transfer: &&Transfer| {
        let sql = format!(
            "SELECT batch FROM gavel.transaction WHERE txid = '{}' AND outcome = 'committed'",
            transfer.txid
        );
        let mut rows = stage.server(DECISIONS).sql("app", &sql).expect("SQL");
        let batch = rows.remove(0).remove(0).expect("a batch");
        assert_eq!(stage.applied_on(&batch), ["alpha"]);
        (batch, "beta".to_owned(), "commit_lost".to_owned())
    };
    transfers.iter().map(batch_of).collect()
}
