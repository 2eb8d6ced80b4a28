//! Interactive transactions: begin, run statements on any shard and read results, then commit.
//!
//! An interactive transaction is a batch of its own that goes past the lanes. Its statements hold
//! connections and locks while the client thinks, so their number and idle time are limited. It
//! lives in this coordinator only: when the coordinator dies, nothing was prepared, and the
//! participants roll its branches back.

mod session;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use gavel_protocol::message::StatusAnswer;
use gavel_protocol::outcome::Status;
use gavel_protocol::transaction::validate_statement;
use gavel_protocol::{
    Ack, Isolation, Outcome, Principal, Refusal, RefusalCode, ShardTag, Statement, Txid,
};
use parking_lot::Mutex;

pub use self::session::Session;
use self::session::Work;
use crate::coordinator::Inner;
use crate::engine::{Answer, InteractiveAnswer};

/// The open interactive transactions of this coordinator.
#[derive(Default)]
pub struct Sessions(Mutex<HashMap<Txid, Arc<Session>>>);

impl Sessions {
    /// How many are open.
    pub fn count(&self) -> usize {
        self.0.lock().len()
    }

    /// Whether an open session has to do with a shard, or may have.
    pub fn need(&self, shard: ShardTag) -> bool {
        self.0.lock().values().any(|session| session.needs(shard))
    }

    /// Opens a session. Nothing happens on any shard until the first statement.
    pub fn begin(
        inner: &Arc<Inner>,
        sessions: &Self,
        txid: Txid,
        isolation: Isolation,
        principal: Principal,
    ) -> Result<(), Refusal> {
        let home = inner.presence.identity(txid.home())?;
        let session = Arc::new(Session::new(txid, home, isolation, principal));
        let mut open = sessions.0.lock();
        if let Some(other) = open.get(&txid) {
            // A lost answer, asked again.
            return other.check_owner(session.principal());
        }
        // Those that are over stay for a while, for repeats of their last question.
        let live = open.values().filter(|other| !other.is_over()).count();
        if live >= inner.limits.interactive_max || open.len() >= 8 * inner.limits.interactive_max {
            let message = format!("{live} interactive transactions are open here");
            return Err(Refusal::new(RefusalCode::Overloaded, message));
        }
        open.insert(txid, session.clone());
        drop(open);
        let inner_of_task = inner.clone();
        inner
            .tasks
            .spawn(async move { expire(inner_of_task, session).await });
        Ok(())
    }

    /// Runs one statement.
    pub async fn execute(
        &self,
        inner: &Arc<Inner>,
        txid: Txid,
        principal: &Principal,
        sequence: u64,
        shard: ShardTag,
        statement: Statement,
    ) -> Result<InteractiveAnswer, Refusal> {
        let session = self.find(txid, principal)?;
        validate_statement(shard, 0, &statement, &inner.limits)
            .map_err(|error| Refusal::new(RefusalCode::InvalidRequest, error.to_string()))?;
        let mut work = session.work.lock().await;
        session.touch();
        if work.sequence == sequence + 1
            && let Some(last) = &work.last
        {
            return Ok(last.clone());
        }
        if work.over {
            return Err(lost(txid));
        }
        if work.sequence != sequence {
            let message = format!("expected statement {}, got {sequence}", work.sequence);
            return Err(Refusal::new(RefusalCode::OutOfSequence, message));
        }
        check_count(&work, inner)?;
        if !work.has_branch(shard) {
            inner.shards.now().check_takes(shard)?;
        }
        let answer = session.execute(inner, &mut work, shard, statement).await;
        work.sequence += 1;
        work.last = Some(answer.clone());
        session.touch();
        Ok(answer)
    }

