//! Interactive branches.

use gavel_protocol::Statement;
use gavel_protocol::message::{Decided, Executed, SessionExecute, SessionOpen, SessionStep, Vote};

use super::shared::{isolation, values_from_wire, values_to_wire};
use super::{
    Checked, MalformedMessage, batch_id, converted, driver_bytes, driver_id, gid, id_bytes,
    incarnation, required,
};
use crate::{api, participant as wire};

impl From<SessionOpen> for wire::SessionOpenRequest {
    fn from(open: SessionOpen) -> Self {
        Self {
            shard: None,
            gid: open.gid.to_string(),
            incarnation: Some(open.incarnation.0),
            driver: driver_bytes(open.driver),
            isolation: api::Isolation::from(open.isolation).into(),
        }
    }
}

impl TryFrom<wire::SessionOpenRequest> for SessionOpen {
    type Error = MalformedMessage;
    fn try_from(request: wire::SessionOpenRequest) -> Checked<Self> {
        Ok(Self {
            gid: gid(&request.gid, "SessionOpenRequest.gid")?,
            incarnation: incarnation(request.incarnation, "SessionOpenRequest.incarnation")?,
            driver: driver_id(&request.driver, "SessionOpenRequest.driver")?,
            isolation: isolation(request.isolation, "SessionOpenRequest.isolation")?,
        })
    }
}

impl From<SessionExecute> for wire::SessionExecuteRequest {
    fn from(execute: SessionExecute) -> Self {
        Self {
            shard: None,
            batch: id_bytes(execute.batch),
            sequence: Some(execute.sequence),
            sql: execute.statement.sql.to_string(),
            params: values_to_wire(execute.statement.params),
            guard: execute.statement.guard.map(Into::into),
            open: execute.open.map(Into::into),
        }
    }
}

impl TryFrom<wire::SessionExecuteRequest> for SessionExecute {
    type Error = MalformedMessage;
    fn try_from(request: wire::SessionExecuteRequest) -> Checked<Self> {
        Ok(Self {
            batch: batch_id(&request.batch, "SessionExecuteRequest.batch")?,
            sequence: required(request.sequence, "SessionExecuteRequest.sequence")?,
            statement: Statement {
                sql: request.sql.into(),
                params: values_from_wire(request.params),
                guard: request.guard.map(TryInto::try_into).transpose()?,
            },
            open: request.open.map(TryInto::try_into).transpose()?,
        })
    }
}

impl From<SessionStep> for wire::SessionStepResponse {
    fn from(step: SessionStep) -> Self {
        use wire::session_step_response::Step;
        let step = match step {
            SessionStep::Done => Step::Done(wire::Empty {}),
            SessionStep::Failed(failure) => Step::Failed(failure.into()),
            SessionStep::Lost(refusal) => Step::Lost(refusal.into()),
        };
        Self {
            shard: None,
            batch: Default::default(),
            step: Some(step),
        }
    }
}

impl TryFrom<wire::SessionStepResponse> for SessionStep {
    type Error = MalformedMessage;
    fn try_from(response: wire::SessionStepResponse) -> Checked<Self> {
        use wire::session_step_response::Step;
        Ok(match required(response.step, "SessionStepResponse.step")? {
            Step::Done(wire::Empty {}) => Self::Done,
            Step::Failed(failure) => Self::Failed(failure.try_into()?),
            Step::Lost(refusal) => Self::Lost(refusal.try_into()?),
        })
    }
}

impl From<Executed> for wire::SessionExecuteResponse {
    fn from(executed: Executed) -> Self {
        use wire::session_execute_response::Executed as Kind;
        let executed = match executed {
            Executed::Done(result) => Kind::Done(result.into()),
            Executed::Failed(failure) => Kind::Failed(failure.into()),
            Executed::Lost(refusal) => Kind::Lost(refusal.into()),
        };
        Self {
            shard: None,
            batch: Default::default(),
            sequence: None,
            executed: Some(executed),
        }
    }
}

impl TryFrom<wire::SessionExecuteResponse> for Executed {
    type Error = MalformedMessage;
    fn try_from(response: wire::SessionExecuteResponse) -> Checked<Self> {
        use wire::session_execute_response::Executed as Kind;
        Ok(
            match required(response.executed, "SessionExecuteResponse.executed")? {
                Kind::Done(result) => Self::Done(result.try_into()?),
                Kind::Failed(failure) => Self::Failed(failure.try_into()?),
                Kind::Lost(refusal) => Self::Lost(refusal.try_into()?),
            },
        )
    }
}

impl TryFrom<wire::SessionPrepareResponse> for Vote {
    type Error = MalformedMessage;
    fn try_from(response: wire::SessionPrepareResponse) -> Checked<Self> {
        converted(response.vote, "SessionPrepareResponse.vote")
    }
}

impl TryFrom<wire::SessionCommitResponse> for Decided {
    type Error = MalformedMessage;
    fn try_from(response: wire::SessionCommitResponse) -> Checked<Self> {
        converted(response.decided, "SessionCommitResponse.decided")
    }
}
