//! The engine: a [`Coordinator`] that implements [`Engine`] over a directory of participants.

mod operate;
mod reconfigure;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use gavel_participant::Directory;
use gavel_protocol::message::{
    FailedMember, InDoubtBranch, RecordAborts, RecordAnswer, StatusAnswer,
};
use gavel_protocol::outcome::Status;
use gavel_protocol::standing::{ShardStanding, Standing};
use gavel_protocol::{
    AbortCode, AbortReason, Ack, DriverId, Gid, Isolation, Limits, Outcome, Principal, Refusal,
    RefusalCode, RequestHash, ShardMap, ShardTag, Statement, Txid,
};
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use self::reconfigure::StillInUse;
use crate::admission;
use crate::circuits::{self, Circuits};
use crate::clock;
use crate::engine::{Answer, Engine, InteractiveAnswer, Submission};
use crate::interactive::{Session, Sessions};
use crate::lanes::Lanes;
use crate::metrics::{self, Meters};
use crate::presence::Presence;
use crate::recent::unix_seconds;
use crate::shards::{KnownShards, Shards};
use crate::stories::{Stories, StoryTold};
use crate::ticket::Ticket;
use crate::verdict;

/// How long a coordinator that has just started is not ready for lack of a shard.
const START_PATIENCE: Duration = Duration::from_secs(10);

/// A coordinator. Cloning it gives another handle to the same one.
#[derive(Clone)]
pub struct Coordinator(Arc<Inner>);

/// What all parts of a coordinator share.
pub struct Inner {
    pub(crate) shards: Shards,
    pub(crate) directory: Directory,
    pub(crate) limits: Limits,
    pub(crate) driver: DriverId,
    pub(crate) presence: Presence,
    pub(crate) circuits: Circuits,
    pub(crate) lanes: Lanes,
    pub(crate) meters: Meters,
    pub(crate) stories: Stories,
    pub(crate) tasks: TaskTracker,
    started: Instant,
    started_unix_s: u64,
    sessions: Sessions,
    in_flight: Mutex<HashMap<Txid, Arc<Ticket>>>,
    stop: CancellationToken,
    leave: CancellationToken,
    /// Told so by an operator, until he says otherwise or the process ends.
    is_draining: AtomicBool,
}

impl Coordinator {
    /// Starts a coordinator over these participants. It keeps nothing on disk; any number of
    /// them may run over the same shards.
    pub fn start(shards: ShardMap, directory: Directory, limits: Limits) -> Self {
        Self::start_knowing(KnownShards::active(shards), directory, limits)
    }

    /// The same, where some of the shards take nothing new.
    pub fn start_knowing(shards: KnownShards, directory: Directory, limits: Limits) -> Self {
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let driver = clock::mint_driver();
        let leave = CancellationToken::new();
        let presence = Presence::start(&directory, driver, &limits, &leave);
        let inner = Arc::new(Inner {
            started: Instant::now(),
            started_unix_s: unix_seconds(),
            sessions: Sessions::default(),
            lanes: Lanes::default(),
            meters: Meters::new(),
            stories: Stories::default(),
            circuits: Circuits::new(&shards.map, presence.clone(), &limits),
            in_flight: Mutex::default(),
            shards: Shards::new(shards),
            directory,
            limits,
            driver,
            presence,
            tasks,
            stop,
            leave,
            is_draining: AtomicBool::new(false),
        });
        tokio::spawn(metrics::keep_gauges(Arc::downgrade(&inner)));
        tokio::spawn(circuits::look_after(Arc::downgrade(&inner)));
        Self(inner)
    }

    /// Admits nothing more, and waits for what is under way, for `patience` at most. Whatever is
    /// left then is in the hands of the participants.
    pub async fn shut_down(&self, patience: Duration) {
        self.0.stop.cancel();
        self.0.tasks.close();
        let _ = tokio::time::timeout(patience, self.0.tasks.wait()).await;
        // Only now: a participant that sees its driver leave resolves that driver's branches.
        self.0.leave.cancel();
    }
}

