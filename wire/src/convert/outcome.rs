//! Outcomes as clients hear them.

use gavel_protocol::outcome::{Outcome, StatementResult, Status};
use gavel_protocol::{AbortReason, Refusal, ShardMap, ShardName, ShardTag, Txid};

use super::members::abort_code;
use super::{Checked, MalformedMessage, all, each, required, tag};
use crate::api;

/// The name of a shard for people. A shard that was taken out of the configuration still has
/// its number.
pub(super) fn name_of(shards: &ShardMap, tag: ShardTag) -> String {
    shards
        .name(tag)
        .map_or_else(|| tag.to_string(), |name| name.as_str().to_owned())
}

/// An outcome for a client; `shards` gives the names.
pub fn outcome_to_wire(outcome: Outcome, shards: &ShardMap) -> api::Outcome {
    use api::outcome::Outcome as Kind;
    let outcome = match outcome {
        Outcome::Committed { applied } => Kind::Committed(api::Committed {
            applied: Some(applied),
        }),
        Outcome::Aborted(reason) => Kind::Aborted(reason_to_wire(reason, shards)),
        Outcome::Refused(refusal) => Kind::Refused(refusal.into()),
        Outcome::InDoubt { detail } => Kind::InDoubt(api::InDoubt { detail }),
    };
    api::Outcome {
        outcome: Some(outcome),
    }
}

impl TryFrom<api::Outcome> for Outcome {
    type Error = MalformedMessage;
    fn try_from(outcome: api::Outcome) -> Checked<Self> {
        use api::outcome::Outcome as Kind;
        Ok(match required(outcome.outcome, "Outcome.outcome")? {
            Kind::Committed(committed) => Self::Committed {
                applied: required(committed.applied, "Committed.applied")?,
            },
            Kind::Aborted(reason) => Self::Aborted(reason.try_into()?),
            Kind::Refused(refusal) => Self::Refused(refusal.try_into()?),
            Kind::InDoubt(in_doubt) => Self::InDoubt {
                detail: in_doubt.detail,
            },
        })
    }
}

fn reason_to_wire(reason: AbortReason, shards: &ShardMap) -> api::AbortReason {
    api::AbortReason {
        code: reason.code.as_str().to_owned(),
        message: reason.message,
        shard: reason.shard.map(|tag| name_of(shards, tag)),
        shard_tag: reason.shard.map(|tag| u32::from(tag.0)),
        statement: reason.statement,
        sqlstate: reason.sqlstate,
    }
}

impl TryFrom<api::AbortReason> for AbortReason {
    type Error = MalformedMessage;

    /// The shard is read from its number; the name is for people.
    fn try_from(reason: api::AbortReason) -> Checked<Self> {
        Ok(Self {
            code: abort_code(&reason.code)?,
            message: reason.message,
            shard: reason
                .shard_tag
                .map(|number| tag(number, "AbortReason.shard_tag"))
                .transpose()?,
            statement: reason.statement,
            sqlstate: reason.sqlstate,
        })
    }
}

/// The answer to a status question; `shards` gives the names.
pub fn status_to_wire(
    txid: Txid,
    status: Result<Status, Refusal>,
    shards: &ShardMap,
) -> api::StatusResponse {
    use api::status_response::Status as Kind;
    let status = match status {
        Ok(Status::Committed) => Kind::Committed(api::RecordedCommit {}),
        Ok(Status::Aborted(reason)) => Kind::Aborted(reason_to_wire(reason, shards)),
        Ok(Status::NoneYet) => Kind::NoneYet(api::NoneYet {}),
        Ok(Status::TooOld) => Kind::TooOld(api::TooOld {}),
        Err(refusal) => Kind::Refused(refusal.into()),
    };
    api::StatusResponse {
        txid: txid.to_string(),
        status: Some(status),
    }
}

/// Reads the answer to a status question.
///
/// # Errors
/// When the message is malformed. The inner result is the coordinator's.
pub fn status_from_wire(response: api::StatusResponse) -> Checked<Result<Status, Refusal>> {
    use api::status_response::Status as Kind;
    Ok(match required(response.status, "StatusResponse.status")? {
        Kind::Committed(api::RecordedCommit {}) => Ok(Status::Committed),
        Kind::Aborted(reason) => Ok(Status::Aborted(reason.try_into()?)),
        Kind::NoneYet(api::NoneYet {}) => Ok(Status::NoneYet),
        Kind::TooOld(api::TooOld {}) => Ok(Status::TooOld),
        Kind::Refused(refusal) => Err(refusal.try_into()?),
    })
}

/// What the statements returned, per shard; `shards` gives the names.
pub fn branch_results_to_wire(
    results: Vec<(ShardTag, Vec<StatementResult>)>,
    shards: &ShardMap,
) -> Vec<api::BranchResults> {
    results
        .into_iter()
        .map(|(tag, results)| api::BranchResults {
            shard: name_of(shards, tag),
            shard_tag: Some(u32::from(tag.0)),
            results: each(results),
        })
        .collect()
}

/// Reads what the statements returned, per shard.
///
/// # Errors
/// When a name or a result is malformed.
pub fn branch_results_from_wire(
    results: Vec<api::BranchResults>,
) -> Checked<Vec<(ShardName, Vec<StatementResult>)>> {
    results
        .into_iter()
        .map(|branch| {
            let name = ShardName::try_from(branch.shard)
                .map_err(|error| MalformedMessage::invalid("BranchResults.shard", error))?;
            Ok((name, all(branch.results)?))
        })
        .collect()
}
