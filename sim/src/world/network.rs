//! Messages in flight.
//!
//! A message that is never delivered, is delivered late, or twice, is all that a network can do;
//! replies may be late and doubled as well, which is more than a real connection allows.

use std::collections::BTreeMap;

use gavel_protocol::batch::Event;
use gavel_protocol::message::{
    Decided, FailedMember, FinishKind, Finished, MemberReport, RecordAnswer, Recorded,
    RegisterAnswer, Vote,
};
use gavel_protocol::{BatchId, DriverId, Gid, Incarnation, Outcome, RequestHash, ShardTag, Txid};

/// Who sends and receives. A shard's participant is addressed by the shard's place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Node {
    Client(u16),
    Coordinator(u8),
    Participant(u8),
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Message {
    pub(crate) from: Node,
    pub(crate) to: Node,
    pub(crate) body: Body,
    /// Not delivered before (simulation only).
    pub(crate) not_before: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Body {
    Submit(Submit),
    AbortForGood { txid: Txid },
    AskStatus { txid: Txid },
    Told { txid: Txid, outcome: Outcome },
    Ask { asker: Asker, question: Question },
    Reply { asker: Asker, reply: Reply },
}

/// A client's submission.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Submit {
    pub(crate) txid: Txid,
    /// Stands for the content; 0 is what the client means.
    pub(crate) content: u8,
    pub(crate) principal: u8,
    pub(crate) is_retry: bool,
}

impl Submit {
    pub(crate) fn hash(&self) -> RequestHash {
        RequestHash([self.content + 1; 32])
    }
}

/// Who waits for the answer to a question.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Asker {
    Batch {
        coordinator: u8,
        life: u16,
        batch: BatchId,
        key: Key,
    },
    Scan {
        shard: u8,
        life: u16,
        gid: Gid,
    },
    Client {
        client: u16,
        txid: Txid,
    },
}

/// What a batch asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Key {
    Prepare(ShardTag),
    WorkFirst,
    HeadStart,
    Decide,
    EndSession,
    Register,
    Commit(ShardTag),
    Rollback(ShardTag),
    Record,
}

/// A transaction as part of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Member {
    pub(crate) txid: Txid,
    pub(crate) hash: RequestHash,
}

/// The members that home left out, by place.
pub(crate) type LeftOut = BTreeMap<usize, MemberReport>;

/// The questions that a participant answers: `gavel_protocol::message`, without SQL.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Question {
    Prepare(Prepare),
    HeadStart {
        decide: Decide,
        driver: DriverId,
        /// Before any branch is asked: who fails is left out.
        first: bool,
    },
    /// Commits the session in which home has done its work.
    CommitSession {
        batch: BatchId,
    },
    EndSession {
        batch: BatchId,
    },
    Decide(Decide),
    Resolve {
        batch: BatchId,
        incarnation: Incarnation,
    },
    Finish {
        gid: Gid,
        kind: FinishKind,
    },
    Record(Record),
    Status {
        txid: Txid,
    },
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Prepare {
    pub(crate) gid: Gid,
    pub(crate) incarnation: Incarnation,
    pub(crate) driver: DriverId,
    pub(crate) writes: bool,
    pub(crate) members: Vec<Member>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Decide {
    pub(crate) batch: BatchId,
    pub(crate) incarnation: Incarnation,
    pub(crate) prepared: Vec<ShardTag>,
    pub(crate) principal: u8,
    pub(crate) members: Vec<Member>,
    pub(crate) failed: Vec<FailedMember>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Record {
    pub(crate) batch: Option<BatchId>,
    pub(crate) incarnation: Incarnation,
    pub(crate) principal: u8,
    pub(crate) aborts: Vec<FailedMember>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Reply {
    Vote(Vote),
    /// Home has done its work, without these; or nothing is left of it.
    HeadStarted(Option<LeftOut>),
    SessionEnded,
    Decided(Decided),
    Register(RegisterAnswer),
    Finished(Finished),
    Recorded(RecordAnswer),
    /// What is recorded of a txid, behind a barrier; `None` is "none yet: may still commit".
    Status(Option<Recorded>),
    /// Home could not be asked for a status.
    Unreachable,
}

impl Reply {
    /// The reply as an event of the batch that asked `key`.
    pub(crate) fn event(self, key: Key) -> Option<Event> {
        match (key, self) {
            (Key::Prepare(shard), Self::Vote(vote)) => Some(Event::Voted { shard, vote }),
            (Key::Decide, Self::Decided(decided)) => Some(Event::Decided(decided)),
            (Key::Register, Self::Register(answer)) => Some(Event::Register(answer)),
            (Key::Commit(shard) | Key::Rollback(shard), Self::Finished(finished)) => {
                Some(Event::Finished { shard, finished })
            }
            (Key::Record, Self::Recorded(answer)) => Some(Event::Recorded(answer)),
            _ => None,
        }
    }
}

impl Question {
    /// The answer that stands for an answer that did not come.
    pub(crate) fn unknown(&self) -> Reply {
        match self {
            Self::Prepare(_) => Reply::Vote(Vote::Unknown { detail: cut() }),
            Self::HeadStart { .. } => Reply::HeadStarted(None),
            Self::EndSession { .. } => Reply::SessionEnded,
            Self::Decide(_) | Self::CommitSession { .. } => {
                Reply::Decided(Decided::Unknown { detail: cut() })
            }
            Self::Resolve { .. } => Reply::Register(RegisterAnswer::Unreachable { detail: cut() }),
            Self::Finish { .. } => Reply::Finished(Finished::Unknown { detail: cut() }),
            Self::Record(_) => Reply::Recorded(RecordAnswer::Unknown { detail: cut() }),
            Self::Status { .. } => Reply::Unreachable,
        }
    }
}

impl Key {
    /// The event that stands for an answer that did not come, if it is one for the machine.
    pub(crate) fn unknown(self) -> Option<Event> {
        Some(match self {
            Self::WorkFirst | Self::HeadStart | Self::EndSession => return None,
            Self::Prepare(shard) => Event::Voted {
                shard,
                vote: Vote::Unknown { detail: cut() },
            },
            Self::Decide => Event::Decided(Decided::Unknown { detail: cut() }),
            Self::Register => Event::Register(RegisterAnswer::Unreachable { detail: cut() }),
            Self::Commit(shard) | Self::Rollback(shard) => Event::Finished {
                shard,
                finished: Finished::Unknown { detail: cut() },
            },
            Self::Record => Event::Recorded(RecordAnswer::Unknown { detail: cut() }),
        })
    }
}

/// One text for all, so that texts do not multiply the states.
pub(crate) fn cut() -> String {
    "cut".to_owned()
}
