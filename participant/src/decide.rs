//! Deciding a batch at home.
//!
//! One ordinary local transaction: decision row, transaction rows, home's own work, COMMIT. That
//! COMMIT is the decision. The rows come first (R4), so that a resolver that wants to force an
//! abort waits for a working home instead of beating it.
//!
//! Once this has begun, the outcome is known only from the tag COMMIT without warning, or from
//! the register (R5): whatever else happens here ends in [`Home::abort`], which commits an abort
//! row for this batch and reads it back. If even that fails, the answer is `Unknown`.
//!
//! If this process dies at any await, the register tells: no row yet means that a resolver's
//! abort will win, a commit row means that everybody commits.

mod first;
mod rows;

use std::time::{Duration, Instant};

use gavel_protocol::message::{
    Decide, DecideAnswer, Decided, FailedMember, KnownTxid, MemberFailure, Recorded, WhyAborted,
};
use gavel_protocol::outcome::StatementResult;
use gavel_protocol::{Refusal, RefusalCode, RequestHash, Txid};

pub(crate) use self::first::{Worked, work_first};
use self::rows::{
    BARRIER, FORCE_ABORT, READ_DECISIONS, READ_TRANSACTIONS, add_record_aborts, read_record,
};
pub(crate) use self::rows::{OPEN_DECISION, decision_params};
use crate::crash_point;
use crate::failure::{self, Place};
use crate::pg::pool::Lease;
use crate::pg::{Lost, Pipeline, Reply, Segment, ServerError, text};
use crate::shard::Shard;
use crate::work::chunks::{self, Tried};
use crate::work::{self, Culprit};

/// Statements before the members' work: BEGIN and the rows.
const PREAMBLE: usize = 2;

/// Decides the batch.
pub async fn decide(shard: &Shard, decide: &Decide) -> DecideAnswer {
    crash_point!("participant.decide.received");
    let answer = match shard.decide.get().await {
        Ok(connection) => {
            Home {
                shard,
                decide,
                connection,
            }
            .run()
            .await
        }
        // Nothing was sent, but a duplicate of this decide may have been: only the register
        // can say (R5).
        Err(error) => answer(Decided::Unknown {
            detail: format!("home {}: no connection: {error}", shard.tag()),
        }),
    };
    crash_point!("participant.decide.answering");
    answer
}

fn answer(decided: Decided) -> DecideAnswer {
    DecideAnswer {
        decided,
        results: Vec::new(),
    }
}

fn lost(lost: Lost) -> DecideAnswer {
    answer(Decided::Unknown {
        detail: format!("the connection to home was lost: {}", lost.0),
    })
}

/// Home at work on one batch.
pub(crate) struct Home<'a> {
    pub(crate) shard: &'a Shard,
    pub(crate) decide: &'a Decide,
    pub(crate) connection: Lease,
}

/// What made the deciding transaction fail.
pub(crate) enum Failure {
    Culprit(Culprit),
    NoCulprit(MemberFailure),
    /// A txid or the batch itself is recorded already.
    Recorded,
    Refused(Refusal),
}

