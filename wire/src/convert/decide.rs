//! Decide and its answer.

use gavel_protocol::message::{
    Decide, DecideAnswer, Decided, HeadStart, HeadStarted, KnownTxid, MemberReport, WhyAborted,
};

use super::members::{members_from_wire, members_to_wire, results_from_wire, results_to_wire};
use super::shared::isolation;
use super::{
    Checked, MalformedMessage, Problem, all, batch_id, converted, driver_bytes, driver_id, each,
    id_bytes, incarnation, principal, required, tag_numbers, tags, txid,
};
use crate::{api, participant as wire};

impl From<Decide> for wire::DecideRequest {
    fn from(decide: Decide) -> Self {
        let (sql_texts, members) = members_to_wire(&decide.members);
        Self {
            shard: None,
            batch: id_bytes(decide.batch),
            incarnation: Some(decide.incarnation.0),
            prepared: tag_numbers(decide.prepared),
            principal: decide.principal.into(),
            isolation: api::Isolation::from(decide.isolation).into(),
            batch_safe: Some(decide.batch_safe),
            sql_texts,
            members,
            failed: each(decide.failed),
        }
    }
}

impl TryFrom<wire::DecideRequest> for Decide {
    type Error = MalformedMessage;
    fn try_from(request: wire::DecideRequest) -> Checked<Self> {
        Ok(Self {
            batch: batch_id(&request.batch, "DecideRequest.batch")?,
            incarnation: incarnation(request.incarnation, "DecideRequest.incarnation")?,
            prepared: tags(request.prepared, "DecideRequest.prepared")?,
            principal: principal(request.principal, "DecideRequest.principal")?,
            isolation: isolation(request.isolation, "DecideRequest.isolation")?,
            batch_safe: required(request.batch_safe, "DecideRequest.batch_safe")?,
            members: members_from_wire(request.sql_texts, request.members)?,
            failed: all(request.failed)?,
        })
    }
}

impl From<HeadStart> for wire::HeadStartRequest {
    fn from(head_start: HeadStart) -> Self {
        Self {
            shard: None,
            decide: Some(head_start.decide.into()),
            driver: driver_bytes(head_start.driver),
            leave_out: head_start.leave_out,
        }
    }
}

impl TryFrom<wire::HeadStartRequest> for HeadStart {
    type Error = MalformedMessage;
    fn try_from(request: wire::HeadStartRequest) -> Checked<Self> {
        Ok(Self {
            decide: converted(request.decide, "HeadStartRequest.decide")?,
            driver: driver_id(&request.driver, "HeadStartRequest.driver")?,
            leave_out: request.leave_out,
        })
    }
}

impl From<HeadStarted> for wire::HeadStartResponse {
    fn from(started: HeadStarted) -> Self {
        use wire::head_start_response::Answer as Kind;
        Self {
            shard: None,
            batch: Default::default(),
            answer: Some(match started {
                HeadStarted::Ready { left_out, results } => Kind::Ready(wire::HeadStartReady {
                    results: results_to_wire(results),
                    left_out: left_out.into_iter().map(left_out_to_wire).collect(),
                }),
                HeadStarted::Not { detail } => Kind::Not(detail),
            }),
        }
    }
}

impl TryFrom<wire::HeadStartResponse> for HeadStarted {
    type Error = MalformedMessage;
    fn try_from(response: wire::HeadStartResponse) -> Checked<Self> {
        use wire::head_start_response::Answer as Kind;
        Ok(
            match required(response.answer, "HeadStartResponse.answer")? {
                Kind::Ready(ready) => Self::Ready {
                    left_out: ready
                        .left_out
                        .into_iter()
                        .map(left_out_from_wire)
                        .collect::<Checked<_>>()?,
                    results: results_from_wire(ready.results)?,
                },
                Kind::Not(detail) => Self::Not { detail },
            },
        )
    }
}

fn left_out_to_wire((member, report): (usize, MemberReport)) -> wire::LeftOut {
    wire::LeftOut {
        member: u32::try_from(member).unwrap_or(u32::MAX),
        report: Some(report.into()),
    }
}

fn left_out_from_wire(left_out: wire::LeftOut) -> Checked<(usize, MemberReport)> {
    let member = usize::try_from(left_out.member)
        .map_err(|_| MalformedMessage::new("LeftOut.member", Problem::OutOfRange))?;
    match converted(left_out.report, "LeftOut.report")? {
        MemberReport::Executed => Err(MalformedMessage::invalid(
            "LeftOut.report",
            "who was executed is not left out",
        )),
        report => Ok((member, report)),
    }
}

