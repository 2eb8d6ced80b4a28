//! A participant in this process.

mod background;
mod open;

use std::sync::Arc;
use std::time::Instant;

use async_trait::async_trait;
use gavel_protocol::message::{
    BranchRow, Decide, DecideAnswer, Decided, DecisionRow, Executed, Finish, FinishKind, Finished,
    HeadStart, HeadStarted, InDoubtBranch, NoVote, Prepare, PrepareAnswer, RecordAborts,
    RecordAnswer, RegisterAnswer, Retention, SessionExecute, SessionOpen, SessionStep,
    ShardIdentity, StatusAnswer, Vote,
};
use gavel_protocol::{
    Access, BatchId, DriverId, Gid, Incarnation, Principal, Refusal, RefusalCode, ShardName,
    ShardTag, Txid,
};
use parking_lot::Mutex;

use self::background::Background;
pub use self::open::{OpenError, ShardConfig};
use crate::api::{Attendance, Directory, Participant, Unavailable};
use crate::attendance::Drivers;
use crate::scan::Scanner;
use crate::service_pool::{ServiceError, ServicePool};
use crate::session::Sessions;
use crate::shard::Shard;
use crate::{decide, finish, metrics, prepare, resolve, rows, status, watch};

/// A participant in this process. Cheap to clone.
#[derive(Clone)]
pub struct LocalParticipant(Arc<Inner>);

struct Inner {
    shard: Arc<Shard>,
    pool: ServicePool,
    drivers: Drivers,
    sessions: Arc<Sessions>,
    scanner: Scanner,
    background: Mutex<Background>,
}

impl LocalParticipant {
    /// Starts to scan for in-doubt branches. `directory` has every shard, this one included.
    pub fn start(&self, directory: Directory) {
        self.0.background.lock().start(&self.0, directory);
    }

    /// Stops serving: every driver is told, so that it looks for this shard elsewhere, and
    /// nothing is scanned or audited any more. For good.
    pub fn stop(&self) {
        self.0.drivers.stop();
        self.0.background.lock().stop();
    }

    /// Why nothing can be done here, if that is so: the database is asked.
    pub async fn not_ready(&self) -> Option<String> {
        if self.0.background.lock().is_stopped() {
            return Some("shutting down".to_owned());
        }
        watch::ask(&self.0.pool, &self.0.shard.meters)
            .await
            .err()
            .map(|error| error.detail())
    }

    /// Which shard this is.
    pub(crate) fn name(&self) -> &ShardName {
        &self.0.shard.identity.name
    }

    /// The service connections, for retention and audit.
    pub fn service_pool(&self) -> &ServicePool {
        &self.0.pool
    }

    fn unavailable(&self, error: &ServiceError) -> Unavailable {
        Unavailable {
            shard: self.tag(),
            detail: error.detail(),
        }
    }

    /// Runs work to its end even if the caller stops waiting: a half-done branch must be
    /// finished or rolled back, not abandoned with its connection.
    async fn to_its_end<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Option<T> {
        let span = gavel_spans::current();
        tokio::spawn(gavel_spans::within(span, work)).await.ok()
    }
}

impl Inner {
    fn meter_decide(&self, since: Instant, decided: &Decided) {
        let meter = &self.shard.meters.decide;
        meter.took(since);
        meter.count(metrics::decided(decided));
    }
}

async fn prepare(shard: &Shard, drivers: &Drivers, message: &Prepare) -> PrepareAnswer {
    if message.access != Access::ReadWrite {
        return prepare::prepare(shard, message).await;
    }
    if let Err(refusal) = drivers.begin(message.gid.clone(), message.driver) {
        return prepare::no_vote(NoVote::Refused(refusal));
    }
    let answer = prepare::prepare(shard, message).await;
    if matches!(answer.vote, Vote::No(_)) {
        drivers.forget(&message.gid);
    }
    answer
}

#[async_trait]
impl Participant for LocalParticipant {
    fn tag(&self) -> ShardTag {
        self.0.shard.tag()
    }

    async fn identity(&self) -> Result<ShardIdentity, Unavailable> {
        Ok(self.0.shard.identity.clone())
    }

    async fn attend(&self, driver: DriverId) -> Result<Arc<dyn Attendance>, Unavailable> {
        Ok(self.0.drivers.attend(driver))
    }

