//! Prepare and its vote.

use bytes::Bytes;
use gavel_protocol::MembersDigest;
use gavel_protocol::message::{NoVote, Prepare, PrepareAnswer, Vote};

use super::members::{
    members_from_wire, members_to_wire, reports_to_wire, results_from_wire, results_to_wire,
};
use super::shared::{access, isolation};
use super::{
    Checked, MalformedMessage, all, array, converted, driver_bytes, driver_id, each, gid,
    incarnation, required,
};
use crate::{api, participant as wire};

impl From<Prepare> for wire::PrepareRequest {
    fn from(prepare: Prepare) -> Self {
        let (sql_texts, members) = members_to_wire(&prepare.members);
        Self {
            shard: None,
            gid: prepare.gid.to_string(),
            incarnation: Some(prepare.incarnation.0),
            driver: driver_bytes(prepare.driver),
            access: wire::Access::from(prepare.access).into(),
            isolation: api::Isolation::from(prepare.isolation).into(),
            batch_safe: Some(prepare.batch_safe),
            sql_texts,
            members,
            in_chunks: prepare.in_chunks,
        }
    }
}

impl TryFrom<wire::PrepareRequest> for Prepare {
    type Error = MalformedMessage;
    fn try_from(request: wire::PrepareRequest) -> Checked<Self> {
        Ok(Self {
            gid: gid(&request.gid, "PrepareRequest.gid")?,
            incarnation: incarnation(request.incarnation, "PrepareRequest.incarnation")?,
            driver: driver_id(&request.driver, "PrepareRequest.driver")?,
            access: access(request.access, "PrepareRequest.access")?,
            isolation: isolation(request.isolation, "PrepareRequest.isolation")?,
            batch_safe: required(request.batch_safe, "PrepareRequest.batch_safe")?,
            in_chunks: request.in_chunks,
            members: members_from_wire(request.sql_texts, request.members)?,
        })
    }
}

impl From<PrepareAnswer> for wire::PrepareResponse {
    fn from(answer: PrepareAnswer) -> Self {
        Self {
            shard: None,
            gid: String::new(),
            vote: Some(answer.vote.into()),
            results: results_to_wire(answer.results),
        }
    }
}

impl TryFrom<wire::PrepareResponse> for PrepareAnswer {
    type Error = MalformedMessage;
    fn try_from(response: wire::PrepareResponse) -> Checked<Self> {
        Ok(Self {
            vote: converted(response.vote, "PrepareResponse.vote")?,
            results: results_from_wire(response.results)?,
        })
    }
}

impl From<Vote> for wire::Vote {
    fn from(vote: Vote) -> Self {
        use wire::vote::Vote as Kind;
        let vote = match vote {
            Vote::Yes {
                digest,
                xid,
                reports,
            } => Kind::Yes(wire::Yes {
                digest: Bytes::copy_from_slice(&digest.0),
                xid: Some(xid),
                reports: each(reports),
            }),
            Vote::ReadOnly { reports } => Kind::ReadOnly(reports_to_wire(reports)),
            Vote::No(no) => Kind::No(no.into()),
            Vote::Unknown { detail } => Kind::Unknown(detail),
        };
        Self { vote: Some(vote) }
    }
}

impl TryFrom<wire::Vote> for Vote {
    type Error = MalformedMessage;
    fn try_from(vote: wire::Vote) -> Checked<Self> {
        use wire::vote::Vote as Kind;
        Ok(match required(vote.vote, "Vote.vote")? {
            Kind::Yes(yes) => Self::Yes {
                digest: MembersDigest(array(&yes.digest, "Yes.digest")?),
                xid: required(yes.xid, "Yes.xid")?,
                reports: all(yes.reports)?,
            },
            Kind::ReadOnly(reports) => Self::ReadOnly {
                reports: all(reports.reports)?,
            },
            Kind::No(no) => Self::No(no.try_into()?),
            Kind::Unknown(detail) => Self::Unknown { detail },
        })
    }
}

impl From<NoVote> for wire::NoVote {
    fn from(no: NoVote) -> Self {
        use wire::no_vote::Why;
        let why = match no {
            NoVote::NoneExecuted { reports } => Why::NoneExecuted(reports_to_wire(reports)),
            NoVote::NoCulprit(failure) => Why::NoCulprit(failure.into()),
            NoVote::Refused(refusal) => Why::Refused(refusal.into()),
        };
        Self { why: Some(why) }
    }
}

impl TryFrom<wire::NoVote> for NoVote {
    type Error = MalformedMessage;
    fn try_from(no: wire::NoVote) -> Checked<Self> {
        use wire::no_vote::Why;
        Ok(match required(no.why, "NoVote.why")? {
            Why::NoneExecuted(reports) => Self::NoneExecuted {
                reports: all(reports.reports)?,
            },
            Why::NoCulprit(failure) => Self::NoCulprit(failure.try_into()?),
            Why::Refused(refusal) => Self::Refused(refusal.try_into()?),
        })
    }
}