impl Inner {
    /// How many transactions are here.
    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight.lock().len()
    }

    /// How many interactive transactions are open.
    pub(crate) fn open_sessions(&self) -> usize {
        self.sessions.count()
    }

    /// Whether an operator has told it to take nothing new.
    pub(crate) fn is_draining(&self) -> bool {
        self.is_draining.load(Ordering::Relaxed)
    }

    fn check_open(&self) -> Result<(), Refusal> {
        if self.stop.is_cancelled() {
            let message = "this coordinator is shutting down: use another one";
            return Err(Refusal::new(RefusalCode::ShuttingDown, message));
        }
        if self.is_draining() {
            let message =
                "this coordinator takes nothing new, by an operator's wish: use another one";
            return Err(Refusal::new(RefusalCode::ShuttingDown, message));
        }
        Ok(())
    }

    /// Admits a submission, or joins it to the ticket of the same txid.
    fn admit(self: &Arc<Self>, submission: Submission) -> Result<Arc<Ticket>, Refusal> {
        self.check_open()?;
        let shards = self.shards.now();
        admission::check_txid(submission.txid, &shards, &self.limits)?;
        admission::check_transaction(&submission.transaction, &shards, &self.limits)?;
        let txid = submission.txid;
        let ticket = Arc::new(Ticket::new(submission));
        {
            let mut in_flight = self.in_flight.lock();
            if let Some(other) = in_flight.get(&txid).filter(|other| !other.is_ended()) {
                return join(other, &ticket);
            }
            if in_flight.len() >= self.limits.in_flight_max {
                let message = format!("{} transactions are in flight here", in_flight.len());
                return Err(Refusal::new(RefusalCode::Overloaded, message));
            }
            self.circuits.admit(shards_of(&ticket))?;
            in_flight.insert(txid, ticket.clone());
        }
        if let Err(refusal) = Lanes::submit(self, ticket.clone()) {
            ticket.end(ticket.answer(Outcome::Refused(refusal.clone())));
            self.forget_if_ended(&ticket);
            return Err(refusal);
        }
        Ok(ticket)
    }

    /// Forgets an interactive transaction that is over.
    pub(crate) fn end_session(&self, session: &Arc<Session>) {
        self.sessions.end(session);
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.stop.is_cancelled()
    }

    pub(crate) async fn stopping(&self) {
        self.stop.cancelled().await;
    }

    /// Lets go of a ticket to which nothing more will happen.
    pub(crate) fn forget_if_ended(&self, ticket: &Arc<Ticket>) {
        if !ticket.is_ended() {
            return;
        }
        let mut in_flight = self.in_flight.lock();
        let txid = ticket.submission.txid;
        if in_flight
            .get(&txid)
            .is_some_and(|other| Arc::ptr_eq(other, ticket))
        {
            in_flight.remove(&txid);
        }
    }
}

/// Home and the branches of a transaction.
pub(crate) fn shards_of(ticket: &Ticket) -> impl Iterator<Item = ShardTag> + Clone {
    let branches = &ticket.submission.transaction.branches;
    let home = ticket.submission.txid.home();
    let away = branches.iter().map(|branch| branch.shard);
    away.filter(move |shard| *shard != home).chain([home])
}

/// R8: two submissions of one txid at once are one transaction, if they are the same.
fn join(first: &Arc<Ticket>, second: &Ticket) -> Result<Arc<Ticket>, Refusal> {
    if first.submission.principal != second.submission.principal {
        let message = "this txid belongs to somebody else: mint a new one";
        return Err(Refusal::new(RefusalCode::NotYours, message));
    }
    if first.request_hash() != second.request_hash() {
        let message = "this txid is under way with other content: mint a new one";
        return Err(Refusal::new(RefusalCode::TxidReused, message));
    }
    Ok(first.clone())
}

#[async_trait]
impl Engine for Coordinator {
    fn shards(&self) -> Arc<ShardMap> {
        self.0.shards.map()
    }

