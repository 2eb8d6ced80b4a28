//! Interactive branches: a transaction that stays open between statements, on a connection of
//! its own from a pool of its own.
//!
//! A session is named by its batch. It lives in this process only: when the process or the
//! connection is lost, PostgreSQL rolls back, and the session is never continued in a new one.
//! Statements carry a sequence number: a gap is refused, a repeat of the last one gets the
//! stored answer.
//!
//! A head start is a session of the same kind: see [`head_start`].

mod head_start;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use gavel_protocol::branch::DriverSeen;
use gavel_protocol::message::{
    Decide, Decided, Executed, Member, MemberFailure, Prepare, SessionExecute, SessionOpen,
    SessionStep, Vote,
};
use gavel_protocol::sql::{self, StatementKind};
use gavel_protocol::{Access, BatchId, Gid, Limits, Refusal, RefusalCode, RequestHash, Txid};
use parking_lot::Mutex;
use tokio::sync::OwnedSemaphorePermit;

use crate::attendance::Drivers;
use crate::crash_point;
use crate::decide::{self, Home};
use crate::failure::{self, Place};
use crate::pg::pool::Lease;
use crate::pg::{Lost, ServerError, text};
use crate::prepare::{self, OPEN_BRANCH};
use crate::shard::{Shard, SlotPermit};
use crate::work;

/// The interactive branches that are open on this shard.
#[derive(Default)]
pub struct Sessions(Mutex<HashMap<BatchId, Arc<Entry>>>);

/// An open branch, and who is behind it.
struct Entry {
    gid: Gid,
    is_head_start: bool,
    last_used: Mutex<Instant>,
    session: tokio::sync::Mutex<Option<Session>>,
}

struct Session {
    open: SessionOpen,
    connection: Lease,
    slot: Option<SlotPermit>,
    sequence: u64,
    last: Option<Executed>,
    batch_safe: bool,
    decide: Option<Decide>,
    _head_start: Option<OwnedSemaphorePermit>,
}

impl Sessions {
    /// Opens a branch: BEGIN, and the branch row unless this is home (R1).
    pub async fn open(&self, shard: &Shard, open: SessionOpen, is_home: bool) -> SessionStep {
        if let Err(refusal) = shard.check_branch(&open.gid, open.incarnation) {
            return SessionStep::Failed(MemberFailure::Refused(refusal));
        }
        let batch = open.gid.batch;
        let entry = Arc::new(Entry::new(open.gid.clone(), false));
        let mut session = entry.session.lock().await;
        if !self.enter(&entry) {
            let message = "this batch has a session here already";
            let refusal = Refusal::new(RefusalCode::OutOfSequence, message);
            return SessionStep::Lost(refusal);
        }
        match Session::begin(shard, open, is_home).await {
            Ok(opened) => {
                *session = Some(opened);
                SessionStep::Done
            }
            Err(failure) => {
                self.0.lock().remove(&batch);
                SessionStep::Failed(failure)
            }
        }
    }

    /// Runs one statement.
    pub async fn execute(&self, shard: &Shard, execute: SessionExecute) -> Executed {
        let Some(entry) = self.find(execute.batch) else {
            return Executed::Lost(lost());
        };
        let mut session = entry.session.lock().await;
        let Some(open) = session.as_mut() else {
            return Executed::Lost(lost());
        };
        if open.sequence == execute.sequence + 1
            && let Some(last) = &open.last
        {
            return last.clone();
        }
        if open.sequence != execute.sequence {
            let message = format!(
                "expected statement {}, got {}",
                open.sequence, execute.sequence
            );
            return Executed::Lost(Refusal::new(RefusalCode::OutOfSequence, message));
        }
        let executed = open.execute(shard, execute).await;
        *entry.last_used.lock() = Instant::now();
        if !matches!(executed, Executed::Done(_)) {
            self.end(&entry, &mut session).await;
        }
        executed
    }

    /// Prepares the branch: the vote.
    pub async fn prepare(&self, shard: &Shard, batch: BatchId) -> Vote {
        let Some((_, session)) = self.take(batch).await else {
            return no(lost());
        };
        let Session {
            open,
            connection,
            slot,
            batch_safe,
            ..
        } = session;
        let message = Prepare {
            gid: open.gid.clone(),
            incarnation: open.incarnation,
            driver: open.driver,
            access: Access::ReadWrite,
            isolation: open.isolation,
            batch_safe,
            in_chunks: false,
            members: vec![placeholder()],
        };
        let vote = prepare::prepare_open(shard, &message, connection, slot).await;
        if matches!(vote, Vote::No(_)) {
            shard.slots.note_finished(open.gid.home);
        }
        vote
    }

