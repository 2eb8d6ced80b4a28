//! The life of one interactive transaction: its branches on the shards, its end.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use gavel_participant::{Participant, crash_point};
use gavel_protocol::message::{
    Executed, FailedMember, MemberFailure, RecordAborts, RecordAnswer, SessionExecute, SessionOpen,
    SessionStep, ShardIdentity, StatusAnswer,
};
use gavel_protocol::outcome::Status;
use gavel_protocol::{
    AbortReason, Ack, BatchId, BranchWork, Gid, Isolation, Outcome, Principal, Refusal,
    RefusalCode, RequestHash, ShardTag, Statement, Transaction, Txid,
};
use parking_lot::Mutex;

use super::lost;
use crate::clock;
use crate::coordinator::Inner;
use crate::driver::Driver;
use crate::engine::{InteractiveAnswer, Submission};
use crate::ticket::Ticket;
use crate::verdict;

/// One interactive transaction.
pub struct Session {
    txid: Txid,
    principal: Principal,
    isolation: Isolation,
    batch: BatchId,
    /// Home as it was at the beginning: every branch's gid names this life of it (R13).
    home: ShardIdentity,
    last_used: Mutex<Instant>,
    /// One statement at a time.
    pub(super) work: tokio::sync::Mutex<Work>,
}

/// What an interactive transaction has done so far.
#[derive(Default)]
pub(super) struct Work {
    branches: BTreeMap<ShardTag, Vec<Statement>>,
    pub(super) sequence: u64,
    pub(super) last: Option<InteractiveAnswer>,
    pub(super) over: bool,
    /// Once a commit was asked for, it alone says what became of the transaction.
    pub(super) commit: Option<Arc<Ticket>>,
}

impl Work {
    /// Whether something was run on a shard.
    pub(super) fn has_branch(&self, shard: ShardTag) -> bool {
        self.branches.contains_key(&shard)
    }
}

impl Session {
    /// A transaction of `principal` that has done nothing yet.
    pub(super) fn new(
        txid: Txid,
        home: ShardIdentity,
        isolation: Isolation,
        principal: Principal,
    ) -> Self {
        Self {
            txid,
            principal,
            isolation,
            batch: clock::mint_batch(),
            home,
            last_used: Mutex::new(Instant::now()),
            work: tokio::sync::Mutex::default(),
        }
    }

    pub(super) fn txid(&self) -> Txid {
        self.txid
    }

    pub(super) fn principal(&self) -> &Principal {
        &self.principal
    }

    pub(super) fn idle_for(&self) -> Duration {
        self.last_used.lock().elapsed()
    }

    pub(super) fn touch(&self) {
        *self.last_used.lock() = Instant::now();
    }

    pub(super) fn check_owner(&self, principal: &Principal) -> Result<(), Refusal> {
        if self.principal == *principal {
            return Ok(());
        }
        let message = "this transaction belongs to somebody else";
        Err(Refusal::new(RefusalCode::NotYours, message))
    }

    /// Whether it has to do with a shard. One that is at work may have.
    pub(super) fn needs(&self, shard: ShardTag) -> bool {
        if self.txid.home() == shard {
            return !self.is_over();
        }
        let Ok(work) = self.work.try_lock() else {
            return true;
        };
        !work.over && work.has_branch(shard)
    }

    /// Whether nothing can be added to it. One that is at work is not over.
    pub(super) fn is_over(&self) -> bool {
        self.work.try_lock().is_ok_and(|work| work.over)
    }

    /// Hands the transaction to a driver of its own.
    pub(super) fn start_commit(
        self: &Arc<Self>,
        inner: &Arc<Inner>,
        work: &mut Work,
        ack: Ack,
    ) -> Arc<Ticket> {
        work.over = true;
        let branches = std::mem::take(&mut work.branches);
        let ticket = Arc::new(Ticket::new(self.submission(branches, ack)));
        ticket.start_running();
        work.commit = Some(ticket.clone());
        let (inner_of_task, session, ticket_of_task) =
            (inner.clone(), self.clone(), ticket.clone());
        inner.tasks.spawn(async move {
            session.drive_commit(&inner_of_task, ticket_of_task).await;
            inner_of_task.end_session(&session);
        });
        ticket
    }