    async fn not_ready(&self) -> Option<String> {
        if let Err(refusal) = self.0.check_open() {
            return Some(refusal.message);
        }
        let (health, shards) = (self.shard_health(), self.shards());
        let unwell = health.iter().filter_map(|(tag, why)| {
            let name = shards.name(*tag)?;
            Some(format!("{name}: {}", why.as_ref()?))
        });
        let unwell: Vec<String> = unwell.collect();
        // One that starts waits a while for all of them. Later a single shard must not take the
        // coordinator away from all others.
        let may_be_without = self.0.started.elapsed() >= START_PATIENCE;
        let is_useless = unwell.len() == health.len() || !may_be_without;
        (is_useless && !unwell.is_empty()).then(|| unwell.join("; "))
    }

    fn shard_health(&self) -> Vec<(ShardTag, Option<String>)> {
        let shards = self.shards();
        let each = shards.iter();
        each.map(|(tag, _)| (tag, self.0.circuits.unwell(tag)))
            .collect()
    }

    fn standing(&self) -> Standing {
        let inner = &self.0;
        let lanes = inner.lanes.depths();
        let known = inner.shards.now();
        let shards = known.map.iter().map(|(tag, _)| ShardStanding {
            tag,
            circuit: inner.circuits.state(tag),
            wrong: inner.circuits.unwell(tag),
            is_draining: known.draining.contains(&tag),
        });
        Standing {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started_unix_s: inner.started_unix_s,
            in_flight: inner.in_flight() as u64,
            in_flight_max: inner.limits.in_flight_max as u64,
            lanes: lanes.lanes as u64,
            waiting: lanes.waiting as u64,
            deepest: lanes.deepest as u64,
            sessions: inner.open_sessions() as u64,
            is_draining: inner.is_draining(),
            shards: shards.collect(),
            seconds: inner.meters.recent.seconds(),
        }
    }

    fn stories(&self, txid: Txid) -> Vec<StoryTold> {
        self.0.stories.of(txid)
    }

    fn mint(&self, home: Option<ShardTag>) -> Result<Txid, Refusal> {
        let shards = self.0.shards.now();
        let taking = |(tag, _): &(ShardTag, _)| shards.check_takes(*tag).is_ok();
        let home = match home {
            Some(home) => home,
            None => {
                let lowest = shards.map.iter().find(taking);
                lowest.map_or(ShardTag(0), |(tag, _)| tag)
            }
        };
        admission::check_shard(home, &shards.map)?;
        shards.check_takes(home)?;
        Ok(clock::mint_txid(home))
    }

    async fn submit(&self, submission: Submission) -> Answer {
        let patience = submission.patience(&self.0.limits);
        let (txid, ack) = (submission.txid, submission.ack);
        let since = Instant::now();
        let answer = match self.0.admit(submission) {
            Ok(ticket) => {
                let answer = ticket.wait(ack, patience).await;
                ticket.told(&answer.outcome);
                self.0.forget_if_ended(&ticket);
                answer
            }
            Err(refusal) => Answer {
                txid,
                outcome: Outcome::Refused(refusal),
                results: Vec::new(),
            },
        };
        self.0.meters.answered(&answer.outcome, since);
        answer
    }

    async fn status(&self, txid: Txid, asker: Option<Principal>) -> Result<Status, Refusal> {
        admission::check_home(txid, &self.shards())?;
        let Some(home) = self.0.directory.shard(txid.home()) else {
            let message = "home is not in the directory";
            return Err(Refusal::new(RefusalCode::ShardUnavailable, message));
        };
        match home.status(txid, asker).await {
            StatusAnswer::Status(status) => Ok(status),
            StatusAnswer::OtherPrincipal => Err(Refusal::new(
                RefusalCode::NotYours,
                "this transaction belongs to somebody else",
            )),
            StatusAnswer::Unreachable { detail } => {
                Err(Refusal::new(RefusalCode::ShardUnavailable, detail))
            }
        }
    }

    async fn abort(&self, txid: Txid, principal: Principal) -> Outcome {
        match self.abort_for_good(txid, principal).await {
            Ok(outcome) => outcome,
            Err(refusal) => Outcome::Refused(refusal),
        }
    }