    /// Commits.
    pub async fn commit(
        &self,
        inner: &Arc<Inner>,
        txid: Txid,
        principal: &Principal,
        ack: Ack,
    ) -> Answer {
        let refused = |why| Answer {
            txid,
            outcome: Outcome::Refused(why),
            results: Vec::new(),
        };
        let session = match self.find(txid, principal) {
            Ok(session) => session,
            Err(refusal) if refusal.code == RefusalCode::SessionLost => {
                let outcome = what_became_of(inner, txid, principal).await;
                return Answer {
                    txid,
                    outcome,
                    results: Vec::new(),
                };
            }
            Err(refusal) => return refused(refusal),
        };
        let patience = Duration::from_millis(inner.limits.submit_timeout_ms);
        let ticket = {
            let mut work = session.work.lock().await;
            match &work.commit {
                Some(ticket) => ticket.clone(),
                None if work.over => return refused(lost(txid)),
                None => session.start_commit(inner, &mut work, ack),
            }
        };
        let answer = ticket.wait(ack, patience).await;
        ticket.told(&answer.outcome);
        answer
    }

    /// Rolls back. Nothing is recorded: the txid is still open.
    pub async fn rollback(
        &self,
        inner: &Arc<Inner>,
        txid: Txid,
        principal: &Principal,
    ) -> Result<(), Refusal> {
        let session = self.find(txid, principal)?;
        let mut work = session.work.lock().await;
        if work.commit.is_some() {
            let message = "its commit is under way: ask for the transaction's status";
            return Err(Refusal::new(RefusalCode::OutOfSequence, message));
        }
        if !work.over {
            session.roll_back_all(inner, &mut work).await;
        }
        drop(work);
        self.end(&session);
        Ok(())
    }

    /// Forgets a session; a later one of the same txid stays.
    pub fn end(&self, session: &Arc<Session>) {
        let mut open = self.0.lock();
        if open
            .get(&session.txid())
            .is_some_and(|other| Arc::ptr_eq(other, session))
        {
            open.remove(&session.txid());
        }
    }

    fn find(&self, txid: Txid, principal: &Principal) -> Result<Arc<Session>, Refusal> {
        let session = self
            .0
            .lock()
            .get(&txid)
            .cloned()
            .ok_or_else(|| lost(txid))?;
        session.check_owner(principal)?;
        Ok(session)
    }
}

fn lost(txid: Txid) -> Refusal {
    let message = format!(
        "no interactive transaction {txid} is open here: it ended, was idle too long, or its \
         coordinator restarted; ask for its status and begin a new one"
    );
    Refusal::new(RefusalCode::SessionLost, message)
}

fn check_count(work: &Work, inner: &Inner) -> Result<(), Refusal> {
    let (max, found) = (inner.limits.statements_per_transaction_max, work.sequence);
    if usize::try_from(found).is_ok_and(|found| found < max) {
        return Ok(());
    }
    let message = format!("{max} statements at most in one transaction");
    Err(Refusal::new(RefusalCode::InvalidRequest, message))
}

/// Ends a session whose client has been silent for too long.
async fn expire(inner: Arc<Inner>, session: Arc<Session>) {
    let patience = Duration::from_millis(inner.limits.interactive_idle_ms);
    loop {
        let idle = session.idle_for();
        if idle < patience {
            tokio::select! {
                () = tokio::time::sleep(patience - idle) => continue,
                () = inner.stopping() => {}
            }
        }
        let mut work = session.work.lock().await;
        if session.idle_for() < patience && !inner.is_stopping() {
            continue;
        }
        if work.commit.is_none() {
            if !work.over {
                tracing::info!(txid = %session.txid(), "rolling back an idle interactive transaction");
                session.roll_back_all(&inner, &mut work).await;
            }
            inner.end_session(&session);
        }
        return;
    }
}

/// What a commit hears whose session is not here (any more): what is recorded, or that nobody
/// knows. Never "refused": an earlier commit of it may have been carried out, or may yet be.
async fn what_became_of(inner: &Inner, txid: Txid, principal: &Principal) -> Outcome {
    let unknown = || Outcome::InDoubt {
        detail: lost(txid).message,
    };
    let Some(home) = inner.directory.shard(txid.home()) else {
        return unknown();
    };
    match home.status(txid, Some(principal.clone())).await {
        StatusAnswer::Status(Status::Committed) => Outcome::Committed { applied: false },
        StatusAnswer::Status(Status::Aborted(reason)) => Outcome::Aborted(reason),
        StatusAnswer::Status(Status::NoneYet | Status::TooOld)
        | StatusAnswer::OtherPrincipal
        | StatusAnswer::Unreachable { .. } => unknown(),
    }
}