impl Home<'_> {
    async fn run(&mut self) -> DecideAnswer {
        let results = match self.execute().await {
            Ok(Ok(results)) => results,
            Ok(Err(failure)) => return self.roll_back_and_abort(failure).await,
            Err(gone) => return lost(gone),
        };
        self.commit_executed(results).await
    }

    /// Commits what has been executed, and reads what became of it.
    pub(crate) async fn commit_executed(
        &mut self,
        results: Vec<Vec<StatementResult>>,
    ) -> DecideAnswer {
        crash_point!("participant.decide.executed");
        let segment = match self.commit().await {
            Ok(segment) => segment,
            Err(gone) => return lost(gone),
        };
        crash_point!("participant.decide.committed");
        if segment.may_not_be_replicated() {
            self.give_back();
            let detail = "committed, but perhaps not replicated (warning 01000)".to_owned();
            return answer(Decided::Unknown { detail });
        }
        if segment.is_committed() {
            self.give_back();
            return DecideAnswer {
                decided: Decided::Committed,
                results,
            };
        }
        let failure = match &segment.error {
            Some(error) => {
                let place = Place {
                    shard: self.shard.tag(),
                    statement: None,
                };
                Failure::NoCulprit(failure::classify(error, place))
            }
            None => Failure::Refused(Refusal::new(
                RefusalCode::Contended,
                format!("COMMIT was answered with the tag `{}`", segment.last_tag()),
            )),
        };
        self.roll_back_and_abort(failure).await
    }

    /// Rows first (R4), then the members' work.
    pub(crate) async fn execute(
        &mut self,
    ) -> Result<Result<Vec<Vec<StatementResult>>, Failure>, Lost> {
        let (decide, limits) = (self.decide, &self.shard.limits);
        let segments = self
            .connection
            .run(|pipeline| {
                let isolation = decide.isolation.as_sql();
                pipeline.run(
                    &format!("BEGIN ISOLATION LEVEL {isolation} READ WRITE"),
                    &[],
                );
                pipeline.run(OPEN_DECISION, &decision_params(decide));
                for member in &decide.members {
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
            return Ok(Err(rows_failed(error, self.shard)));
        }
        let judged = work::judge_all(self.shard.tag(), PREAMBLE, &decide.members, segment);
        Ok(judged.map_err(Failure::Culprit))
    }

    /// The decision. Never cancelled (facts 2).
    async fn commit(&mut self) -> Result<Segment, Lost> {
        let limits = &self.shard.limits;
        let commit = |pipeline: &mut Pipeline<'_>| {
            work::pin(pipeline, limits);
            match gavel_spans::current() {
                None => pipeline.run("COMMIT", &[]).sync(),
                Some(_) => pipeline.run_once(&text::traced("COMMIT".to_owned())).sync(),
            };
        };
        if self.decide.batch_safe {
            return session_goes_on(self.connection.run_last(commit).await?);
        }
        only(self.connection.run(commit).await?)
    }

    /// Finds the other members that fail here, so that the next batch leaves them all out at
    /// once (R2): every batch that fails at home costs its prepared branches too. They run in a
    /// transaction that is always rolled back; what is found out decides who runs again alone,
    /// and is told to nobody.
    async fn rehearse(&mut self, culprit: usize) -> Result<Vec<usize>, Lost> {
        let until = Instant::now() + Duration::from_millis(self.shard.limits.decide_timeout_ms / 4);
        let others = culprit + 1;
        let begun = self.connection.run(|pipeline| {
            pipeline.run("BEGIN", &[]).sync();
        });
        begun.await?;
        let members = &self.decide.members[others..];
        let tried = chunks::run(&mut self.connection, self.shard, members, until).await?;
        let failing = tried.iter().enumerate().filter_map(|(index, tried)| {
            matches!(tried, Tried::Failed(_)).then_some(others + index)
        });
        Ok(failing.collect())
    }

    async fn roll_back_and_rehearse(&mut self, failure: &Failure) -> Result<Vec<usize>, Lost> {
        self.roll_back().await?;
        let Failure::Culprit(culprit) = failure else {
            return Ok(Vec::new());
        };
        if self.decide.members.len() == 1 {
            return Ok(Vec::new());
        }
        let also = self.rehearse(culprit.index).await?;
        self.roll_back().await?;
        Ok(also)
    }

    async fn roll_back(&mut self) -> Result<(), Lost> {
        let rolled_back = self.connection.run(|pipeline| {
            pipeline.run("ROLLBACK", &[]).sync();
        });
        rolled_back.await.map(drop)
    }

    async fn roll_back_and_abort(&mut self, failure: Failure) -> DecideAnswer {
        let also = match self.roll_back_and_rehearse(&failure).await {
            Ok(also) => also,
            Err(gone) => return lost(gone),
        };
        let _ = self.connection.reset().await;
        let decided = self.abort(failure, also).await;
        self.give_back();
        decided.map_or_else(lost, answer)
    }

    /// R11: a connection that has seen more than plain queries is closed, not used again.
    fn give_back(&mut self) {
        if !self.decide.batch_safe {
            self.connection.discard();
        }
    }

    /// R5: commits an abort row for this batch and reads it back. The failure of a batch of one
    /// is recorded in the same transaction, so it costs no flush of its own.
    async fn abort(&mut self, failure: Failure, also: Vec<usize>) -> Result<Decided, Lost> {
        let own = self.own_abort(&failure);
        let txids: Vec<Txid> = self.submitted().map(|(txid, _)| txid).collect();
        let (decide, limits) = (self.decide, &self.shard.limits);
        let incarnation = decide.incarnation;
        let wait_ms = limits.resolve_lock_timeout_ms;
        let segments = self
            .connection
            .run(|pipeline| {
                pipeline.run("BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE", &[]);
                pipeline.run_once(&format!("SET LOCAL lock_timeout = {wait_ms}"));
                let key = [text::scalar(decide.batch), text::scalar(incarnation)];
                pipeline.run(FORCE_ABORT, &key);
                if let Some(own) = &own {
                    add_record_aborts(pipeline, decide, std::slice::from_ref(own));
                }
                pipeline.run("COMMIT", &[]).sync();
                pipeline
                    .run(READ_DECISIONS, &[text::array([decide.batch])])
                    .sync();
                pipeline
                    .run(READ_TRANSACTIONS, &[text::array(&txids)])
                    .sync();
                pipeline.run(BARRIER, &[]).sync();
            })
            .await?;
        let [aborted, decision, transactions, barrier] = <[Segment; 4]>::try_from(segments)
            .map_err(|_| Lost(std::io::ErrorKind::UnexpectedEof.into()))?;
        let proven = aborted.is_committed()
            && !aborted.may_not_be_replicated()
            && barrier.error.is_none()
            && !barrier.may_not_be_replicated();
        let outcome = decision
            .replies
            .first()
            .and_then(Reply::scalar)
            .map(str::to_owned);
        let Some(outcome) = outcome.filter(|_| proven) else {
            let detail = aborted.error.map_or_else(
                || "the abort could not be read back".to_owned(),
                |error| format!("the abort could not be recorded: {error}"),
            );
            return Ok(Decided::Unknown { detail });
        };
        if outcome == "commit" {
            // A duplicate of this decide has won; its effects are this batch's.
            return Ok(Decided::Committed);
        }
        let known = self.known(transactions);
        Ok(Decided::Aborted(why(failure, also, known, own.as_ref())))
    }

    /// The abort to record: the failure of the only member, by its own doing.
    fn own_abort(&self, failure: &Failure) -> Option<FailedMember> {
        let [member] = &self.decide.members[..] else {
            return None;
        };
        let failure = match failure {
            Failure::Culprit(culprit) => &culprit.failure,
            Failure::NoCulprit(failure) => failure,
            Failure::Recorded | Failure::Refused(_) => return None,
        };
        let MemberFailure::Failed(reason) = failure else {
            return None;
        };
        let (txid, request_hash) = (member.txid, member.request_hash);
        Some(FailedMember {
            txid,
            request_hash,
            reason: reason.clone(),
        })
    }

    /// Everybody whose row this decide writes. A member that a branch left out may be known as
    /// well: it failed because its first try has committed. Without its record the collision
    /// would have no culprit, and the whole batch would be refused.
    fn submitted(&self) -> impl Iterator<Item = (Txid, RequestHash)> {
        let members = self.decide.members.iter();
        let executed = members.map(|member| (member.txid, member.request_hash));
        let failed = self.decide.failed.iter();
        executed.chain(failed.map(|failed| (failed.txid, failed.request_hash)))
    }

    /// R8: what is recorded of the members, compared with what was submitted.
    fn known(&self, transactions: Segment) -> Vec<KnownTxid> {
        let rows = transactions
            .replies
            .into_iter()
            .flat_map(|reply| reply.rows);
        rows.filter_map(|row| {
            let txid: Txid = row.first()?.as_deref()?.parse().ok()?;
            let (_, hash) = self.submitted().find(|(submitted, _)| *submitted == txid)?;
            let record = read_record(&row, hash, &self.decide.principal)?;
            Some(KnownTxid { txid, record })
        })
        .collect()
    }
}

