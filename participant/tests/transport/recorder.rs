//! The far end of the transport under test: a participant without a shard. It writes down what
//! it is asked, word for word, and answers with fixed values. Nothing here stands for
//! PostgreSQL; what is tested is that questions and answers arrive as they were sent.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use gavel_participant::api::{Attendance, Participant, Unavailable};
use gavel_protocol::message::*;
use gavel_protocol::{BatchId, DriverId, Gid, Incarnation, Principal, ShardTag, Txid};
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use crate::values;

/// What a recorder has seen, as watched by a test.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// The calls, in order of arrival, with all that they carried.
    pub calls: Vec<String>,
    /// Prepares that ran to their end.
    pub prepared: usize,
    /// Drivers that attend now.
    pub attending: Vec<DriverId>,
}

/// See the module.
pub struct Recorder {
    tag: ShardTag,
    seen: watch::Sender<Seen>,
    /// While closed, a prepare does not end.
    gate: watch::Sender<bool>,
    vote: Vote,
}

impl Recorder {
    /// A recorder that answers at once.
    pub fn open(tag: ShardTag) -> Arc<Self> {
        Self::build(tag, true, values::yes(1))
    }

    /// A recorder whose prepares wait for [`Self::let_go`].
    pub fn gated(tag: ShardTag) -> Arc<Self> {
        Self::build(tag, false, values::yes(1))
    }

    /// A recorder that votes like this.
    pub fn voting(tag: ShardTag, vote: Vote) -> Arc<Self> {
        Self::build(tag, true, vote)
    }

    fn build(tag: ShardTag, is_open: bool, vote: Vote) -> Arc<Self> {
        Arc::new(Self {
            tag,
            seen: watch::Sender::new(Seen::default()),
            gate: watch::Sender::new(is_open),
            vote,
        })
    }

    /// Ends the prepares that wait.
    pub fn let_go(&self) {
        self.gate.send_replace(true);
    }

    /// What has been seen so far.
    pub fn seen(&self) -> Seen {
        self.seen.borrow().clone()
    }

    /// Waits until `condition` holds of what has been seen.
    pub async fn wait(&self, what: &str, condition: impl FnMut(&Seen) -> bool) {
        let mut seen = self.seen.subscribe();
        let waited = tokio::time::timeout(crate::PATIENCE, seen.wait_for(condition)).await;
        assert!(waited.is_ok(), "{what}: {:?}", self.seen());
    }

    fn note(&self, call: String) {
        self.seen.send_modify(|seen| seen.calls.push(call));
    }
}

struct Presence {
    driver: DriverId,
    seen: watch::Sender<Seen>,
    lost: CancellationToken,
}

impl Attendance for Presence {
    fn lost(&self) -> WaitForCancellationFutureOwned {
        self.lost.clone().cancelled_owned()
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        let driver = self.driver;
        self.seen
            .send_modify(|seen| seen.attending.retain(|each| *each != driver));
    }
}

#[async_trait]
impl Participant for Recorder {
    fn tag(&self) -> ShardTag {
        self.tag
    }

    async fn identity(&self) -> Result<ShardIdentity, Unavailable> {
        self.note("identity".to_owned());
        Ok(values::identity(self.tag))
    }

    async fn attend(&self, driver: DriverId) -> Result<Arc<dyn Attendance>, Unavailable> {
        self.seen.send_modify(|seen| seen.attending.push(driver));
        Ok(Arc::new(Presence {
            driver,
            seen: self.seen.clone(),
            lost: CancellationToken::new(),
        }))
    }

    async fn prepare(&self, prepare: Prepare) -> PrepareAnswer {
        self.note(format!("{prepare:?}"));
        let mut gate = self.gate.subscribe();
        gate.wait_for(|is_open| *is_open)
            .await
            .expect("the sender lives in self");
        self.seen.send_modify(|seen| seen.prepared += 1);
        PrepareAnswer {
            vote: self.vote.clone(),
            results: values::results(),
        }
    }

    async fn decide(&self, decide: Decide) -> DecideAnswer {
        self.note(format!("{decide:?}"));
        DecideAnswer {
            decided: values::decided(),
            results: values::results(),
        }
    }

    async fn head_start(&self, head_start: HeadStart) -> HeadStarted {
        self.note(format!("{head_start:?}"));
        HeadStarted::Ready {
            left_out: BTreeMap::new(),
            results: values::results(),
        }
    }

    async fn finish(&self, branches: Vec<Finish>) -> Vec<Finished> {
        self.note(format!("{branches:?}"));
        values::finished()
    }

    async fn resolve(&self, batch: BatchId, incarnation: Incarnation) -> RegisterAnswer {
        self.note(format!("{:?}", (batch, incarnation)));
        values::register().remove(0)
    }

    async fn look_up_decisions(&self, batches: Vec<BatchId>) -> Vec<RegisterAnswer> {
        self.note(format!("{batches:?}"));
        values::register()
    }

    async fn look_up_branches(&self, batches: Vec<BatchId>) -> Result<Vec<BranchRow>, Unavailable> {
        self.note(format!("{batches:?}"));
        Ok(values::branch_rows())
    }

    async fn record_aborts(&self, record: RecordAborts) -> RecordAnswer {
        self.note(format!("{record:?}"));
        values::recorded()
    }

    async fn status(&self, txid: Txid, asker: Option<Principal>) -> StatusAnswer {
        self.note(format!("{:?}", (txid, asker)));
        values::status()
    }

    async fn session_open(&self, open: SessionOpen) -> SessionStep {
        self.note(format!("{open:?}"));
        SessionStep::Done
    }

    async fn session_execute(&self, execute: SessionExecute) -> Executed {
        self.note(format!("{execute:?}"));
        Executed::Done(values::results().remove(0).remove(0))
    }

    async fn session_prepare(&self, batch: BatchId) -> Vote {
        self.note(format!("{batch:?}"));
        self.vote.clone()
    }

    async fn session_enter_decision(&self, decide: Decide) -> SessionStep {
        self.note(format!("{decide:?}"));
        SessionStep::Failed(values::failure())
    }

    async fn session_commit(&self, batch: BatchId) -> Decided {
        self.note(format!("{batch:?}"));
        Decided::Committed
    }

    async fn session_rollback(&self, batch: BatchId) -> SessionStep {
        self.note(format!("{batch:?}"));
        SessionStep::Lost(values::refusal())
    }

    async fn in_doubt(&self) -> Result<Vec<InDoubtBranch>, Unavailable> {
        self.note("in_doubt".to_owned());
        Ok(values::in_doubt())
    }

    async fn resolve_now(&self, gid: Gid) -> Result<Finished, Unavailable> {
        self.note(format!("{gid:?}"));
        Ok(values::finished().remove(1))
    }

    async fn page_decisions(
        &self,
        after: Option<BatchId>,
        limit: u32,
    ) -> Result<Vec<DecisionRow>, Unavailable> {
        self.note(format!("{:?}", (after, limit)));
        Ok(values::decision_rows())
    }

    async fn page_branches(
        &self,
        after: Option<BatchId>,
        limit: u32,
    ) -> Result<Vec<BranchRow>, Unavailable> {
        self.note(format!("{:?}", (after, limit)));
        Ok(values::branch_rows())
    }

    async fn retention(&self) -> Result<Retention, Unavailable> {
        Err(Unavailable {
            shard: self.tag,
            detail: "no shard behind this".to_owned(),
        })
    }
}
