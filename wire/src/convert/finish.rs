//! Finishing prepared branches.

use gavel_protocol::message::{Finish, FinishKind, Finished};

use super::{Checked, MalformedMessage, Problem, all, each, gid, required};
use crate::participant as wire;

impl From<Finish> for wire::Finish {
    fn from(finish: Finish) -> Self {
        let kind = match finish.kind {
            FinishKind::Commit => wire::FinishKind::Commit,
            FinishKind::Rollback => wire::FinishKind::Rollback,
        };
        Self {
            gid: finish.gid.to_string(),
            kind: kind.into(),
        }
    }
}

impl TryFrom<wire::Finish> for Finish {
    type Error = MalformedMessage;
    fn try_from(finish: wire::Finish) -> Checked<Self> {
        Ok(Self {
            gid: gid(&finish.gid, "Finish.gid")?,
            kind: kind(finish.kind)?,
        })
    }
}

fn kind(number: i32) -> Checked<FinishKind> {
    const FIELD: &str = "Finish.kind";
    let unknown = MalformedMessage::new(FIELD, Problem::UnknownValue(number));
    match wire::FinishKind::try_from(number).map_err(|_| unknown)? {
        wire::FinishKind::Unspecified => Err(MalformedMessage::new(FIELD, Problem::Missing)),
        wire::FinishKind::Commit => Ok(FinishKind::Commit),
        wire::FinishKind::Rollback => Ok(FinishKind::Rollback),
    }
}

impl From<Vec<Finish>> for wire::FinishRequest {
    fn from(branches: Vec<Finish>) -> Self {
        Self {
            shard: None,
            branches: each(branches),
        }
    }
}

impl TryFrom<wire::FinishRequest> for Vec<Finish> {
    type Error = MalformedMessage;
    fn try_from(request: wire::FinishRequest) -> Checked<Self> {
        all(request.branches)
    }
}

impl From<Vec<Finished>> for wire::FinishResponse {
    fn from(finished: Vec<Finished>) -> Self {
        Self {
            shard: None,
            finished: each(finished),
        }
    }
}

impl TryFrom<wire::FinishResponse> for Vec<Finished> {
    type Error = MalformedMessage;
    fn try_from(response: wire::FinishResponse) -> Checked<Self> {
        all(response.finished)
    }
}

impl From<Finished> for wire::Finished {
    fn from(finished: Finished) -> Self {
        use wire::finished::Finished as Kind;
        let finished = match finished {
            Finished::Done => Kind::Done(wire::Empty {}),
            Finished::Busy => Kind::Busy(wire::Empty {}),
            Finished::Damaged { detail } => Kind::Damaged(detail),
            Finished::Unknown { detail } => Kind::Unknown(detail),
        };
        Self {
            finished: Some(finished),
        }
    }
}

impl TryFrom<wire::Finished> for Finished {
    type Error = MalformedMessage;
    fn try_from(finished: wire::Finished) -> Checked<Self> {
        use wire::finished::Finished as Kind;
        Ok(match required(finished.finished, "Finished.finished")? {
            Kind::Done(wire::Empty {}) => Self::Done,
            Kind::Busy(wire::Empty {}) => Self::Busy,
            Kind::Damaged(detail) => Self::Damaged { detail },
            Kind::Unknown(detail) => Self::Unknown { detail },
        })
    }
}
