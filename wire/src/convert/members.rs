//! The parts of a batch: members, reports, failures.

use std::sync::Arc;

use bytes::Bytes;
use gavel_protocol::message::{FailedMember, Member, MemberFailure, MemberReport};
use gavel_protocol::outcome::StatementResult;
use gavel_protocol::{AbortCode, AbortReason, RequestHash, Statement};

use super::shared::{SqlTexts, short, values_from_wire, values_to_wire};
use super::{
    Checked, MalformedMessage, Problem, all, array, converted, each, id_bytes, required, tag, txid,
};
use crate::participant as wire;

impl From<AbortReason> for wire::AbortReason {
    fn from(reason: AbortReason) -> Self {
        Self {
            code: reason.code.as_str().to_owned(),
            message: reason.message,
            shard: reason.shard.map(|shard| u32::from(shard.0)),
            statement: reason.statement,
            sqlstate: reason.sqlstate,
        }
    }
}

impl TryFrom<wire::AbortReason> for AbortReason {
    type Error = MalformedMessage;
    fn try_from(reason: wire::AbortReason) -> Checked<Self> {
        Ok(Self {
            code: abort_code(&reason.code)?,
            message: reason.message,
            shard: reason
                .shard
                .map(|number| tag(number, "AbortReason.shard"))
                .transpose()?,
            statement: reason.statement,
            sqlstate: reason.sqlstate,
        })
    }
}

/// Reads the stable spelling of a code.
pub(super) fn abort_code(text: &str) -> Checked<AbortCode> {
    AbortCode::from_str_exact(text)
        .ok_or_else(|| MalformedMessage::new("AbortReason.code", Problem::UnknownCode(short(text))))
}

/// Members and the texts that they share. The texts of a batch are few, and its members many:
/// sending each once keeps messages short, and lets the receiver's members share them again.
pub(super) fn members_to_wire(members: &[Member]) -> (Vec<String>, Vec<wire::Member>) {
    let mut texts = SqlTexts::default();
    let members = members
        .iter()
        .map(|member| wire::Member {
            txid: id_bytes(member.txid),
            request_hash: Bytes::copy_from_slice(&member.request_hash.0),
            statements: member
                .statements
                .iter()
                .map(|statement| wire::Statement {
                    sql: Some(texts.index_of(&statement.sql)),
                    params: values_to_wire(statement.params.clone()),
                    guard: statement.guard.map(Into::into),
                })
                .collect(),
        })
        .collect();
    (texts.into_texts(), members)
}

/// And back.
pub(super) fn members_from_wire(
    texts: Vec<String>,
    members: Vec<wire::Member>,
) -> Checked<Vec<Member>> {
    let texts: Vec<Arc<str>> = texts.into_iter().map(Arc::from).collect();
    members
        .into_iter()
        .map(|member| member_from_wire(&texts, member))
        .collect()
}

fn member_from_wire(texts: &[Arc<str>], member: wire::Member) -> Checked<Member> {
    let statements: Vec<Statement> = member
        .statements
        .into_iter()
        .map(|statement| statement_from_wire(texts, statement))
        .collect::<Checked<_>>()?;
    Ok(Member {
        txid: txid(&member.txid, "Member.txid")?,
        request_hash: RequestHash(array(&member.request_hash, "Member.request_hash")?),
        statements: statements.into(),
    })
}

fn statement_from_wire(texts: &[Arc<str>], statement: wire::Statement) -> Checked<Statement> {
    let index = required(statement.sql, "Statement.sql")?;
    let sql = usize::try_from(index)
        .ok()
        .and_then(|index| texts.get(index))
        .ok_or(MalformedMessage::new("Statement.sql", Problem::OutOfRange))?;
    Ok(Statement {
        sql: Arc::clone(sql),
        params: values_from_wire(statement.params),
        guard: statement.guard.map(TryInto::try_into).transpose()?,
    })
}

impl From<FailedMember> for wire::FailedMember {
    fn from(failed: FailedMember) -> Self {
        Self {
            txid: id_bytes(failed.txid),
            request_hash: Bytes::copy_from_slice(&failed.request_hash.0),
            reason: Some(failed.reason.into()),
        }
    }
}

impl TryFrom<wire::FailedMember> for FailedMember {
    type Error = MalformedMessage;
    fn try_from(failed: wire::FailedMember) -> Checked<Self> {
        Ok(Self {
            txid: txid(&failed.txid, "FailedMember.txid")?,
            request_hash: RequestHash(array(&failed.request_hash, "FailedMember.request_hash")?),
            reason: converted(failed.reason, "FailedMember.reason")?,
        })
    }
}

impl From<MemberReport> for wire::MemberReport {
    fn from(report: MemberReport) -> Self {
        use wire::member_report::Report;
        let report = match report {
            MemberReport::Executed => Report::Executed(wire::Empty {}),
            MemberReport::Failed(reason) => Report::Failed(reason.into()),
            MemberReport::Refused(refusal) => Report::Refused(refusal.into()),
            MemberReport::NotRun => Report::NotRun(wire::Empty {}),
        };
        Self {
            report: Some(report),
        }
    }
}

impl TryFrom<wire::MemberReport> for MemberReport {
    type Error = MalformedMessage;
    fn try_from(report: wire::MemberReport) -> Checked<Self> {
        use wire::member_report::Report;
        Ok(match required(report.report, "MemberReport.report")? {
            Report::Executed(wire::Empty {}) => Self::Executed,
            Report::Failed(reason) => Self::Failed(reason.try_into()?),
            Report::Refused(refusal) => Self::Refused(refusal.try_into()?),
            Report::NotRun(wire::Empty {}) => Self::NotRun,
        })
    }
}

/// Reports as one message.
pub(super) fn reports_to_wire(reports: Vec<MemberReport>) -> wire::MemberReports {
    wire::MemberReports {
        reports: each(reports),
    }
}

impl From<MemberFailure> for wire::MemberFailure {
    fn from(failure: MemberFailure) -> Self {
        use wire::member_failure::Failure;
        let failure = match failure {
            MemberFailure::Failed(reason) => Failure::Failed(reason.into()),
            MemberFailure::Refused(refusal) => Failure::Refused(refusal.into()),
        };
        Self {
            failure: Some(failure),
        }
    }
}

impl TryFrom<wire::MemberFailure> for MemberFailure {
    type Error = MalformedMessage;
    fn try_from(failure: wire::MemberFailure) -> Checked<Self> {
        use wire::member_failure::Failure;
        Ok(match required(failure.failure, "MemberFailure.failure")? {
            Failure::Failed(reason) => Self::Failed(reason.try_into()?),
            Failure::Refused(refusal) => Self::Refused(refusal.try_into()?),
        })
    }
}

/// Results per member.
pub(super) fn results_to_wire(results: Vec<Vec<StatementResult>>) -> Vec<wire::MemberResults> {
    results
        .into_iter()
        .map(|results| wire::MemberResults {
            results: each(results),
        })
        .collect()
}

/// And back.
pub(super) fn results_from_wire(
    results: Vec<wire::MemberResults>,
) -> Checked<Vec<Vec<StatementResult>>> {
    results
        .into_iter()
        .map(|member| all(member.results))
        .collect()
}
