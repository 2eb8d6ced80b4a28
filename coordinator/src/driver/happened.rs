//! What calls to shards came to.

use gavel_protocol::ShardTag;
use gavel_protocol::message::{
    DecideAnswer, Decided, Finished, HeadStarted, NoVote, PrepareAnswer, RecordAnswer,
    RegisterAnswer, Vote,
};

/// The names of calls, in traces and stories.
pub(super) mod called {
    pub(in crate::driver) const PREPARE: &str = "prepare";
    pub(in crate::driver) const WORK_AHEAD: &str = "work_ahead";
    pub(in crate::driver) const DECIDE: &str = "decide";
    pub(in crate::driver) const ASK_REGISTER: &str = "ask_register";
    pub(in crate::driver) const FINISH: &str = "finish";
    pub(in crate::driver) const RECORD_ABORTS: &str = "record_aborts";
}

/// What an effect came to.
pub(super) enum Happened {
    Voted(ShardTag, PrepareAnswer),
    HeadStarted(HeadStarted),
    /// The same, of a home that works before the branches are asked.
    WorkedFirst(HeadStarted),
    Decided(DecideAnswer),
    Register(RegisterAnswer),
    Finished(ShardTag, Finished),
    Recorded(RecordAnswer),
}

impl Happened {
    /// The call, and whom it was to.
    pub(super) fn call(&self, home: ShardTag) -> (&'static str, ShardTag) {
        match self {
            Self::Voted(shard, _) => (called::PREPARE, *shard),
            Self::HeadStarted(_) | Self::WorkedFirst(_) => (called::WORK_AHEAD, home),
            Self::Decided(_) => (called::DECIDE, home),
            Self::Register(_) => (called::ASK_REGISTER, home),
            Self::Finished(shard, _) => (called::FINISH, *shard),
            Self::Recorded(_) => (called::RECORD_ABORTS, home),
        }
    }

    /// What went wrong. A member that failed by its own fault is no trouble of the call's.
    pub(super) fn trouble(&self) -> Option<String> {
        match self {
            Self::Voted(_, PrepareAnswer { vote, .. }) => match vote {
                Vote::Yes { .. }
                | Vote::ReadOnly { .. }
                | Vote::No(NoVote::NoneExecuted { .. }) => None,
                Vote::No(NoVote::Refused(refusal)) => Some(refusal.to_string()),
                Vote::No(NoVote::NoCulprit(failure)) => Some(format!("{failure:?}")),
                Vote::Unknown { detail } => Some(detail.clone()),
            },
            Self::HeadStarted(HeadStarted::Not { detail })
            | Self::WorkedFirst(HeadStarted::Not { detail })
            | Self::Decided(DecideAnswer {
                decided: Decided::Unknown { detail },
                ..
            })
            | Self::Register(RegisterAnswer::Unreachable { detail })
            | Self::Finished(_, Finished::Unknown { detail })
            | Self::Recorded(RecordAnswer::Unknown { detail }) => Some(detail.clone()),
            Self::HeadStarted(HeadStarted::Ready { .. })
            | Self::WorkedFirst(HeadStarted::Ready { .. })
            | Self::Decided(_)
            | Self::Register(_)
            | Self::Finished(..)
            | Self::Recorded(_) => None,
        }
    }
}