/// What the coordinator hears. A recorded outcome goes before a failure of this try: another
/// try may have committed the txid in between.
fn why(
    failure: Failure,
    also: Vec<usize>,
    known: Vec<KnownTxid>,
    own: Option<&FailedMember>,
) -> WhyAborted {
    let own_record = own.map(|own| KnownTxid {
        txid: own.txid,
        record: Recorded::Aborted(own.reason.clone()),
    });
    let others: Vec<KnownTxid> = known
        .iter()
        .filter(|known| Some(*known) != own_record.as_ref())
        .cloned()
        .collect();
    if !others.is_empty() {
        return WhyAborted::Known(others);
    }
    let recorded = !known.is_empty();
    match failure {
        Failure::Culprit(Culprit { index, failure }) => WhyAborted::Member {
            index,
            failure,
            recorded,
            also,
        },
        Failure::NoCulprit(failure) => WhyAborted::NoCulprit { failure, recorded },
        Failure::Recorded => WhyAborted::Refused(Refusal::new(
            RefusalCode::Contended,
            "somebody decided or recorded this first: run it again",
        )),
        Failure::Refused(refusal) => WhyAborted::Refused(refusal),
    }
}

fn rows_failed(error: &ServerError, shard: &Shard) -> Failure {
    if error.sqlstate == "23505" && error.schema.as_deref() == Some("gavel") {
        return Failure::Recorded;
    }
    let place = Place {
        shard: shard.tag(),
        statement: None,
    };
    match failure::classify(error, place) {
        MemberFailure::Refused(refusal) => Failure::Refused(refusal),
        MemberFailure::Failed(reason) => Failure::Refused(Refusal::new(
            RefusalCode::ShardUnavailable,
            format!("home {}: {reason}", shard.tag()),
        )),
    }
}

fn only(segments: Vec<Segment>) -> Result<Segment, Lost> {
    let first = segments.into_iter().next();
    session_goes_on(first.ok_or_else(|| Lost(std::io::ErrorKind::UnexpectedEof.into()))?)
}

/// An error that ends the session says nothing about what was under way.
fn session_goes_on(segment: Segment) -> Result<Segment, Lost> {
    match segment.error {
        Some(error) if error.ends_session() => Err(Lost(std::io::Error::other(error))),
        _ => Ok(segment),
    }
}