    /// At home: the rows, after the work and before any PREPARE.
    pub async fn enter_decision(&self, decide: Decide) -> SessionStep {
        let Some(entry) = self.find(decide.batch) else {
            return SessionStep::Lost(lost());
        };
        let mut session = entry.session.lock().await;
        let Some(open) = session.as_mut() else {
            return SessionStep::Lost(lost());
        };
        let params = decide::decision_params(&decide);
        let segments = open
            .connection
            .run(|pipeline| {
                pipeline.run(decide::OPEN_DECISION, &params).sync();
            })
            .await;
        let error = match segments.map(|segments| segments.into_iter().next()) {
            Ok(Some(segment)) => match segment.error {
                None => {
                    open.decide = Some(decide);
                    *entry.last_used.lock() = Instant::now();
                    return SessionStep::Done;
                }
                Some(error) => error,
            },
            Ok(None) | Err(_) => {
                self.end(&entry, &mut session).await;
                return SessionStep::Lost(lost());
            }
        };
        let place = Place {
            shard: entry.gid.shard,
            statement: None,
        };
        self.end(&entry, &mut session).await;
        if error.sqlstate == "23505" {
            let message = "this txid, or this batch, has an outcome already";
            let refusal = Refusal::new(RefusalCode::TxidReused, message);
            return SessionStep::Failed(MemberFailure::Refused(refusal));
        }
        match failure::classify(&error, place) {
            MemberFailure::Refused(refusal) => SessionStep::Failed(MemberFailure::Refused(refusal)),
            MemberFailure::Failed(reason) => SessionStep::Failed(MemberFailure::Refused(
                Refusal::new(RefusalCode::ShardUnavailable, reason.to_string()),
            )),
        }
    }

    /// At home: COMMIT, which is the decision.
    pub async fn commit(&self, shard: &Shard, batch: BatchId) -> Decided {
        let unknown = |detail: &str| Decided::Unknown {
            detail: detail.to_owned(),
        };
        let Some((_, session)) = self.take(batch).await else {
            return unknown("the session is not here");
        };
        let Some(decide) = session.decide else {
            return unknown("the session has no decision");
        };
        let decide = Decide {
            batch_safe: session.batch_safe,
            ..decide
        };
        let mut home = Home {
            shard,
            decide: &decide,
            connection: session.connection,
        };
        home.commit_executed(Vec::new()).await.decided
    }

    /// Rolls the branch back. A session that is not here has nothing to roll back.
    pub async fn rollback(&self, batch: BatchId) -> SessionStep {
        let Some(entry) = self.find(batch) else {
            return SessionStep::Done;
        };
        let mut session = entry.session.lock().await;
        self.end(&entry, &mut session).await;
        SessionStep::Done
    }

    /// Ends sessions whose driver is gone, or that nobody has used for twice as long as their
    /// coordinator has patience.
    pub async fn sweep(&self, drivers: &Drivers, limits: &Limits) {
        let entries: Vec<_> = self.0.lock().values().cloned().collect();
        for entry in entries {
            let patience_ms = match entry.is_head_start {
                true => limits.prepare_timeout_ms,
                false => limits.interactive_idle_ms,
            };
            let idle = Duration::from_millis(patience_ms.saturating_mul(2));
            let forgotten = entry.last_used.lock().elapsed() > idle;
            if forgotten || drivers.driver_of(&entry.gid) == DriverSeen::Closed {
                // A statement under way keeps its session; its own timeouts end it.
                if let Ok(mut session) = entry.session.try_lock() {
                    self.end(&entry, &mut session).await;
                }
            }
        }
    }

    /// Whether this is now the session of its batch.
    fn enter(&self, entry: &Arc<Entry>) -> bool {
        let mut sessions = self.0.lock();
        let batch = entry.gid.batch;
        if sessions.contains_key(&batch) {
            return false;
        }
        sessions.insert(batch, entry.clone());
        true
    }

    fn find(&self, batch: BatchId) -> Option<Arc<Entry>> {
        self.0.lock().get(&batch).cloned()
    }

