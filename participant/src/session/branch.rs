//! One open branch: its connection, and what has been run on it.

use std::sync::Arc;

use gavel_protocol::message::{Decide, Executed, Member, MemberFailure, SessionOpen};
use gavel_protocol::sql::{self, StatementKind};
use gavel_protocol::{Refusal, RefusalCode, RequestHash, Statement, Txid};
use tokio::sync::OwnedSemaphorePermit;

use super::lost;
use crate::crash_point;
use crate::failure::{self, Place};
use crate::pg::pool::Lease;
use crate::pg::{Lost, Segment, ServerError};
use crate::prepare;
use crate::shard::{Shard, SlotPermit};
use crate::work;

/// An open branch.
pub(super) struct Session {
    pub(super) open: SessionOpen,
    pub(super) connection: Lease,
    pub(super) slot: Option<SlotPermit>,
    pub(super) sequence: u64,
    pub(super) last: Option<Executed>,
    pub(super) batch_safe: bool,
    pub(super) decide: Option<Decide>,
    pub(super) _head_start: Option<OwnedSemaphorePermit>,
}

impl Session {
    /// Takes a connection and begins, with the first statement if there is one.
    pub(super) async fn begin(
        shard: &Shard,
        open: SessionOpen,
        first: Option<Statement>,
    ) -> Result<(Self, Option<Executed>), MemberFailure> {
        let slot = match open.is_home() {
            true => None,
            false => Some(
                shard
                    .slots
                    .acquire(open.gid.home)
                    .map_err(MemberFailure::Refused)?,
            ),
        };
        let connection = shard.interactive.get().await.map_err(|error| {
            let message = format!("shard {}: no connection: {error}", shard.tag());
            MemberFailure::Refused(Refusal::new(RefusalCode::Overloaded, message))
        })?;
        let mut session = Self {
            open,
            connection,
            slot,
            sequence: 0,
            last: None,
            batch_safe: true,
            decide: None,
            _head_start: None,
        };
        let executed = session.send_begin(shard, first).await?;
        crash_point!("participant.session.opened");
        Ok((session, executed))
    }

    /// BEGIN, the branch row unless this is home (R1), and the first statement, in one exchange.
    async fn send_begin(
        &mut self,
        shard: &Shard,
        first: Option<Statement>,
    ) -> Result<Option<Executed>, MemberFailure> {
        let (open, member) = (&self.open, first.map(alone));
        let begin = format!(
            "BEGIN ISOLATION LEVEL {} READ WRITE",
            open.isolation.as_sql()
        );
        let sent = self.connection.run(|pipeline| {
            pipeline.run(&begin, &[]);
            if !open.is_home() {
                prepare::open_branch(pipeline, shard, &open.gid);
            }
            if let Some(member) = &member {
                work::add(pipeline, &member.statements, &shard.limits);
            }
            pipeline.sync();
        });
        let segment = only(sent.await).map_err(MemberFailure::Refused)?;
        let preamble = if self.open.is_home() { 1 } else { 2 };
        let not_begun = segment.replies.len() < preamble;
        if let Some(error) = segment.error.as_ref().filter(|_| not_begun) {
            self.connection.discard();
            let place = Place {
                shard: shard.tag(),
                statement: None,
            };
            return Err(failure::classify(error, place));
        }
        Ok(member.map(|member| self.read(shard, preamble, member, segment)))
    }

    /// Runs one statement.
    pub(super) async fn execute(&mut self, shard: &Shard, statement: Statement) -> Executed {
        let member = alone(statement);
        let sent = self.connection.run(|pipeline| {
            work::add(pipeline, &member.statements, &shard.limits);
            pipeline.sync();
        });
        match only(sent.await) {
            Ok(segment) => self.read(shard, 0, member, segment),
            Err(refusal) => Executed::Lost(refusal),
        }
    }

    /// What a statement has come to, whose answer follows `preamble` others.
    fn read(
        &mut self,
        shard: &Shard,
        preamble: usize,
        member: Member,
        segment: Segment,
    ) -> Executed {
        let members = [member];
        let [Member { statements, .. }] = &members;
        self.batch_safe &= statements
            .iter()
            .all(|statement| sql::classify(&statement.sql) == Ok(StatementKind::BatchSafe));
        let executed = match work::judge_all(shard.tag(), preamble, &members, segment) {
            Ok(results) => Executed::Done(results.into_iter().flatten().next().unwrap_or_default()),
            Err(culprit) => Executed::Failed(culprit.failure),
        };
        self.sequence += 1;
        self.last = Some(executed.clone());
        executed
    }
}

/// The answer to one exchange, if the session goes on after it.
fn only(segments: Result<Vec<Segment>, Lost>) -> Result<Segment, Refusal> {
    let segments = segments.map_err(|gone| lost_connection(&gone))?;
    let segment = segments.into_iter().next().ok_or_else(lost)?;
    let ended = segment
        .error
        .as_ref()
        .is_some_and(ServerError::ends_session);
    if ended { Err(lost()) } else { Ok(segment) }
}

/// The transaction as far as one exchange is concerned.
fn alone(statement: Statement) -> Member {
    Member {
        statements: Arc::from([statement]),
        ..placeholder()
    }
}

/// An interactive batch has one member, whose identity matters only at home.
pub(super) fn placeholder() -> Member {
    Member {
        txid: Txid::mint(0, gavel_protocol::ShardTag(0), [0; 16]),
        request_hash: RequestHash::ANY,
        statements: Arc::from([]),
    }
}

fn lost_connection(gone: &Lost) -> Refusal {
    let message = format!("the session's connection was lost: {}", gone.0);
    Refusal::new(RefusalCode::SessionLost, message)
}
