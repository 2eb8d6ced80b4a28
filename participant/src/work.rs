//! Running members' work inside an open transaction, for prepare and decide alike.

pub mod chunks;

use std::borrow::Borrow;

use gavel_protocol::message::{Member, MemberFailure};
use gavel_protocol::outcome::StatementResult;
use gavel_protocol::{Limits, ShardTag, Statement};

use crate::failure::{self, Place};
use crate::pg::{Pipeline, Reply, Segment};

/// Pins what a vote or a decision depends on, right before it (R11): the role that owns the
/// prepared transaction (facts 9), a synchronous commit (facts 6), no timeout that could cancel
/// the wait for standbys, and warnings, which are half of the answer (facts 2).
///
/// The lock timeout stays: deferred constraints take locks at PREPARE and COMMIT, and may wait
/// for a branch that is prepared. It strikes in lock waits only, all of which come before the
/// transaction becomes durable; without it two homes could wait for each other for ever.
pub fn pin(pipeline: &mut Pipeline<'_>, limits: &Limits) {
    let lock_timeout_ms = Some(limits.lock_timeout_ms.to_string());
    pipeline.run(PIN, &[lock_timeout_ms]);
}

const PIN: &str = "SELECT pg_catalog.set_config('role', 'none', true), \
     pg_catalog.set_config('synchronous_commit', 'on', true), \
     pg_catalog.set_config('statement_timeout', '0', true), \
     pg_catalog.set_config('lock_timeout', $1, true), \
     pg_catalog.set_config('client_min_messages', 'warning', true)";

/// Adds a member's statements to a pipeline.
pub fn add(pipeline: &mut Pipeline<'_>, statements: &[Statement], limits: &Limits) {
    for Statement {
        sql,
        params,
        guard: _,
    } in statements
    {
        let (rows, bytes) = (limits.rows_per_statement_max, limits.result_bytes_max);
        pipeline.run_limited(sql, params, rows, bytes);
    }
}

/// Reads the replies to one member's statements: its results, or why it failed.
///
/// This is where a guard is enforced: before PREPARE or COMMIT is sent (R3).
pub fn judge(
    shard: ShardTag,
    statements: &[Statement],
    replies: Vec<Reply>,
) -> Result<Vec<StatementResult>, MemberFailure> {
    debug_assert_eq!(statements.len(), replies.len());
    let each = statements.iter().zip(replies).enumerate();
    each.map(|(index, (statement, reply))| {
        let place = Place {
            shard,
            statement: Some(index),
        };
        if reply.too_large {
            return Err(MemberFailure::Failed(failure::result_too_large(place)));
        }
        let rows = reply.row_count();
        match statement.guard {
            Some(guard) if !guard.holds(rows) => Err(MemberFailure::Failed(failure::guard_failed(
                place, guard, rows,
            ))),
            _ => Ok(reply.into_result()),
        }
    })
    .collect()
}

/// The first member that failed.
#[derive(Debug)]
pub struct Culprit {
    /// Which member.
    pub index: usize,
    /// How it failed.
    pub failure: MemberFailure,
}

/// Reads the replies to all members' statements, which follow `preamble` other statements in
/// one segment. The error of the preamble, if it was that which failed, is the caller's.
///
/// The first member that failed is the culprit, even if PostgreSQL's error came from a later one:
/// guards are judged when all have answered, and what the member with the broken guard has written
/// may be what the later one stumbled over (R10).
pub fn judge_all<M: Borrow<Member>>(
    shard: ShardTag,
    preamble: usize,
    members: &[M],
    segment: Segment,
) -> Result<Vec<Vec<StatementResult>>, Culprit> {
    let answered = segment.replies.len();
    let raised = segment
        .error
        .map(|error| blame(shard, preamble, members, answered, &error));
    let complete = raised
        .as_ref()
        .map_or(members.len(), |culprit| culprit.index);
    let mut replies = segment.replies.into_iter().skip(preamble);
    let each = members[..complete].iter().map(Borrow::borrow).enumerate();
    let results = each.map(|(index, member)| {
        let own = replies.by_ref().take(member.statements.len()).collect();
        judge(shard, &member.statements, own).map_err(|failure| Culprit { index, failure })
    });
    let results = results.collect::<Result<_, _>>()?;
    raised.map_or(Ok(results), Err)
}

/// Finds the member whose statement raised `error`: the one at position `failed_at`.
fn blame<M: Borrow<Member>>(
    shard: ShardTag,
    preamble: usize,
    members: &[M],
    failed_at: usize,
    error: &crate::pg::ServerError,
) -> Culprit {
    let mut statement = failed_at.saturating_sub(preamble);
    for (index, member) in members.iter().map(Borrow::borrow).enumerate() {
        if statement < member.statements.len() {
            let place = Place {
                shard,
                statement: Some(statement),
            };
            return Culprit {
                index,
                failure: failure::classify(error, place),
            };
        }
        statement -= member.statements.len();
    }
    let place = Place {
        shard,
        statement: None,
    };
    Culprit {
        index: members.len().saturating_sub(1),
        failure: failure::classify(error, place),
    }
}
