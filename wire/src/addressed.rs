//! Every message between coordinators and participants says which shard it is for, or from. A
//! participant that was reached under a wrong address must refuse to decide, and the answer of a
//! wrong participant must not count.

use gavel_protocol::ShardTag;

use crate::participant as wire;

/// A message that names a shard.
pub trait Addressed {
    /// Names the shard.
    fn stamp(&mut self, shard: ShardTag);

    /// The number in the message, if there is one.
    fn shard(&self) -> Option<u32>;

    /// Whether the message names this shard. One that names none does not.
    fn is_of(&self, shard: ShardTag) -> bool {
        self.shard() == Some(u32::from(shard.0))
    }
}

macro_rules! addressed {
    ($($message:ident,)+) => {
        $(impl Addressed for wire::$message {
            fn stamp(&mut self, shard: ShardTag) {
                self.shard = Some(u32::from(shard.0));
            }

            fn shard(&self) -> Option<u32> {
                self.shard
            }
        })+
    };
}

addressed! {
    ShardRequest,
    IdentityResponse,
    AttendRequest,
    AttendEvent,
    PrepareRequest,
    PrepareResponse,
    DecideRequest,
    DecideResponse,
    HeadStartRequest,
    HeadStartResponse,
    FinishRequest,
    FinishResponse,
    ResolveRequest,
    ResolveResponse,
    LookUpRequest,
    LookUpDecisionsResponse,
    PageRequest,
    BranchRowsResponse,
    DecisionRowsResponse,
    RecordAbortsRequest,
    RecordAbortsResponse,
    StatusRequest,
    StatusResponse,
    SessionOpenRequest,
    SessionRequest,
    SessionExecuteRequest,
    SessionStepResponse,
    SessionExecuteResponse,
    SessionPrepareResponse,
    SessionCommitResponse,
    InDoubtResponse,
    ResolveNowRequest,
    ResolveNowResponse,
    RetentionResponse,
}
