//! Identity, in-doubt branches and retention: what operators and start-up checks ask.

use gavel_protocol::message::{Finished, InDoubtBranch, Retention, ShardIdentity};
use gavel_protocol::{DeploymentName, ShardName};

use super::{Checked, MalformedMessage, all, converted, each, gid, incarnation, required, tag};
use crate::participant as wire;

impl From<ShardIdentity> for wire::IdentityResponse {
    fn from(identity: ShardIdentity) -> Self {
        Self {
            shard: Some(u32::from(identity.tag.0)),
            deployment: identity.deployment.into(),
            name: identity.name.into(),
            incarnation: Some(identity.incarnation.0),
        }
    }
}

impl TryFrom<wire::IdentityResponse> for ShardIdentity {
    type Error = MalformedMessage;
    fn try_from(response: wire::IdentityResponse) -> Checked<Self> {
        const SHARD: &str = "IdentityResponse.shard";
        Ok(Self {
            deployment: DeploymentName::try_from(response.deployment)
                .map_err(|error| MalformedMessage::invalid("IdentityResponse.deployment", error))?,
            name: ShardName::try_from(response.name)
                .map_err(|error| MalformedMessage::invalid("IdentityResponse.name", error))?,
            tag: tag(required(response.shard, SHARD)?, SHARD)?,
            incarnation: incarnation(response.incarnation, "IdentityResponse.incarnation")?,
        })
    }
}

impl From<InDoubtBranch> for wire::InDoubtBranch {
    fn from(branch: InDoubtBranch) -> Self {
        Self {
            gid: branch.gid.to_string(),
            age_ms: branch.age_ms,
            waits_for: branch.waits_for,
        }
    }
}

impl TryFrom<wire::InDoubtBranch> for InDoubtBranch {
    type Error = MalformedMessage;
    fn try_from(branch: wire::InDoubtBranch) -> Checked<Self> {
        Ok(Self {
            gid: gid(&branch.gid, "InDoubtBranch.gid")?,
            age_ms: branch.age_ms,
            waits_for: branch.waits_for,
        })
    }
}

impl From<Vec<InDoubtBranch>> for wire::InDoubtResponse {
    fn from(branches: Vec<InDoubtBranch>) -> Self {
        Self {
            shard: None,
            branches: each(branches),
        }
    }
}

impl TryFrom<wire::InDoubtResponse> for Vec<InDoubtBranch> {
    type Error = MalformedMessage;
    fn try_from(response: wire::InDoubtResponse) -> Checked<Self> {
        all(response.branches)
    }
}

impl TryFrom<wire::ResolveNowResponse> for Finished {
    type Error = MalformedMessage;
    fn try_from(response: wire::ResolveNowResponse) -> Checked<Self> {
        converted(response.finished, "ResolveNowResponse.finished")
    }
}

impl From<Retention> for wire::RetentionResponse {
    fn from(retention: Retention) -> Self {
        Self {
            shard: None,
            floor_ms: Some(retention.floor_ms),
            verified_floor_ms: Some(retention.verified_floor_ms),
            branch_floor_ms: Some(retention.branch_floor_ms),
            dropped_floor_ms: Some(retention.dropped_floor_ms),
        }
    }
}

impl TryFrom<wire::RetentionResponse> for Retention {
    type Error = MalformedMessage;
    fn try_from(response: wire::RetentionResponse) -> Checked<Self> {
        Ok(Self {
            floor_ms: required(response.floor_ms, "RetentionResponse.floor_ms")?,
            verified_floor_ms: required(
                response.verified_floor_ms,
                "RetentionResponse.verified_floor_ms",
            )?,
            branch_floor_ms: required(
                response.branch_floor_ms,
                "RetentionResponse.branch_floor_ms",
            )?,
            dropped_floor_ms: required(
                response.dropped_floor_ms,
                "RetentionResponse.dropped_floor_ms",
            )?,
        })
    }
}
