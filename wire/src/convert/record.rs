//! Recorded outcomes: recording aborts, and status.

use gavel_protocol::message::{RecordAborts, RecordAnswer, Recorded, StatusAnswer};
use gavel_protocol::outcome::Status;
use gavel_protocol::{Principal, Txid};

use super::{
    Checked, MalformedMessage, all, batch_id, each, id_bytes, incarnation, principal, required,
    txid,
};
use crate::participant as wire;

impl From<Recorded> for wire::Recorded {
    fn from(recorded: Recorded) -> Self {
        use wire::recorded::Recorded as Kind;
        let recorded = match recorded {
            Recorded::Committed => Kind::Committed(wire::Empty {}),
            Recorded::Aborted(reason) => Kind::Aborted(reason.into()),
            Recorded::OtherContent => Kind::OtherContent(wire::Empty {}),
            Recorded::OtherPrincipal => Kind::OtherPrincipal(wire::Empty {}),
        };
        Self {
            recorded: Some(recorded),
        }
    }
}

impl TryFrom<wire::Recorded> for Recorded {
    type Error = MalformedMessage;
    fn try_from(recorded: wire::Recorded) -> Checked<Self> {
        use wire::recorded::Recorded as Kind;
        Ok(match required(recorded.recorded, "Recorded.recorded")? {
            Kind::Committed(wire::Empty {}) => Self::Committed,
            Kind::Aborted(reason) => Self::Aborted(reason.try_into()?),
            Kind::OtherContent(wire::Empty {}) => Self::OtherContent,
            Kind::OtherPrincipal(wire::Empty {}) => Self::OtherPrincipal,
        })
    }
}

impl From<RecordAborts> for wire::RecordAbortsRequest {
    fn from(record: RecordAborts) -> Self {
        Self {
            shard: None,
            batch: record.batch.map(id_bytes),
            incarnation: Some(record.incarnation.0),
            principal: record.principal.into(),
            aborts: each(record.aborts),
        }
    }
}

impl TryFrom<wire::RecordAbortsRequest> for RecordAborts {
    type Error = MalformedMessage;
    fn try_from(request: wire::RecordAbortsRequest) -> Checked<Self> {
        Ok(Self {
            batch: request
                .batch
                .map(|bytes| batch_id(&bytes, "RecordAbortsRequest.batch"))
                .transpose()?,
            incarnation: incarnation(request.incarnation, "RecordAbortsRequest.incarnation")?,
            principal: principal(request.principal, "RecordAbortsRequest.principal")?,
            aborts: all(request.aborts)?,
        })
    }
}

impl From<RecordAnswer> for wire::RecordAbortsResponse {
    fn from(answer: RecordAnswer) -> Self {
        use wire::record_aborts_response::Answer;
        let answer = match answer {
            RecordAnswer::Recorded(recorded) => Answer::Recorded(wire::RecordedList {
                recorded: each(recorded),
            }),
            RecordAnswer::Refused(refusal) => Answer::Refused(refusal.into()),
            RecordAnswer::Unknown { detail } => Answer::Unknown(detail),
        };
        Self {
            shard: None,
            answer: Some(answer),
        }
    }
}

impl TryFrom<wire::RecordAbortsResponse> for RecordAnswer {
    type Error = MalformedMessage;
    fn try_from(response: wire::RecordAbortsResponse) -> Checked<Self> {
        use wire::record_aborts_response::Answer;
        Ok(
            match required(response.answer, "RecordAbortsResponse.answer")? {
                Answer::Recorded(list) => Self::Recorded(all(list.recorded)?),
                Answer::Refused(refusal) => Self::Refused(refusal.try_into()?),
                Answer::Unknown(detail) => Self::Unknown { detail },
            },
        )
    }
}

impl From<(Txid, Option<Principal>)> for wire::StatusRequest {
    fn from((txid, asker): (Txid, Option<Principal>)) -> Self {
        use wire::status_request::Asker;
        Self {
            shard: None,
            txid: id_bytes(txid),
            asker: Some(match asker {
                Some(principal) => Asker::Principal(principal.into()),
                None => Asker::Operator(wire::Empty {}),
            }),
        }
    }
}

impl TryFrom<wire::StatusRequest> for (Txid, Option<Principal>) {
    type Error = MalformedMessage;
    fn try_from(request: wire::StatusRequest) -> Checked<Self> {
        use wire::status_request::Asker;
        let asker = match required(request.asker, "StatusRequest.asker")? {
            Asker::Principal(name) => Some(principal(name, "StatusRequest.principal")?),
            Asker::Operator(wire::Empty {}) => None,
        };
        Ok((txid(&request.txid, "StatusRequest.txid")?, asker))
    }
}

impl From<StatusAnswer> for wire::StatusResponse {
    fn from(answer: StatusAnswer) -> Self {
        use wire::status_response::Answer;
        let answer = match answer {
            StatusAnswer::Status(Status::Committed) => Answer::Committed(wire::Empty {}),
            StatusAnswer::Status(Status::Aborted(reason)) => Answer::Aborted(reason.into()),
            StatusAnswer::Status(Status::NoneYet) => Answer::NoneYet(wire::Empty {}),
            StatusAnswer::Status(Status::TooOld) => Answer::TooOld(wire::Empty {}),
            StatusAnswer::OtherPrincipal => Answer::OtherPrincipal(wire::Empty {}),
            StatusAnswer::Unreachable { detail } => Answer::Unreachable(detail),
        };
        Self {
            shard: None,
            txid: Default::default(),
            answer: Some(answer),
        }
    }
}

impl TryFrom<wire::StatusResponse> for StatusAnswer {
    type Error = MalformedMessage;
    fn try_from(response: wire::StatusResponse) -> Checked<Self> {
        use wire::status_response::Answer;
        Ok(match required(response.answer, "StatusResponse.answer")? {
            Answer::Committed(wire::Empty {}) => Self::Status(Status::Committed),
            Answer::Aborted(reason) => Self::Status(Status::Aborted(reason.try_into()?)),
            Answer::NoneYet(wire::Empty {}) => Self::Status(Status::NoneYet),
            Answer::TooOld(wire::Empty {}) => Self::Status(Status::TooOld),
            Answer::OtherPrincipal(wire::Empty {}) => Self::OtherPrincipal,
            Answer::Unreachable(detail) => Self::Unreachable { detail },
        })
    }
}
