//! What a participant does for others: the one seam between coordinator, participants and
//! transports.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use gavel_protocol::message::{
    BranchRow, Decide, DecideAnswer, Decided, DecisionRow, Executed, Finish, Finished, HeadStart,
    HeadStarted, InDoubtBranch, Prepare, PrepareAnswer, RecordAborts, RecordAnswer, RegisterAnswer,
    Retention, SessionExecute, SessionOpen, SessionStep, ShardIdentity, StatusAnswer, Vote,
};
use gavel_protocol::{BatchId, DriverId, Incarnation, Principal, ShardTag, Txid};
use parking_lot::RwLock;

/// A participant could not be asked, or could not ask its shard. Says nothing about any
/// transaction.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("shard {shard} is unavailable: {detail}")]
pub struct Unavailable {
    /// Which shard.
    pub shard: ShardTag,
    /// For people.
    pub detail: String,
}

/// Held by a driver for as long as it lives. Dropping it, or the loss of the connection behind
/// it, tells the participant that the driver's branches are in doubt (R15).
pub trait Attendance: Send + Sync {
    /// Resolves when the participant is no longer aware of the driver: attend again.
    fn lost(&self) -> tokio_util::sync::WaitForCancellationFutureOwned;
}

/// One shard, as coordinators and other participants use it.
///
/// No method fails on behalf of a transaction: where an answer can be missing, the answer's type
/// has a value for it (`Unknown`, `Unreachable`). Dropping the future of a call does not undo
/// the call.
#[async_trait]
pub trait Participant: Send + Sync + 'static {
    /// The shard that this participant fronts.
    fn tag(&self) -> ShardTag;

    /// Who the shard says it is, checked against its database (R13).
    async fn identity(&self) -> Result<ShardIdentity, Unavailable>;

    /// Announces a driver. While the result is held and its stream is up, the driver's branches
    /// are left to it.
    async fn attend(&self, driver: DriverId) -> Result<Arc<dyn Attendance>, Unavailable>;

    /// Prepares a branch.
    async fn prepare(&self, prepare: Prepare) -> PrepareAnswer;

    /// Decides a batch whose home this shard is.
    async fn decide(&self, decide: Decide) -> DecideAnswer;

    /// Does at home, in a session, what [`Participant::decide`] would, and stops before the
    /// COMMIT. [`Participant::session_commit`] decides then. It is undone by
    /// [`Participant::session_rollback`], by a decide or a resolution of the batch, and when the
    /// driver is gone.
    async fn head_start(&self, head_start: HeadStart) -> HeadStarted;

    /// Finishes prepared branches; one answer per entry, in order.
    async fn finish(&self, branches: Vec<Finish>) -> Vec<Finished>;

    /// The decision on a batch whose home this shard is, forced to `abort` if there is none yet
    /// (R7), read back, and behind a barrier (R6).
    async fn resolve(&self, batch: BatchId, incarnation: Incarnation) -> RegisterAnswer;

    /// The decisions on these batches, without forcing any; one answer per batch, in order,
    /// behind one barrier.
    async fn look_up_decisions(&self, batches: Vec<BatchId>) -> Vec<RegisterAnswer>;

    /// Which of these batches have a branch row here, behind a barrier.
    async fn look_up_branches(&self, batches: Vec<BatchId>) -> Result<Vec<BranchRow>, Unavailable>;

    /// Records aborts at home, unless an outcome is recorded already.
    async fn record_aborts(&self, record: RecordAborts) -> RecordAnswer;

    /// What is recorded of a txid whose home this shard is. `asker` is `None` for an operator.
    async fn status(&self, txid: Txid, asker: Option<Principal>) -> StatusAnswer;

    /// Opens an interactive branch. At home no branch row is written: home's rows come with
    /// [`Participant::session_enter_decision`].
    async fn session_open(&self, open: SessionOpen) -> SessionStep;

    /// Runs a statement in an interactive branch.
    async fn session_execute(&self, execute: SessionExecute) -> Executed;

    /// Prepares an interactive branch.
    async fn session_prepare(&self, batch: BatchId) -> Vote;

    /// At home: inserts decision and transaction rows into the open session, after its work and
    /// before any PREPARE (design §5).
    async fn session_enter_decision(&self, decide: Decide) -> SessionStep;

    /// At home: commits the open session, which is the decision.
    async fn session_commit(&self, batch: BatchId) -> Decided;

    /// Rolls an interactive branch back, before it is prepared.
    async fn session_rollback(&self, batch: BatchId) -> SessionStep;

    /// Prepared branches of this deployment on this shard, with their age.
    async fn in_doubt(&self) -> Result<Vec<InDoubtBranch>, Unavailable>;

    /// Resolves one prepared branch of this shard now, whatever its age. For operators.
    async fn resolve_now(&self, gid: gavel_protocol::Gid) -> Result<Finished, Unavailable>;

    /// Decisions after `after`, in order, at most `limit`. For the auditor.
    async fn page_decisions(
        &self,
        after: Option<BatchId>,
        limit: u32,
    ) -> Result<Vec<DecisionRow>, Unavailable>;

    /// Branch rows after `after`, in order, at most `limit`. For the auditor.
    async fn page_branches(
        &self,
        after: Option<BatchId>,
        limit: u32,
    ) -> Result<Vec<BranchRow>, Unavailable>;

    /// How far retention has gone here.
    async fn retention(&self) -> Result<Retention, Unavailable>;
}

/// Every shard's participant, by tag. Clones are the same directory: a shard that comes or goes
/// does so for everybody.
#[derive(Clone, Default)]
pub struct Directory(Arc<RwLock<Participants>>);

type Participants = BTreeMap<ShardTag, Arc<dyn Participant>>;

impl Directory {
    /// A directory of these participants.
    pub fn new(participants: impl IntoIterator<Item = Arc<dyn Participant>>) -> Self {
        let directory = Self::default();
        directory.replace(participants);
        directory
    }

    /// Has these participants from now on, and no others.
    pub fn replace(&self, participants: impl IntoIterator<Item = Arc<dyn Participant>>) {
        let participants = participants.into_iter();
        *self.0.write() = participants.map(|each| (each.tag(), each)).collect();
    }

    /// The participant of a shard.
    pub fn shard(&self, tag: ShardTag) -> Option<Arc<dyn Participant>> {
        self.0.read().get(&tag).cloned()
    }

    /// All participants of this moment, by tag.
    pub fn iter(&self) -> impl Iterator<Item = (ShardTag, Arc<dyn Participant>)> {
        let now = self.0.read().clone();
        now.into_iter()
    }
}
