//! A participant with something wrong on the way to it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use gavel_participant::{Attendance, LocalParticipant, Participant, Unavailable};
use gavel_protocol::message::*;
use gavel_protocol::{BatchId, DriverId, Gid, Incarnation, Principal, ShardTag, Txid};

/// A real participant, as a coordinator finds it.
pub(crate) struct Between {
    inner: LocalParticipant,
    tag: ShardTag,
    loses_head_starts: bool,
    prepares: Arc<AtomicUsize>,
}

impl Between {
    /// With nothing wrong.
    pub(crate) fn new(inner: &LocalParticipant) -> Self {
        Self {
            tag: inner.tag(),
            inner: inner.clone(),
            loses_head_starts: false,
            prepares: Arc::default(),
        }
    }

    /// Under a wrong tag, as a mistaken address would give.
    pub(crate) fn under_tag(self, tag: ShardTag) -> Self {
        Self { tag, ..self }
    }

    /// How many prepares have come this way.
    pub(crate) fn prepares(&self) -> Arc<AtomicUsize> {
        self.prepares.clone()
    }

    /// Head starts are done, and their answers do not come.
    pub(crate) fn losing_head_starts(self) -> Self {
        Self {
            loses_head_starts: true,
            ..self
        }
    }
}

macro_rules! forward {
    ($($name:ident($($arg:ident: $type:ty),*) -> $out:ty;)+) => {
        #[async_trait::async_trait]
        impl Participant for Between {
            fn tag(&self) -> ShardTag { self.tag }
            async fn prepare(&self, message: Prepare) -> PrepareAnswer {
                self.prepares.fetch_add(1, Ordering::Relaxed);
                self.inner.prepare(message).await
            }
            async fn head_start(&self, message: HeadStart) -> HeadStarted {
                let started = self.inner.head_start(message).await;
                match self.loses_head_starts {
                    true => HeadStarted::Not { detail: "the answer was lost".to_owned() },
                    false => started,
                }
            }
            $(async fn $name(&self, $($arg: $type),*) -> $out { self.inner.$name($($arg),*).await })+
        }
    };
}

forward! {
    identity() -> Result<ShardIdentity, Unavailable>;
    attend(driver: DriverId) -> Result<Arc<dyn Attendance>, Unavailable>;
    decide(message: Decide) -> DecideAnswer;
    finish(branches: Vec<Finish>) -> Vec<Finished>;
    resolve(batch: BatchId, incarnation: Incarnation) -> RegisterAnswer;
    look_up_decisions(batches: Vec<BatchId>) -> Vec<RegisterAnswer>;
    look_up_branches(batches: Vec<BatchId>) -> Result<Vec<BranchRow>, Unavailable>;
    record_aborts(record: RecordAborts) -> RecordAnswer;
    status(txid: Txid, asker: Option<Principal>) -> StatusAnswer;
    session_open(open: SessionOpen) -> SessionStep;
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
