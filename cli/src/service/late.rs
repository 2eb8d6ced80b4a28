//! A participant in this process whose shard may not be up yet.
//!
//! Until it is, every answer says honestly that nothing was done or that nothing is known, just
//! as a participant behind gRPC that cannot be reached.

use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use gavel_participant::{Attendance, LocalParticipant, Participant, Unavailable};
use gavel_protocol::message::{
    BranchRow, Decide, DecideAnswer, Decided, DecisionRow, Executed, Finish, Finished, HeadStart,
    HeadStarted, InDoubtBranch, MemberFailure, NoVote, Prepare, PrepareAnswer, RecordAborts,
    RecordAnswer, RegisterAnswer, Retention, SessionExecute, SessionOpen, SessionStep,
    ShardIdentity, StatusAnswer, Vote,
};
use gavel_protocol::{
    BatchId, DriverId, Gid, Incarnation, Principal, Refusal, RefusalCode, ShardTag, Txid,
};

const DOWN: &str = "the shard has been down since this process started";
const UNHEARD: &str = "its participant has not announced where it is";

/// Set once its shard has been opened.
pub(super) struct LateParticipant {
    tag: ShardTag,
    opened: OnceLock<LocalParticipant>,
    /// Why it does not answer until then.
    detail: &'static str,
}

impl LateParticipant {
    pub(super) fn new(tag: ShardTag) -> Self {
        Self {
            tag,
            opened: OnceLock::new(),
            detail: DOWN,
        }
    }

    /// Stands for a participant that may be anywhere.
    pub(super) fn unheard(tag: ShardTag) -> Self {
        Self {
            detail: UNHEARD,
            ..Self::new(tag)
        }
    }

    /// From now on the participant answers.
    pub(super) fn set(&self, participant: LocalParticipant) {
        let is_first = self.opened.set(participant).is_ok();
        assert!(is_first, "a shard is opened once");
    }

    /// The participant, once its shard has been opened.
    pub(super) fn participant(&self) -> Option<&LocalParticipant> {
        self.opened.get()
    }

    fn opened(&self) -> Result<&LocalParticipant, Unavailable> {
        self.opened.get().ok_or_else(|| Unavailable {
            shard: self.tag,
            detail: self.detail.to_owned(),
        })
    }
}

fn refusal(unavailable: &Unavailable) -> Refusal {
    Refusal::new(RefusalCode::ShardUnavailable, unavailable.to_string())
}

fn lost(unavailable: &Unavailable) -> SessionStep {
    SessionStep::Lost(refusal(unavailable))
}

#[async_trait]
impl Participant for LateParticipant {
    fn tag(&self) -> ShardTag {
        self.tag
    }

    async fn identity(&self) -> Result<ShardIdentity, Unavailable> {
        self.opened()?.identity().await
    }

    async fn attend(&self, driver: DriverId) -> Result<Arc<dyn Attendance>, Unavailable> {
        self.opened()?.attend(driver).await
    }

    async fn prepare(&self, prepare: Prepare) -> PrepareAnswer {
        match self.opened() {
            Ok(participant) => participant.prepare(prepare).await,
            Err(down) => PrepareAnswer {
                vote: Vote::No(NoVote::Refused(refusal(&down))),
                results: Vec::new(),
            },
        }
    }

    async fn decide(&self, decide: Decide) -> DecideAnswer {
        match self.opened() {
            Ok(participant) => participant.decide(decide).await,
            // Every other value claims that something is recorded.
            Err(down) => DecideAnswer {
                decided: Decided::Unknown {
                    detail: down.to_string(),
                },
                results: Vec::new(),
            },
        }
    }

    async fn head_start(&self, head_start: HeadStart) -> HeadStarted {
        match self.opened() {
            Ok(participant) => participant.head_start(head_start).await,
            Err(down) => HeadStarted::Not {
                detail: down.to_string(),
            },
        }
    }

