//! The register: decisions, branch rows, and questions about them.

use gavel_protocol::BatchId;
use gavel_protocol::message::{BranchRow, Decision, DecisionRow, RegisterAnswer};

use super::{
    Checked, MalformedMessage, all, batch_id, converted, each, id_bytes, incarnation, required,
    tag, tag_numbers, tags,
};
use crate::participant as wire;

/// The answers to a look-up, in the order of its batches.
pub type LookUpAnswers = Vec<RegisterAnswer>;

impl From<Decision> for wire::Decision {
    fn from(decision: Decision) -> Self {
        use wire::decision::Decision as Kind;
        let decision = match decision {
            Decision::Commit { prepared } => Kind::Commit(wire::CommitDecision {
                prepared: tag_numbers(prepared),
            }),
            Decision::Abort => Kind::Abort(wire::Empty {}),
        };
        Self {
            decision: Some(decision),
        }
    }
}

impl TryFrom<wire::Decision> for Decision {
    type Error = MalformedMessage;
    fn try_from(decision: wire::Decision) -> Checked<Self> {
        use wire::decision::Decision as Kind;
        Ok(match required(decision.decision, "Decision.decision")? {
            Kind::Commit(commit) => Self::Commit {
                prepared: tags(commit.prepared, "CommitDecision.prepared")?,
            },
            Kind::Abort(wire::Empty {}) => Self::Abort,
        })
    }
}

impl From<RegisterAnswer> for wire::RegisterAnswer {
    fn from(answer: RegisterAnswer) -> Self {
        use wire::register_answer::Answer;
        let answer = match answer {
            RegisterAnswer::Decision(decision) => Answer::Decision(decision.into()),
            RegisterAnswer::NoRow => Answer::NoRow(wire::Empty {}),
            RegisterAnswer::BelowFloor => Answer::BelowFloor(wire::Empty {}),
            RegisterAnswer::Unreachable { detail } => Answer::Unreachable(detail),
            RegisterAnswer::OtherIncarnation { detail } => Answer::OtherIncarnation(detail),
        };
        Self {
            answer: Some(answer),
        }
    }
}

impl TryFrom<wire::RegisterAnswer> for RegisterAnswer {
    type Error = MalformedMessage;
    fn try_from(answer: wire::RegisterAnswer) -> Checked<Self> {
        use wire::register_answer::Answer;
        Ok(match required(answer.answer, "RegisterAnswer.answer")? {
            Answer::Decision(decision) => Self::Decision(decision.try_into()?),
            Answer::NoRow(wire::Empty {}) => Self::NoRow,
            Answer::BelowFloor(wire::Empty {}) => Self::BelowFloor,
            Answer::Unreachable(detail) => Self::Unreachable { detail },
            Answer::OtherIncarnation(detail) => Self::OtherIncarnation { detail },
        })
    }
}

impl TryFrom<wire::ResolveResponse> for RegisterAnswer {
    type Error = MalformedMessage;
    fn try_from(response: wire::ResolveResponse) -> Checked<Self> {
        converted(response.answer, "ResolveResponse.answer")
    }
}

impl From<Vec<BatchId>> for wire::LookUpRequest {
    fn from(batches: Vec<BatchId>) -> Self {
        Self {
            shard: None,
            batches: batches.into_iter().map(id_bytes).collect(),
        }
    }
}

impl TryFrom<wire::LookUpRequest> for Vec<BatchId> {
    type Error = MalformedMessage;
    fn try_from(request: wire::LookUpRequest) -> Checked<Self> {
        request
            .batches
            .iter()
            .map(|bytes| batch_id(bytes, "LookUpRequest.batches"))
            .collect()
    }
}

impl From<LookUpAnswers> for wire::LookUpDecisionsResponse {
    fn from(answers: LookUpAnswers) -> Self {
        Self {
            shard: None,
            answers: each(answers),
        }
    }
}

impl TryFrom<wire::LookUpDecisionsResponse> for LookUpAnswers {
    type Error = MalformedMessage;
    fn try_from(response: wire::LookUpDecisionsResponse) -> Checked<Self> {
        all(response.answers)
    }
}

impl From<BranchRow> for wire::BranchRow {
    fn from(row: BranchRow) -> Self {
        Self {
            batch: id_bytes(row.batch),
            home: Some(u32::from(row.home.0)),
            home_incarnation: Some(row.home_incarnation.0),
        }
    }
}

impl TryFrom<wire::BranchRow> for BranchRow {
    type Error = MalformedMessage;
    fn try_from(row: wire::BranchRow) -> Checked<Self> {
        Ok(Self {
            batch: batch_id(&row.batch, "BranchRow.batch")?,
            home: tag(required(row.home, "BranchRow.home")?, "BranchRow.home")?,
            home_incarnation: incarnation(row.home_incarnation, "BranchRow.home_incarnation")?,
        })
    }
}

impl From<Vec<BranchRow>> for wire::BranchRowsResponse {
    fn from(rows: Vec<BranchRow>) -> Self {
        Self {
            shard: None,
            rows: each(rows),
        }
    }
}

impl TryFrom<wire::BranchRowsResponse> for Vec<BranchRow> {
    type Error = MalformedMessage;
    fn try_from(response: wire::BranchRowsResponse) -> Checked<Self> {
        all(response.rows)
    }
}

impl From<DecisionRow> for wire::DecisionRow {
    fn from(row: DecisionRow) -> Self {
        Self {
            batch: id_bytes(row.batch),
            decision: Some(row.decision.into()),
        }
    }
}

impl TryFrom<wire::DecisionRow> for DecisionRow {
    type Error = MalformedMessage;
    fn try_from(row: wire::DecisionRow) -> Checked<Self> {
        Ok(Self {
            batch: batch_id(&row.batch, "DecisionRow.batch")?,
            decision: converted(row.decision, "DecisionRow.decision")?,
        })
    }
}

impl From<Vec<DecisionRow>> for wire::DecisionRowsResponse {
    fn from(rows: Vec<DecisionRow>) -> Self {
        Self {
            shard: None,
            rows: each(rows),
        }
    }
}

impl TryFrom<wire::DecisionRowsResponse> for Vec<DecisionRow> {
    type Error = MalformedMessage;
    fn try_from(response: wire::DecisionRowsResponse) -> Checked<Self> {
        all(response.rows)
    }
}
