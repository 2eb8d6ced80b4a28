//! Who is who (R13).

use std::sync::Arc;

use gavel_coordinator::{Coordinator, Engine as _};
use gavel_participant::{Attendance, Directory, LocalParticipant, Participant, Unavailable};
use gavel_protocol::message::*;
use gavel_protocol::{BatchId, DriverId, Gid, Incarnation, Outcome, Principal, ShardTag, Txid};
use gavel_tests::bank;
use gavel_tests::embedded::{Embedded, Home, submission};
use rstest::rstest;

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
    let crossed = Directory::new([
        Arc::new(Crossed(gavel.participants[1].clone(), ShardTag(1))) as Arc<dyn Participant>,
        Arc::new(Crossed(gavel.participants[0].clone(), ShardTag(2))),
    ]);
    let coordinator = Coordinator::start(gavel.shards.clone(), crossed, gavel.limits.clone());
    let txid = gavel.mint(1);
    let transfer = bank::transfer(txid, (ShardTag(1), 1), (ShardTag(2), 1), 1);
    let answer = coordinator.submit(submission(txid, transfer)).await;
    assert!(matches!(answer.outcome, Outcome::Refused(_)), "{answer:?}");
    gavel.sound_books().await;
}

/// A participant under a wrong tag, as a mistaken address would give.
struct Crossed(LocalParticipant, ShardTag);

macro_rules! forward {
    ($($name:ident($($arg:ident: $type:ty),*) -> $out:ty;)+) => {
        #[async_trait::async_trait]
        impl Participant for Crossed {
            fn tag(&self) -> ShardTag { self.1 }
            $(async fn $name(&self, $($arg: $type),*) -> $out { self.0.$name($($arg),*).await })+
        }
    };
}

forward! {
    identity() -> Result<ShardIdentity, Unavailable>;
    attend(driver: DriverId) -> Result<Arc<dyn Attendance>, Unavailable>;
    prepare(message: Prepare) -> PrepareAnswer;
    decide(message: Decide) -> DecideAnswer;
    head_start(message: HeadStart) -> HeadStarted;
    finish(branches: Vec<Finish>) -> Vec<Finished>;
    resolve(batch: BatchId, incarnation: Incarnation) -> RegisterAnswer;
    look_up_decisions(batches: Vec<BatchId>) -> Vec<RegisterAnswer>;
    look_up_branches(batches: Vec<BatchId>) -> Result<Vec<BranchRow>, Unavailable>;
    record_aborts(record: RecordAborts) -> RecordAnswer;
    status(txid: Txid, asker: Option<Principal>) -> StatusAnswer;
    session_open(open: SessionOpen, is_home: bool) -> SessionStep;
    session_execute(execute: SessionExecute) -> Executed;
    session_prepare(batch: BatchId) -> Vote;
    session_enter_decision(decide: Decide) -> SessionStep;
    session_commit(batch: BatchId) -> Decided;
    session_rollback(batch: BatchId) -> SessionStep;
    in_doubt() -> Result<Vec<InDoubtBranch>, Unavailable>;
    resolve_now(gid: Gid) -> Result<Finished, Unavailable>;
    page_decisions(after: Option<BatchId>, limit: u32) -> Result<Vec<DecisionRow>, Unavailable>;
    page_branches(after: Option<BatchId>, limit: u32) -> Result<Vec<BranchRow>, Unavailable>;
    retention() -> Result<Retention, Unavailable>;
}
