//! Home's work before any branch is prepared: failing members can still be left out (R2).

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use gavel_protocol::message::{Decide, FailedMember, HeadStarted, MemberReport};
use gavel_protocol::outcome::StatementResult;

use super::{OPEN_DECISION, decision_params};
use crate::pg::{Connection, Lost, Segment};
use crate::shard::Shard;
use crate::work::chunks::{self, Tried};

/// What home has come to ahead of the votes: the transaction is open, and its rows are in it.
pub(crate) struct Worked {
    /// The decide that a COMMIT would carry out: the members that were executed, and the failures
    /// of others.
    pub(crate) decide: Decide,
    /// Who is not part of it, by place.
    pub(crate) left_out: BTreeMap<usize, MemberReport>,
    /// What the statements of the others returned.
    pub(crate) results: Vec<Vec<StatementResult>>,
}

/// Does everything that the decide asks for but COMMIT, without the members that fail. `None` if
/// that is not possible; the transaction is to be rolled back then, as it is if nobody was executed.
///
/// The rows come last, because only then it is known which. R4 asks for them before the work so
/// that a resolver waits for home; no branch of this batch exists that anybody could resolve.
pub(crate) async fn work_first(
    connection: &mut Connection,
    shard: &Shard,
    decide: Decide,
) -> Result<Option<Worked>, Lost> {
    let isolation = decide.isolation.as_sql();
    let begun = connection.run(|pipeline| {
        let begin = format!("BEGIN ISOLATION LEVEL {isolation} READ WRITE");
        pipeline.run(&begin, &[]).sync();
    });
    if has_failed(&begun.await?) {
        return Ok(None);
    }
    let until = Instant::now() + Duration::from_millis(shard.limits.decide_timeout_ms / 4);
    let tried = chunks::run(connection, shard, &decide.members, until).await?;
    let worked = Worked::of(decide, tried);
    if worked.decide.members.is_empty() {
        return Ok(Some(worked));
    }
    let rows = connection.run(|pipeline| {
        // R4: outside any savepoint.
        pipeline.run("RELEASE chunk", &[]);
        pipeline.run(OPEN_DECISION, &decision_params(&worked.decide));
        pipeline.sync();
    });
    Ok((!has_failed(&rows.await?)).then_some(worked))
}

impl Worked {
    /// What its session may commit, if anybody was executed, and the answer.
    pub(crate) fn into_session(self) -> (Option<Decide>, HeadStarted) {
        let ready = HeadStarted::Ready {
            left_out: self.left_out,
            results: self.results,
        };
        let has_members = !self.decide.members.is_empty();
        (has_members.then_some(self.decide), ready)
    }

    fn of(decide: Decide, tried: Vec<Tried>) -> Self {
        let mut worked = Self {
            decide: Decide {
                members: Vec::new(),
                ..decide
            },
            left_out: BTreeMap::new(),
            results: Vec::new(),
        };
        for (place, (member, tried)) in decide.members.into_iter().zip(tried).enumerate() {
            let (report, results) = tried.into_report();
            match report {
                MemberReport::Executed => {
                    worked.decide.members.push(member);
                    worked.results.push(results);
                    continue;
                }
                MemberReport::Failed(ref reason) => worked.decide.failed.push(FailedMember {
                    txid: member.txid,
                    request_hash: member.request_hash,
                    reason: reason.clone(),
                }),
                MemberReport::Refused(_) | MemberReport::NotRun => {}
            }
            worked.left_out.insert(place, report);
        }
        worked
    }
}

fn has_failed(segments: &[Segment]) -> bool {
    segments
        .first()
        .is_none_or(|segment| segment.error.is_some())
}