    /// Runs one statement, on a branch that is opened by its first one.
    pub(super) async fn execute(
        &self,
        inner: &Arc<Inner>,
        work: &mut Work,
        shard: ShardTag,
        statement: Statement,
    ) -> InteractiveAnswer {
        let Some(participant) = inner.directory.shard(shard) else {
            return self.fail(inner, work, unavailable(shard)).await;
        };
        let open = match work.branches.contains_key(&shard) {
            true => None,
            false => match self.opening(inner, shard) {
                Ok(open) => Some(open),
                Err(why) => return self.fail(inner, work, MemberFailure::Refused(why)).await,
            },
        };
        // Noted first: a branch whose opening is not answered must be rolled back too.
        let statements = work.branches.entry(shard).or_default();
        let sequence = statements.len() as u64;
        statements.push(statement.clone());
        let call = open.is_some().then(|| inner.circuits.call(shard));
        let execute = SessionExecute {
            batch: self.batch,
            sequence,
            statement,
            open,
        };
        let executed = participant.session_execute(execute).await;
        if let Some(call) = call {
            call.ended(!matches!(executed, Executed::Lost(_)));
        }
        match executed {
            Executed::Done(result) => InteractiveAnswer::Done(result),
            Executed::Failed(failure) => self.fail(inner, work, failure).await,
            Executed::Lost(why) => self.fail(inner, work, MemberFailure::Refused(why)).await,
        }
    }

    /// The message that opens a branch, unless its shard is not to be asked now.
    fn opening(&self, inner: &Inner, shard: ShardTag) -> Result<SessionOpen, Refusal> {
        let home = self.home.clone();
        let identity = inner.presence.identity(shard)?;
        inner.circuits.admit([shard].into_iter())?;
        let gid = Gid {
            deployment: home.deployment,
            home: home.tag,
            home_incarnation: home.incarnation,
            batch: self.batch,
            shard,
        };
        Ok(SessionOpen {
            gid,
            incarnation: identity.incarnation,
            driver: inner.driver,
            isolation: self.isolation,
        })
    }

    /// Opens a branch without a statement, at a home that only decides.
    async fn open(
        &self,
        inner: &Inner,
        participant: &Arc<dyn Participant>,
        shard: ShardTag,
    ) -> Result<(), MemberFailure> {
        let open = self.opening(inner, shard).map_err(MemberFailure::Refused)?;
        let call = inner.circuits.call(shard);
        let step = participant.session_open(open).await;
        call.ended(!matches!(step, SessionStep::Lost(_)));
        match step {
            SessionStep::Done => Ok(()),
            SessionStep::Failed(failure) => Err(failure),
            SessionStep::Lost(why) => Err(MemberFailure::Refused(why)),
        }
    }

    /// The transaction is over: nothing was prepared, so rolling back is all there is to do. A
    /// failure of its own making is recorded.
    async fn fail(
        &self,
        inner: &Arc<Inner>,
        work: &mut Work,
        failure: MemberFailure,
    ) -> InteractiveAnswer {
        self.roll_back_all(inner, work).await;
        let outcome = match failure {
            MemberFailure::Refused(why) => Outcome::Refused(why),
            MemberFailure::Failed(reason) => self.record_abort(inner, reason).await,
        };
        InteractiveAnswer::Ended(outcome)
    }

    async fn record_abort(&self, inner: &Inner, reason: AbortReason) -> Outcome {
        let refused = |why| Outcome::Refused(why);
        let identity = match inner.presence.identity(self.txid.home()) {
            Ok(identity) => identity,
            Err(why) => return refused(why),
        };
        let Some(home) = inner.directory.shard(identity.tag) else {
            return refused(Refusal::new(
                RefusalCode::ShardUnavailable,
                "home is unknown",
            ));
        };
        let abort = FailedMember {
            txid: self.txid,
            request_hash: RequestHash::ANY,
            reason,
        };
        let record = RecordAborts {
            batch: Some(self.batch),
            incarnation: identity.incarnation,
            principal: self.principal.clone(),
            aborts: vec![abort],
        };
        match home.record_aborts(record).await {
            RecordAnswer::Recorded(records) => {
                let first = records.into_iter().next();
                first.map_or_else(|| refused(lost(self.txid)), verdict::recorded_outcome)
            }
            RecordAnswer::Refused(why) => refused(why),
            // The abort may be recorded: "did nothing" would be saying too much.
            RecordAnswer::Unknown { detail } => Outcome::InDoubt { detail },
        }
    }