    async fn prepare(&self, message: Prepare) -> PrepareAnswer {
        let (shard, drivers) = (self.0.shard.clone(), self.0.drivers.clone());
        let work = async move {
            let since = Instant::now();
            let answer = prepare(&shard, &drivers, &message).await;
            shard.meters.prepare.took(since);
            shard.meters.prepare.count(metrics::vote(&answer.vote));
            answer
        };
        self.to_its_end(work)
            .await
            .unwrap_or_else(|| PrepareAnswer {
                vote: Vote::Unknown {
                    detail: "the participant failed".to_owned(),
                },
                results: Vec::new(),
            })
    }

    async fn decide(&self, message: Decide) -> DecideAnswer {
        let inner = self.0.clone();
        let work = async move {
            // Its head start holds the rows that this is about to write.
            inner.sessions.end_head_start(message.batch).await;
            inner.drivers.forget(&inner.shard.home_gid(message.batch));
            let since = Instant::now();
            let answer = decide::decide(&inner.shard, &message).await;
            inner.meter_decide(since, &answer.decided);
            answer
        };
        self.to_its_end(work).await.unwrap_or_else(|| DecideAnswer {
            decided: Decided::Unknown {
                detail: "the participant failed".to_owned(),
            },
            results: Vec::new(),
        })
    }

    async fn head_start(&self, message: HeadStart) -> HeadStarted {
        let inner = self.0.clone();
        let work = async move {
            let gid = inner.shard.home_gid(message.decide.batch);
            if let Err(refusal) = inner.drivers.begin(gid.clone(), message.driver) {
                return HeadStarted::Not {
                    detail: refusal.message,
                };
            }
            let since = Instant::now();
            let started = inner.sessions.head_start(&inner.shard, message).await;
            let meter = &inner.shard.meters.head_start;
            meter.took(since);
            meter.count(metrics::started(&started));
            if !matches!(started, HeadStarted::Ready { .. }) {
                inner.drivers.forget(&gid);
            }
            started
        };
        self.to_its_end(work).await.unwrap_or(HeadStarted::Not {
            detail: "the participant failed".to_owned(),
        })
    }

    async fn finish(&self, branches: Vec<Finish>) -> Vec<Finished> {
        let (shard, drivers) = (self.0.shard.clone(), self.0.drivers.clone());
        let count = branches.len();
        let work = async move {
            let since = Instant::now();
            let finished = finish::finish(&shard, &branches).await;
            let meter = &shard.meters.finish;
            meter.took(since);
            for (branch, finished) in branches.iter().zip(&finished) {
                meter.count(metrics::finished(finished, branch.kind));
                match (finished, branch.kind) {
                    (Finished::Done, FinishKind::Commit) => drivers.forget(&branch.gid),
                    (Finished::Done, FinishKind::Rollback) => drivers.end(&branch.gid),
                    (Finished::Busy | Finished::Damaged { .. } | Finished::Unknown { .. }, _) => {}
                }
            }
            finished
        };
        let failed = || Finished::Unknown {
            detail: "the participant failed".to_owned(),
        };
        self.to_its_end(work)
            .await
            .unwrap_or_else(|| vec![failed(); count])
    }

    async fn resolve(&self, batch: BatchId, incarnation: Incarnation) -> RegisterAnswer {
        let inner = self.0.clone();
        let work = async move {
            inner.sessions.end_idle_head_start(batch).await;
            resolve::resolve(&inner.pool, batch, incarnation).await
        };
        self.to_its_end(work)
            .await
            .unwrap_or_else(|| RegisterAnswer::Unreachable {
                detail: "the participant failed".to_owned(),
            })
    }

    async fn look_up_decisions(&self, batches: Vec<BatchId>) -> Vec<RegisterAnswer> {
        resolve::look_up_decisions(&self.0.pool, &batches).await
    }

    async fn look_up_branches(&self, batches: Vec<BatchId>) -> Result<Vec<BranchRow>, Unavailable> {
        let found = resolve::look_up_branches(&self.0.pool, &batches).await;
        found.map_err(|error| self.unavailable(&error))
    }

    async fn record_aborts(&self, record: RecordAborts) -> RecordAnswer {
        let pool = self.0.pool.clone();
        let work = async move { status::record_aborts(&pool, &record).await };
        self.to_its_end(work)
            .await
            .unwrap_or_else(|| RecordAnswer::Unknown {
                detail: "the participant failed".to_owned(),
            })
    }