    async fn begin(
        &self,
        txid: Txid,
        isolation: Isolation,
        principal: Principal,
    ) -> Result<(), Refusal> {
        self.0.check_open()?;
        admission::check_txid(txid, &self.0.shards.now(), &self.0.limits)?;
        Sessions::begin(&self.0, &self.0.sessions, txid, isolation, principal)
    }

    async fn execute(
        &self,
        txid: Txid,
        principal: &Principal,
        sequence: u64,
        shard: ShardTag,
        statement: Statement,
    ) -> Result<InteractiveAnswer, Refusal> {
        admission::check_shard(shard, &self.shards())?;
        let (inner, principal) = (self.0.clone(), principal.clone());
        let work = async move {
            let sessions = &inner.sessions;
            sessions
                .execute(&inner, txid, &principal, sequence, shard, statement)
                .await
        };
        to_its_end(work)
            .await
            .unwrap_or_else(|| Err(engine_failed()))
    }

    async fn commit(&self, txid: Txid, principal: &Principal, ack: Ack) -> Answer {
        let (inner, principal) = (self.0.clone(), principal.clone());
        let since = Instant::now();
        let work = async move { inner.sessions.commit(&inner, txid, &principal, ack).await };
        let answer = to_its_end(work).await.unwrap_or_else(|| Answer {
            txid,
            outcome: Outcome::InDoubt {
                detail: engine_failed().message,
            },
            results: Vec::new(),
        });
        self.0.meters.answered(&answer.outcome, since);
        answer
    }

    async fn rollback(&self, txid: Txid, principal: &Principal) -> Result<(), Refusal> {
        let (inner, principal) = (self.0.clone(), principal.clone());
        let work = async move { inner.sessions.rollback(&inner, txid, &principal).await };
        to_its_end(work)
            .await
            .unwrap_or_else(|| Err(engine_failed()))
    }

    async fn in_doubt(&self) -> Vec<(ShardTag, Result<Vec<InDoubtBranch>, String>)> {
        self.0.in_doubt().await
    }

    async fn resolve(&self, gid: Gid) -> Result<String, Refusal> {
        self.0.resolve(gid).await
    }

    async fn retry_shard(&self, shard: ShardTag) -> Result<String, Refusal> {
        self.0.retry_shard(shard).await
    }

    fn set_draining(&self, is_draining: bool) {
        self.0.is_draining.store(is_draining, Ordering::Relaxed);
    }
}

/// Runs work to its end even if the caller stops waiting: a statement must not be half counted.
async fn to_its_end<T: Send + 'static>(
    work: impl Future<Output = T> + Send + 'static,
) -> Option<T> {
    tokio::spawn(work).await.ok()
}

fn engine_failed() -> Refusal {
    Refusal::new(
        RefusalCode::ShardUnavailable,
        "the coordinator failed: ask for the status",
    )
}

impl Coordinator {
    /// R8: inserts the abort row, or reads what is there.
    async fn abort_for_good(&self, txid: Txid, principal: Principal) -> Result<Outcome, Refusal> {
        admission::check_home(txid, &self.shards())?;
        let identity = self.0.presence.identity(txid.home())?;
        let Some(home) = self.0.directory.shard(txid.home()) else {
            let message = "home is not in the directory";
            return Err(Refusal::new(RefusalCode::ShardUnavailable, message));
        };
        let reason = AbortReason::new(AbortCode::AbortedByRequest, "aborted for good by request");
        let abort = FailedMember {
            txid,
            request_hash: RequestHash::ANY,
            reason,
        };
        let record = RecordAborts {
            batch: None,
            incarnation: identity.incarnation,
            principal,
            aborts: vec![abort],
        };
        match home.record_aborts(record).await {
            RecordAnswer::Recorded(records) => match records.into_iter().next() {
                Some(record) => Ok(verdict::recorded_outcome(record)),
                None => Ok(Outcome::InDoubt {
                    detail: "home gave no answer".to_owned(),
                }),
            },
            RecordAnswer::Refused(refusal) => Err(refusal),
            RecordAnswer::Unknown { detail } => Ok(Outcome::InDoubt { detail }),
        }
    }
}