    /// Rolls back on every shard that was asked for something.
    pub(super) async fn roll_back_all(&self, inner: &Inner, work: &mut Work) {
        work.over = true;
        let asked = work
            .branches
            .keys()
            .filter_map(|shard| inner.directory.shard(*shard))
            .map(|participant| async move {
                let _ = participant.session_rollback(self.batch).await;
            });
        futures::future::join_all(asked).await;
    }

    /// What was done, as one transaction: for its hash, and for the driver.
    fn submission(&self, branches: BTreeMap<ShardTag, Vec<Statement>>, ack: Ack) -> Submission {
        let branches = branches
            .into_iter()
            .map(|(shard, statements)| BranchWork::write(shard, statements))
            .collect();
        Submission {
            txid: self.txid,
            transaction: Transaction {
                isolation: self.isolation,
                branches,
            },
            principal: self.principal.clone(),
            ack,
            timeout: None,
            is_retry: false,
        }
    }

    /// Home's rows go in after the work and before any PREPARE (design §5); then the batch
    /// machine takes over.
    async fn drive_commit(&self, inner: &Arc<Inner>, ticket: Arc<Ticket>) {
        let refuse = |why| ticket.end(ticket.answer(Outcome::Refused(why)));
        let tickets = vec![ticket.clone()];
        let driver = match Driver::new(inner.clone(), tickets, self.batch, Some(self.home.clone()))
        {
            Ok(driver) => driver,
            Err(refusal) => {
                self.abandon(inner, &ticket).await;
                return refuse(refusal);
            }
        };
        if let Err(failure) = self.enter_decision(inner, &ticket, &driver).await {
            self.abandon(inner, &ticket).await;
            let outcome = match failure {
                MemberFailure::Refused(why) => self.recorded_instead(inner, why).await,
                MemberFailure::Failed(reason) => self.record_abort(inner, reason).await,
            };
            return ticket.end(ticket.answer(outcome));
        }
        crash_point!("coordinator.interactive.entered");
        for rerun in driver.run().await {
            // An interactive transaction's work cannot be run again without its client.
            ticket.end(ticket.answer(Outcome::Refused(rerun.because)));
        }
    }

    async fn enter_decision(
        &self,
        inner: &Inner,
        ticket: &Ticket,
        driver: &Driver,
    ) -> Result<(), MemberFailure> {
        let home_tag = self.txid.home();
        let home = inner
            .directory
            .shard(home_tag)
            .ok_or_else(|| unavailable(home_tag))?;
        if ticket.submission.transaction.branch(home_tag).is_none() {
            self.open(inner, &home, home_tag).await?;
        }
        match home
            .session_enter_decision(driver.decide_message(&[0], Vec::new()))
            .await
        {
            SessionStep::Done => Ok(()),
            SessionStep::Failed(failure) => Err(failure),
            SessionStep::Lost(why) => Err(MemberFailure::Refused(why)),
        }
    }

    /// Home would not take the rows, perhaps because the txid has an outcome already (R8).
    async fn recorded_instead(&self, inner: &Inner, why: Refusal) -> Outcome {
        let Some(home) = inner.directory.shard(self.txid.home()) else {
            return Outcome::Refused(why);
        };
        match home.status(self.txid, Some(self.principal.clone())).await {
            StatusAnswer::Status(Status::Committed) => Outcome::Refused(Refusal::new(
                RefusalCode::TxidReused,
                "this txid has committed before: ask for its status, or mint a new one",
            )),
            StatusAnswer::Status(Status::Aborted(reason)) => Outcome::Aborted(reason),
            StatusAnswer::Status(Status::NoneYet | Status::TooOld)
            | StatusAnswer::OtherPrincipal
            | StatusAnswer::Unreachable { .. } => Outcome::Refused(why),
        }
    }

    /// Rolls back on every shard, home included: nothing was prepared.
    async fn abandon(&self, inner: &Inner, ticket: &Ticket) {
        let branches = ticket
            .submission
            .transaction
            .branches
            .iter()
            .map(|branch| branch.shard);
        let shards = branches.chain([self.txid.home()]);
        let asked =
            shards
                .filter_map(|shard| inner.directory.shard(shard))
                .map(|participant| async move {
                    let _ = participant.session_rollback(self.batch).await;
                });
        futures::future::join_all(asked).await;
    }
}

fn unavailable(shard: ShardTag) -> MemberFailure {
    let message = format!("shard {shard} is not in the directory");
    MemberFailure::Refused(Refusal::new(RefusalCode::ShardUnavailable, message))
}