    async fn take(&self, batch: BatchId) -> Option<(Arc<Entry>, Session)> {
        let entry = self.find(batch)?;
        let session = entry.session.lock().await.take();
        self.0.lock().remove(&batch);
        Some((entry, session?))
    }

    async fn end(&self, entry: &Entry, session: &mut Option<Session>) {
        self.0.lock().remove(&entry.gid.batch);
        if let Some(Session {
            mut connection,
            batch_safe,
            ..
        }) = session.take()
        {
            let rolled_back = connection.run(|pipeline| {
                pipeline.run("ROLLBACK", &[]).sync();
            });
            let _ = rolled_back.await;
            prepare::clean_up(&mut connection, batch_safe).await;
        }
    }
}

impl Entry {
    fn new(gid: Gid, is_head_start: bool) -> Self {
        Self {
            gid,
            is_head_start,
            last_used: Mutex::new(Instant::now()),
            session: tokio::sync::Mutex::default(),
        }
    }
}

impl Session {
    async fn begin(shard: &Shard, open: SessionOpen, is_home: bool) -> Result<Self, MemberFailure> {
        let slot = match is_home {
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
        session.send_begin(shard, is_home).await?;
        crash_point!("participant.session.opened");
        Ok(session)
    }

    async fn send_begin(&mut self, shard: &Shard, is_home: bool) -> Result<(), MemberFailure> {
        let isolation = self.open.isolation.as_sql();
        let gid = &self.open.gid;
        let params = [
            text::scalar(gid.batch),
            text::scalar(gid),
            text::scalar(gid.home),
            text::scalar(gid.home_incarnation),
            text::scalar(shard.identity.incarnation),
        ];
        let sent = self.connection.run(|pipeline| {
            pipeline.run(
                &format!("BEGIN ISOLATION LEVEL {isolation} READ WRITE"),
                &[],
            );
            if !is_home {
                pipeline.run(OPEN_BRANCH, &params);
            }
            pipeline.sync();
        });
        let place = Place {
            shard: shard.tag(),
            statement: None,
        };
        match sent
            .await
            .map(|segments| segments.into_iter().next().and_then(|s| s.error))
        {
            Ok(None) => Ok(()),
            Ok(Some(error)) => {
                self.connection.discard();
                Err(failure::classify(&error, place))
            }
            Err(gone) => Err(MemberFailure::Refused(lost_connection(&gone))),
        }
    }

    async fn execute(&mut self, shard: &Shard, execute: SessionExecute) -> Executed {
        let statement = execute.statement;
        self.batch_safe &= sql::classify(&statement.sql) == Ok(StatementKind::BatchSafe);
        let members = [Member {
            statements: Arc::from([statement]),
            ..placeholder()
        }];
        let sent = self.connection.run(|pipeline| {
            work::add(pipeline, &members[0].statements, &shard.limits);
            pipeline.sync();
        });
        let segment = match sent.await.map(|segments| segments.into_iter().next()) {
            Ok(Some(segment)) => segment,
            Ok(None) => return Executed::Lost(lost()),
            Err(gone) => return Executed::Lost(lost_connection(&gone)),
        };
        if segment
            .error
            .as_ref()
            .is_some_and(ServerError::ends_session)
        {
            return Executed::Lost(lost());
        }
        let judged = work::judge_all(shard.tag(), 0, &members, segment);
        let executed = match judged {
            Ok(results) => Executed::Done(results.into_iter().flatten().next().unwrap_or_default()),
            Err(culprit) => Executed::Failed(culprit.failure),
        };
        self.sequence += 1;
        self.last = Some(executed.clone());
        executed
    }
}

/// An interactive batch has one member, whose identity matters only at home.
fn placeholder() -> Member {
    Member {
        txid: Txid::mint(0, gavel_protocol::ShardTag(0), [0; 16]),
        request_hash: RequestHash::ANY,
        statements: Arc::from([]),
    }
}

fn no(refusal: Refusal) -> Vote {
    use gavel_protocol::message::NoVote;
    Vote::No(NoVote::Refused(refusal))
}

fn lost() -> Refusal {
    Refusal::new(
        RefusalCode::SessionLost,
        "no such session on this shard: begin a new transaction",
    )
}

fn lost_connection(gone: &Lost) -> Refusal {
    let message = format!("the session's connection was lost: {}", gone.0);
    Refusal::new(RefusalCode::SessionLost, message)
}
