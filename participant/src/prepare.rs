//! Preparing a branch.
//!
//! The plain path is two round trips, as few as R3 allows: one runs everything and ends at a
//! Sync, its answers are read and guards judged, and only then PREPARE TRANSACTION is sent.
//!
//! If a member of several fails, or is likely to, the branch starts over and runs its members in small chunks
//! behind savepoints, so that the failing ones can be left out without failing their neighbours
//! (R10).
//!
//! If this process dies at any await: before PREPARE was sent, PostgreSQL rolls back when it
//! sees the connection close; after that, the branch may be prepared, its coordinator counts the
//! vote as unknown, and the scan resolves it.

use std::time::{Duration, Instant};

use gavel_protocol::message::{
    Member, MemberFailure, MemberReport, NoVote, Prepare, PrepareAnswer, Vote,
};
use gavel_protocol::outcome::StatementResult;
use gavel_protocol::{Access, Gid, MembersDigest, Refusal, RefusalCode};

use crate::crash_point;
use crate::failure::{self, Place};
use crate::pg::pool::Lease;
use crate::pg::{Connection, Lost, Pipeline, Segment, ServerError, text};
use crate::shard::{Shard, SlotPermit};
use crate::work;
use crate::work::chunks::{self, Tried};

/// Statements before the members' work in a branch's first segment: BEGIN and the branch row.
const PREAMBLE: usize = 2;

const OPEN_BRANCH: &str = "SELECT gavel.open_branch($1, $2, $3, $4, $5), \
     pg_current_xact_id()::text";

/// Prepares the branch, or says why not. Never leaves a transaction open.
pub async fn prepare(shard: &Shard, prepare: &Prepare) -> PrepareAnswer {
    crash_point!("participant.prepare.received");
    let answer = match Branch::open(shard, prepare).await {
        Ok(mut branch) => {
            let answer = branch.vote().await;
            if branch.slot.is_some() && matches!(answer.vote, Vote::No(_)) {
                shard.slots.note_finished(prepare.gid.home);
            }
            answer
        }
        Err(refusal) => no_vote(NoVote::Refused(refusal)),
    };
    crash_point!("participant.prepare.answering");
    answer
}

/// Prepares a branch whose work has been done in an open session; it has one member.
pub(crate) async fn prepare_open(
    shard: &Shard,
    prepare: &Prepare,
    connection: Lease,
    slot: Option<SlotPermit>,
) -> Vote {
    let mut branch = Branch {
        shard,
        prepare,
        connection,
        started: Instant::now(),
        slot,
    };
    let reports = vec![MemberReport::Executed];
    let executed = Executed {
        xid: 0,
        reports,
        results: Vec::new(),
    };
    branch.prepare_transaction(executed).await.vote
}

/// An answer of a branch that is not prepared.
pub(crate) fn no_vote(why: NoVote) -> PrepareAnswer {
    PrepareAnswer {
        vote: Vote::No(why),
        results: Vec::new(),
    }
}

fn unknown(detail: impl Into<String>) -> PrepareAnswer {
    PrepareAnswer {
        vote: Vote::Unknown {
            detail: detail.into(),
        },
        results: Vec::new(),
    }
}

/// The members' work is done, and the transaction is open.
struct Executed {
    xid: u64,
    reports: Vec<MemberReport>,
    results: Vec<Vec<StatementResult>>,
}

/// Why the members' work did not get done. The transaction is not open any more, or will end
/// with its connection, and PREPARE was never sent.
enum Undone {
    Answer(PrepareAnswer),
    /// The branch's own row is taken: another execution of this batch exists on this shard.
    Duplicate(String),
}

impl From<Lost> for Undone {
    /// PostgreSQL rolls back what was not prepared when it sees the connection close.
    fn from(lost: Lost) -> Self {
        let message = format!("the connection was lost before PREPARE: {}", lost.0);
        Self::Answer(no_vote(NoVote::Refused(Refusal::new(
            RefusalCode::ShardUnavailable,
            message,
        ))))
    }
}

struct Branch<'a> {
    shard: &'a Shard,
    prepare: &'a Prepare,
    connection: Lease,
    started: Instant,
    slot: Option<SlotPermit>,
}

impl<'a> Branch<'a> {
    async fn open(shard: &'a Shard, prepare: &'a Prepare) -> Result<Self, Refusal> {
        shard.check_branch(&prepare.gid, prepare.incarnation)?;
        let slot = match prepare.access {
            Access::ReadWrite => Some(shard.slots.acquire(prepare.gid.home)?),
            Access::ReadOnly => None,
        };
        let connection = shard.work.get().await.map_err(|error| {
            let message = format!("shard {}: no connection: {error}", shard.tag());
            Refusal::new(RefusalCode::ShardUnavailable, message)
        })?;
        Ok(Self {
            shard,
            prepare,
            connection,
            started: Instant::now(),
            slot,
        })
    }