impl From<DecideAnswer> for wire::DecideResponse {
    fn from(answer: DecideAnswer) -> Self {
        Self {
            shard: None,
            batch: Default::default(),
            decided: Some(answer.decided.into()),
            results: results_to_wire(answer.results),
        }
    }
}

impl TryFrom<wire::DecideResponse> for DecideAnswer {
    type Error = MalformedMessage;
    fn try_from(response: wire::DecideResponse) -> Checked<Self> {
        Ok(Self {
            decided: converted(response.decided, "DecideResponse.decided")?,
            results: results_from_wire(response.results)?,
        })
    }
}

impl From<Decided> for wire::Decided {
    fn from(decided: Decided) -> Self {
        use wire::decided::Decided as Kind;
        let decided = match decided {
            Decided::Committed => Kind::Committed(wire::Empty {}),
            Decided::Aborted(why) => Kind::Aborted(why.into()),
            Decided::Unknown { detail } => Kind::Unknown(detail),
        };
        Self {
            decided: Some(decided),
        }
    }
}

impl TryFrom<wire::Decided> for Decided {
    type Error = MalformedMessage;
    fn try_from(decided: wire::Decided) -> Checked<Self> {
        use wire::decided::Decided as Kind;
        Ok(match required(decided.decided, "Decided.decided")? {
            Kind::Committed(wire::Empty {}) => Self::Committed,
            Kind::Aborted(why) => Self::Aborted(why.try_into()?),
            Kind::Unknown(detail) => Self::Unknown { detail },
        })
    }
}

impl From<WhyAborted> for wire::WhyAborted {
    fn from(why: WhyAborted) -> Self {
        use wire::why_aborted::Why;
        let why = match why {
            WhyAborted::Member {
                index,
                failure,
                recorded,
                also,
            } => Why::Member(wire::MemberFailed {
                // No message holds so many members; the largest index names none of them.
                index: Some(u32::try_from(index).unwrap_or(u32::MAX)),
                failure: Some(failure.into()),
                recorded: Some(recorded),
                also: also
                    .into_iter()
                    .filter_map(|index| index.try_into().ok())
                    .collect(),
            }),
            WhyAborted::Known(known) => Why::Known(wire::KnownTxids { known: each(known) }),
            WhyAborted::NoCulprit { failure, recorded } => Why::NoCulprit(wire::WholeFailed {
                failure: Some(failure.into()),
                recorded: Some(recorded),
            }),
            WhyAborted::Refused(refusal) => Why::Refused(refusal.into()),
        };
        Self { why: Some(why) }
    }
}

impl TryFrom<wire::WhyAborted> for WhyAborted {
    type Error = MalformedMessage;
    fn try_from(why: wire::WhyAborted) -> Checked<Self> {
        use wire::why_aborted::Why;
        Ok(match required(why.why, "WhyAborted.why")? {
            Why::Member(member) => Self::Member {
                index: usize::try_from(required(member.index, "MemberFailed.index")?).map_err(
                    |_| MalformedMessage::new("MemberFailed.index", Problem::OutOfRange),
                )?,
                failure: converted(member.failure, "MemberFailed.failure")?,
                recorded: required(member.recorded, "MemberFailed.recorded")?,
                also: member
                    .also
                    .into_iter()
                    .filter_map(|index| index.try_into().ok())
                    .collect(),
            },
            Why::Known(known) => Self::Known(all(known.known)?),
            Why::NoCulprit(whole) => Self::NoCulprit {
                failure: converted(whole.failure, "WholeFailed.failure")?,
                recorded: required(whole.recorded, "WholeFailed.recorded")?,
            },
            Why::Refused(refusal) => Self::Refused(refusal.try_into()?),
        })
    }
}

impl From<KnownTxid> for wire::KnownTxid {
    fn from(known: KnownTxid) -> Self {
        Self {
            txid: id_bytes(known.txid),
            record: Some(known.record.into()),
        }
    }
}

impl TryFrom<wire::KnownTxid> for KnownTxid {
    type Error = MalformedMessage;
    fn try_from(known: wire::KnownTxid) -> Checked<Self> {
        Ok(Self {
            txid: txid(&known.txid, "KnownTxid.txid")?,
            record: converted(known.record, "KnownTxid.record")?,
        })
    }
}