    async fn status(&self, txid: Txid, asker: Option<Principal>) -> StatusAnswer {
        status::status(&self.0.pool, txid, asker.as_ref()).await
    }

    async fn session_open(&self, open: SessionOpen) -> SessionStep {
        let inner = self.0.clone();
        let work = async move {
            let gid = open.gid.clone();
            if let Err(refusal) = inner.drivers.begin(gid.clone(), open.driver) {
                return SessionStep::Lost(refusal);
            }
            let step = inner.sessions.open(&inner.shard, open).await;
            if step != SessionStep::Done {
                inner.drivers.forget(&gid);
            }
            step
        };
        self.to_its_end(work)
            .await
            .unwrap_or_else(|| SessionStep::Lost(failed()))
    }

    async fn session_execute(&self, execute: SessionExecute) -> Executed {
        let inner = self.0.clone();
        let work = async move {
            let open = execute.open.clone();
            let Some(open) = open.filter(|_| !inner.sessions.is_open(execute.batch)) else {
                return inner.sessions.execute(&inner.shard, execute).await;
            };
            let gid = open.gid.clone();
            if let Err(refusal) = inner.drivers.begin(gid.clone(), open.driver) {
                return Executed::Lost(refusal);
            }
            let opening = inner
                .sessions
                .open_and_execute(&inner.shard, open, execute.statement);
            let executed = opening.await;
            if !matches!(executed, Executed::Done(_)) {
                inner.drivers.forget(&gid);
            }
            executed
        };
        self.to_its_end(work)
            .await
            .unwrap_or_else(|| Executed::Lost(failed()))
    }

    async fn session_prepare(&self, batch: BatchId) -> Vote {
        let inner = self.0.clone();
        let work = async move { inner.sessions.prepare(&inner.shard, batch).await };
        self.to_its_end(work)
            .await
            .unwrap_or_else(|| Vote::Unknown {
                detail: "the participant failed".to_owned(),
            })
    }

    async fn session_enter_decision(&self, decide: Decide) -> SessionStep {
        let inner = self.0.clone();
        let work = async move { inner.sessions.enter_decision(decide).await };
        self.to_its_end(work)
            .await
            .unwrap_or_else(|| SessionStep::Lost(failed()))
    }

    async fn session_commit(&self, batch: BatchId) -> Decided {
        let inner = self.0.clone();
        let work = async move {
            let since = Instant::now();
            let decided = inner.sessions.commit(&inner.shard, batch).await;
            inner.meter_decide(since, &decided);
            inner.drivers.forget(&inner.shard.home_gid(batch));
            decided
        };
        self.to_its_end(work)
            .await
            .unwrap_or_else(|| Decided::Unknown {
                detail: "the participant failed".to_owned(),
            })
    }

    async fn session_rollback(&self, batch: BatchId) -> SessionStep {
        let inner = self.0.clone();
        let work = async move {
            // Whatever is late and would begin it again must not.
            inner.drivers.end(&inner.shard.home_gid(batch));
            inner.sessions.rollback(batch).await
        };
        self.to_its_end(work)
            .await
            .unwrap_or_else(|| SessionStep::Lost(failed()))
    }

    async fn in_doubt(&self) -> Result<Vec<InDoubtBranch>, Unavailable> {
        self.0.scanner.in_doubt().await
    }

    async fn resolve_now(&self, gid: Gid) -> Result<Finished, Unavailable> {
        self.0.scanner.resolve_now(&gid).await
    }

    async fn page_decisions(
        &self,
        after: Option<BatchId>,
        limit: u32,
    ) -> Result<Vec<DecisionRow>, Unavailable> {
        let page = rows::page_decisions(&self.0.pool, after, limit).await;
        page.map_err(|error| self.unavailable(&error))
    }

    async fn page_branches(
        &self,
        after: Option<BatchId>,
        limit: u32,
    ) -> Result<Vec<BranchRow>, Unavailable> {
        let page = rows::page_branches(&self.0.pool, after, limit).await;
        page.map_err(|error| self.unavailable(&error))
    }

    async fn retention(&self) -> Result<Retention, Unavailable> {
        rows::retention(&self.0.pool)
            .await
            .map_err(|error| self.unavailable(&error))
    }
}

fn failed() -> Refusal {
    Refusal::new(RefusalCode::ShardUnavailable, "the participant failed")
}