    async fn vote(&mut self) -> PrepareAnswer {
        let executed = match self.execute().await {
            Ok(executed) => executed,
            Err(Undone::Answer(answer)) => return answer,
            Err(Undone::Duplicate(detail)) => return unknown(detail),
        };
        crash_point!("participant.prepare.executed");
        match self.prepare.access {
            Access::ReadWrite => self.prepare_transaction(executed).await,
            Access::ReadOnly => self.end_reading(executed).await,
        }
    }

    /// Runs everybody at once; if somebody fails, in chunks without those who do.
    async fn execute(&mut self) -> Result<Executed, Undone> {
        let members = &self.prepare.members;
        if self.prepare.in_chunks && members.len() > 1 {
            return self.execute_in_chunks(&[]).await;
        }
        let limits = &self.shard.limits;
        let (shard, prepare) = (self.shard, self.prepare);
        let segments = self
            .connection
            .run(|pipeline| {
                begin(pipeline, shard, prepare);
                for member in members {
                    work::add(pipeline, &member.statements, limits);
                }
                pipeline.sync();
            })
            .await?;
        let segment = only(segments)?;
        if let Some(error) = segment
            .error
            .as_ref()
            .filter(|_| segment.replies.len() < PREAMBLE)
        {
            return Err(self.preamble_failed(error.clone()).await);
        }
        let xid = xid(&segment);
        match work::judge_all(shard.tag(), PREAMBLE, members, segment) {
            Ok(results) => {
                let reports = vec![MemberReport::Executed; members.len()];
                Ok(Executed {
                    xid,
                    reports,
                    results,
                })
            }
            Err(culprit) if members.len() == 1 => {
                self.rollback().await;
                let (report, _) = Tried::Failed(culprit.failure).into_report();
                let reports = vec![report];
                Err(Undone::Answer(no_vote(NoVote::NoneExecuted { reports })))
            }
            Err(_) => self.execute_in_chunks(&["ROLLBACK"]).await,
        }
    }

    /// R10: without those who fail, for half of the vote's time; who did not get a turn travels
    /// in a later batch. First `undo` ends what was there before.
    async fn execute_in_chunks(&mut self, undo: &[&str]) -> Result<Executed, Undone> {
        let (shard, prepare) = (self.shard, self.prepare);
        let segments = self
            .connection
            .run(|pipeline| {
                for step in undo {
                    pipeline.run(step, &[]).sync();
                }
                begin(pipeline, shard, prepare);
                pipeline.sync();
            })
            .await?;
        let opened = segments.into_iter().last().ok_or_else(lost_session)?;
        if let Some(error) = opened.error.clone() {
            return Err(self.preamble_failed(error).await);
        }
        let until = self.started + Duration::from_millis(shard.limits.prepare_timeout_ms / 2);
        let tried = chunks::run(&mut self.connection, shard, &prepare.members, until).await?;
        let (reports, results): (Vec<_>, Vec<_>) =
            tried.into_iter().map(Tried::into_report).unzip();
        if reports.contains(&MemberReport::Executed) {
            let xid = xid(&opened);
            return Ok(Executed {
                xid,
                reports,
                results,
            });
        }
        self.rollback().await;
        Err(Undone::Answer(no_vote(NoVote::NoneExecuted { reports })))
    }