    async fn finish(&self, branches: Vec<Finish>) -> Vec<Finished> {
        match self.opened() {
            Ok(participant) => participant.finish(branches).await,
            Err(down) => {
                let detail = down.to_string();
                vec![Finished::Unknown { detail }; branches.len()]
            }
        }
    }

    async fn resolve(&self, batch: BatchId, incarnation: Incarnation) -> RegisterAnswer {
        match self.opened() {
            Ok(participant) => participant.resolve(batch, incarnation).await,
            Err(down) => RegisterAnswer::Unreachable {
                detail: down.to_string(),
            },
        }
    }

    async fn look_up_decisions(&self, batches: Vec<BatchId>) -> Vec<RegisterAnswer> {
        match self.opened() {
            Ok(participant) => participant.look_up_decisions(batches).await,
            Err(down) => {
                let detail = down.to_string();
                vec![RegisterAnswer::Unreachable { detail }; batches.len()]
            }
        }
    }

    async fn look_up_branches(&self, batches: Vec<BatchId>) -> Result<Vec<BranchRow>, Unavailable> {
        self.opened()?.look_up_branches(batches).await
    }

    async fn record_aborts(&self, record: RecordAborts) -> RecordAnswer {
        match self.opened() {
            Ok(participant) => participant.record_aborts(record).await,
            Err(down) => RecordAnswer::Refused(refusal(&down)),
        }
    }

    async fn status(&self, txid: Txid, asker: Option<Principal>) -> StatusAnswer {
        match self.opened() {
            Ok(participant) => participant.status(txid, asker).await,
            Err(down) => StatusAnswer::Unreachable {
                detail: down.to_string(),
            },
        }
    }

    async fn session_open(&self, open: SessionOpen) -> SessionStep {
        match self.opened() {
            Ok(participant) => participant.session_open(open).await,
            Err(down) => SessionStep::Failed(MemberFailure::Refused(refusal(&down))),
        }
    }

    async fn session_execute(&self, execute: SessionExecute) -> Executed {
        match self.opened() {
            Ok(participant) => participant.session_execute(execute).await,
            Err(down) => Executed::Lost(refusal(&down)),
        }
    }

    async fn session_prepare(&self, batch: BatchId) -> Vote {
        match self.opened() {
            Ok(participant) => participant.session_prepare(batch).await,
            Err(down) => Vote::No(NoVote::Refused(refusal(&down))),
        }
    }

    async fn session_enter_decision(&self, decide: Decide) -> SessionStep {
        match self.opened() {
            Ok(participant) => participant.session_enter_decision(decide).await,
            Err(down) => lost(&down),
        }
    }

    async fn session_commit(&self, batch: BatchId) -> Decided {
        match self.opened() {
            Ok(participant) => participant.session_commit(batch).await,
            Err(down) => Decided::Unknown {
                detail: down.to_string(),
            },
        }
    }

    async fn session_rollback(&self, batch: BatchId) -> SessionStep {
        match self.opened() {
            Ok(participant) => participant.session_rollback(batch).await,
            Err(down) => lost(&down),
        }
    }

    async fn in_doubt(&self) -> Result<Vec<InDoubtBranch>, Unavailable> {
        self.opened()?.in_doubt().await
    }

    async fn resolve_now(&self, gid: Gid) -> Result<Finished, Unavailable> {
        self.opened()?.resolve_now(gid).await
    }

    async fn page_decisions(
        &self,
        after: Option<BatchId>,
        limit: u32,
    ) -> Result<Vec<DecisionRow>, Unavailable> {
        self.opened()?.page_decisions(after, limit).await
    }

    async fn page_branches(
        &self,
        after: Option<BatchId>,
        limit: u32,
    ) -> Result<Vec<BranchRow>, Unavailable> {
        self.opened()?.page_branches(after, limit).await
    }

    async fn retention(&self) -> Result<Retention, Unavailable> {
        self.opened()?.retention().await
    }
}
