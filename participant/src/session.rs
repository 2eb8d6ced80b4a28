//! Interactive branches: a transaction that stays open between statements, on a connection of
//! its own from a pool of its own.
//!
//! A session is named by its batch. It lives in this process only: when the process or the
//! connection is lost, PostgreSQL rolls back, and the session is never continued in a new one.
//! Statements carry a sequence number: a gap is refused, a repeat of the last one gets the
//! stored answer.
//!
//! A head start is a session of the same kind: see [`head_start`].

mod branch;
mod head_start;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use gavel_protocol::branch::DriverSeen;
use gavel_protocol::message::{
    Decide, Decided, Executed, MemberFailure, Prepare, SessionExecute, SessionOpen, SessionStep,
    Vote,
};
use gavel_protocol::{Access, BatchId, Gid, Limits, Refusal, RefusalCode, Statement};
use parking_lot::Mutex;

use self::branch::{Session, placeholder};
use crate::attendance::Drivers;
use crate::decide::{self, Home};
use crate::failure::{self, Place};
use crate::prepare;
use crate::shard::Shard;

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

impl Sessions {
    /// Opens a branch that no statement opens: a home that only decides.
    pub async fn open(&self, shard: &Shard, open: SessionOpen) -> SessionStep {
        match self.open_and_run(shard, open, None).await {
            Ok(_) => SessionStep::Done,
            Err(NotOpened::Taken(refusal)) => SessionStep::Lost(refusal),
            Err(NotOpened::Failed(failure)) => SessionStep::Failed(failure),
        }
    }

    /// Opens a branch with its first statement.
    pub async fn open_and_execute(
        &self,
        shard: &Shard,
        open: SessionOpen,
        statement: Statement,
    ) -> Executed {
        match self.open_and_run(shard, open, Some(statement)).await {
            Ok(executed) => executed.unwrap_or_else(|| Executed::Lost(lost())),
            Err(NotOpened::Taken(refusal)) => Executed::Lost(refusal),
            Err(NotOpened::Failed(failure)) => Executed::Failed(failure),
        }
    }

    async fn open_and_run(
        &self,
        shard: &Shard,
        open: SessionOpen,
        first: Option<Statement>,
    ) -> Result<Option<Executed>, NotOpened> {
        let refused = |refusal| NotOpened::Failed(MemberFailure::Refused(refusal));
        shard
            .check_branch(&open.gid, open.incarnation)
            .map_err(refused)?;
        let batch = open.gid.batch;
        let entry = Arc::new(Entry::new(open.gid.clone(), false));
        let mut session = entry.session.lock().await;
        if !self.enter(&entry) {
            let message = "this batch has a session here already";
            return Err(NotOpened::Taken(Refusal::new(
                RefusalCode::OutOfSequence,
                message,
            )));
        }
        match Session::begin(shard, open, first).await {
            Ok((opened, executed)) => {
                *session = Some(opened);
                if !matches!(executed, None | Some(Executed::Done(_))) {
                    self.end(&entry, &mut session).await;
                }
                Ok(executed)
            }
            Err(failure) => {
                self.0.lock().remove(&batch);
                Err(NotOpened::Failed(failure))
            }
        }
    }

    /// Whether the batch has a session here.
    pub fn is_open(&self, batch: BatchId) -> bool {
        self.0.lock().contains_key(&batch)
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
        let executed = open.execute(shard, execute.statement).await;
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

/// Why a branch is not open.
enum NotOpened {
    /// Its batch has a session here.
    Taken(Refusal),
    Failed(MemberFailure),
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