    /// The vote itself. From the moment this is sent, only the tag says what happened (facts 1).
    async fn prepare_transaction(&mut self, executed: Executed) -> PrepareAnswer {
        let prepare = text::traced(format!("PREPARE TRANSACTION '{}'", self.prepare.gid));
        let limits = &self.shard.limits;
        let vote = |pipeline: &mut Pipeline<'_>| {
            work::pin(pipeline, limits);
            pipeline.run_once(&prepare).sync();
        };
        let sent = run_last(&mut self.connection, self.prepare.batch_safe, vote).await;
        crash_point!("participant.prepare.prepared");
        let segment = match sent {
            Ok(segment) => segment,
            Err(lost) => return unknown(format!("lost during PREPARE: {}", lost.0)),
        };
        self.read_vote(segment, executed)
    }

    fn read_vote(&self, segment: Segment, executed: Executed) -> PrepareAnswer {
        if segment.may_not_be_replicated() {
            return unknown("prepared, but perhaps not replicated (warning 01000)");
        }
        if let Some(error) = segment.error {
            // 42710: the gid exists, so another execution of this batch has prepared it.
            if error.ends_session() || error.sqlstate == "42710" {
                return unknown(format!("PREPARE: {error}"));
            }
            return no_vote(NoVote::NoCulprit(failure::classify(&error, self.place())));
        }
        if !segment.is_prepared() {
            let message = format!("PREPARE was answered with the tag `{}`", segment.last_tag());
            return no_vote(NoVote::Refused(Refusal::new(
                RefusalCode::Contended,
                message,
            )));
        }
        let Executed {
            xid,
            reports,
            results,
        } = executed;
        let digest = executed_digest(&self.prepare.members, &reports);
        PrepareAnswer {
            vote: Vote::Yes {
                digest,
                xid,
                reports,
            },
            results,
        }
    }

    /// R18: a read-only branch ends at the vote.
    async fn end_reading(&mut self, executed: Executed) -> PrepareAnswer {
        let sent = self.connection.run(|pipeline| {
            pipeline.run("COMMIT", &[]).sync();
        });
        match sent.await.map_err(Undone::from).and_then(only) {
            Ok(segment) if segment.is_committed() => {
                let Executed {
                    reports, results, ..
                } = executed;
                self.clean_up().await;
                PrepareAnswer {
                    vote: Vote::ReadOnly { reports },
                    results,
                }
            }
            Ok(segment) => {
                self.clean_up().await;
                let error = segment.error.unwrap_or_default();
                no_vote(NoVote::NoCulprit(failure::classify(&error, self.place())))
            }
            Err(Undone::Answer(answer)) => answer,
            Err(Undone::Duplicate(detail)) => unknown(detail),
        }
    }

    /// BEGIN or the branch row failed. If the row is taken or is being taken, another execution
    /// of this batch is or was here (R1), and nobody can say that nothing will be prepared.
    async fn preamble_failed(&mut self, error: ServerError) -> Undone {
        self.rollback().await;
        let taken = error.sqlstate == "23505" && error.concerns("branch");
        if taken || error.sqlstate == "55P03" {
            return Undone::Duplicate(format!("another execution of this batch exists: {error}"));
        }
        let failure = failure::classify(&error, self.place());
        let refusal = match failure {
            MemberFailure::Refused(refusal) => refusal,
            MemberFailure::Failed(reason) => {
                let message = format!("shard {}: {reason}", self.shard.tag());
                Refusal::new(RefusalCode::ShardUnavailable, message)
            }
        };
        Undone::Answer(no_vote(NoVote::Refused(refusal)))
    }

    async fn rollback(&mut self) {
        // A failure to roll back leaves the connection unusable, and it is closed.
        let _ = self
            .connection
            .run(|pipeline| {
                pipeline.run("ROLLBACK", &[]).sync();
            })
            .await;
        self.clean_up().await;
    }

    /// R11: no setting outlives its branch.
    async fn clean_up(&mut self) {
        clean_up(&mut self.connection, self.prepare.batch_safe).await;
    }

    fn place(&self) -> Place {
        Place {
            shard: self.shard.tag(),
            statement: None,
        }
    }
}

/// Runs the last segment of a branch or a decision and cleans up behind it (R11).
pub(crate) async fn run_last(
    connection: &mut Connection,
    batch_safe: bool,
    build: impl FnOnce(&mut Pipeline<'_>),
) -> Result<Segment, Lost> {
    if batch_safe {
        return connection.run_last(build).await;
    }
    let segments = connection.run(build).await;
    connection.discard();
    let first = segments?.into_iter().next();
    first.ok_or_else(|| Lost(std::io::ErrorKind::UnexpectedEof.into()))
}

/// R11: resets a session before its next use. Work that was more than plain queries may have
/// left anything behind; its connection is closed.
pub(crate) async fn clean_up(connection: &mut Connection, batch_safe: bool) {
    if batch_safe {
        let _ = connection.reset().await;
    } else {
        connection.discard();
    }
}

fn begin(pipeline: &mut Pipeline<'_>, shard: &Shard, prepare: &Prepare) {
    let isolation = prepare.isolation.as_sql();
    match prepare.access {
        Access::ReadWrite => {
            pipeline.run(
                &format!("BEGIN ISOLATION LEVEL {isolation} READ WRITE"),
                &[],
            );
            open_branch(pipeline, shard, &prepare.gid);
        }
        Access::ReadOnly => {
            pipeline.run(&format!("BEGIN ISOLATION LEVEL {isolation} READ ONLY"), &[]);
            pipeline.run("SELECT NULL, '0'", &[]);
        }
    }
}

/// R1: the branch row comes first.
pub(crate) fn open_branch(pipeline: &mut Pipeline<'_>, shard: &Shard, gid: &Gid) {
    let params = [
        text::scalar(gid.batch),
        text::scalar(gid),
        text::scalar(gid.home),
        text::scalar(gid.home_incarnation),
        text::scalar(shard.identity.incarnation),
    ];
    pipeline.run(OPEN_BRANCH, &params);
}

fn xid(segment: &Segment) -> u64 {
    let row = segment.replies.get(1).and_then(|reply| reply.rows.first());
    row.and_then(|row| row.get(1)?.as_deref()?.parse().ok())
        .unwrap_or(0)
}

fn only(segments: Vec<Segment>) -> Result<Segment, Undone> {
    segments.into_iter().next().ok_or_else(lost_session)
}

fn lost_session() -> Undone {
    Lost(std::io::ErrorKind::UnexpectedEof.into()).into()
}

/// R2: the digest of the members that were executed, in order.
fn executed_digest(members: &[Member], reports: &[MemberReport]) -> MembersDigest {
    let executed = members.iter().zip(reports);
    MembersDigest::of(
        executed
            .filter(|(_, report)| **report == MemberReport::Executed)
            .map(|(member, _)| member.txid),
    )
}
