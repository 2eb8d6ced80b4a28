//! A participant with its recovery side only: these tests play the coordinator by hand.

use std::sync::Arc;

use async_trait::async_trait;
use gavel_participant::api::{Attendance, Directory, Participant, Unavailable};
use gavel_participant::attendance::Drivers;
use gavel_participant::scan::{Finisher, Scanner, ScannerParts, ScannerTask};
use gavel_participant::service_pool::{ServiceError, ServicePool, ServicePoolConfig};
use gavel_participant::shard::Slots;
use gavel_participant::{resolve, rows, status};
use gavel_protocol::message::{
    BranchRow, Decide, DecideAnswer, Decided, DecisionRow, Executed, Finish, FinishKind, Finished,
    InDoubtBranch, Prepare, PrepareAnswer, RecordAborts, RecordAnswer, RegisterAnswer, Retention,
    SessionExecute, SessionOpen, SessionStep, ShardIdentity, StatusAnswer, Vote,
};
use gavel_protocol::{
    BatchId, DriverId, Gid, Incarnation, Principal, Refusal, RefusalCode, ShardTag, Txid,
};

use super::{Hands, World};

pub(crate) struct Peer {
    identity: ShardIdentity,
    pub(crate) pool: ServicePool,
    pub(crate) drivers: Drivers,
    pub(crate) scanner: Scanner,
}

impl Peer {
    pub(crate) fn new(world: &World, tag: ShardTag) -> Self {
        let url = world.url(tag);
        let pool = ServicePool::new(ServicePoolConfig {
            database: url.parse().expect("a URL"),
            limits: world.limits.clone(),
        });
        let drivers = Drivers::default();
        let identity = world.identity(tag);
        let scanner = Scanner::new(ScannerParts {
            identity: identity.clone(),
            pool: pool.clone(),
            drivers: drivers.clone(),
            slots: Slots::new(64, &world.limits),
            finisher: Arc::new(PlainFinisher { url }),
        });
        Self {
            identity,
            pool,
            drivers,
            scanner,
        }
    }

    pub(crate) fn start(&self, directory: &Directory) -> ScannerTask {
        self.scanner.start(directory.clone())
    }

    fn unavailable(&self, error: &ServiceError) -> Unavailable {
        Unavailable {
            shard: self.identity.tag,
            detail: error.detail(),
        }
    }
}

/// Finishes one branch after the other, each on a new session.
struct PlainFinisher {
    url: String,
}

#[async_trait]
impl Finisher for PlainFinisher {
    async fn finish(&self, branches: Vec<Finish>) -> Vec<Finished> {
        let mut answers = Vec::new();
        for branch in branches {
            let answer = finish(&self.url, &branch).await;
            answers.push(answer.unwrap_or_else(|error| Finished::Unknown {
                detail: error.to_string(),
            }));
        }
        answers
    }
}

async fn finish(url: &str, branch: &Finish) -> Result<Finished, tokio_postgres::Error> {
    let (client, connection) = tokio_postgres::connect(url, tokio_postgres::NoTls).await?;
    tokio::spawn(connection);
    let hands = Hands(client);
    let verb = match branch.kind {
        FinishKind::Commit => "COMMIT",
        FinishKind::Rollback => "ROLLBACK",
    };
    let Err(error) = hands
        .run(&format!("{verb} PREPARED '{}'", branch.gid))
        .await
    else {
        return Ok(Finished::Done);
    };
    match error.code().map(|code| code.code()) {
        Some("55000") => return Ok(Finished::Busy),
        Some("42704") => {}
        _ => return Err(error),
    }
    let applied = hands
        .0
        .query(
            "SELECT 1 FROM gavel.applied_branches(ARRAY[$1::uuid])",
            &[&branch.gid.batch.uuid()],
        )
        .await?;
    let is_applied = !applied.is_empty();
    if is_applied == (branch.kind == FinishKind::Commit) {
        return Ok(Finished::Done);
    }
    let detail = format!("{verb} PREPARED, but applied: {is_applied}");
    Ok(Finished::Damaged { detail })
}

fn not_here() -> Refusal {
    Refusal::new(RefusalCode::ShardUnavailable, "recovery only")
}

#[async_trait]
impl Participant for Peer {
    fn tag(&self) -> ShardTag {
        self.identity.tag
    }

    async fn identity(&self) -> Result<ShardIdentity, Unavailable> {
        Ok(self.identity.clone())
    }

    async fn attend(&self, driver: DriverId) -> Result<Arc<dyn Attendance>, Unavailable> {
        Ok(self.drivers.attend(driver))
    }

    async fn prepare(&self, _: Prepare) -> PrepareAnswer {
        PrepareAnswer {
            vote: Vote::Unknown {
                detail: "recovery only".to_owned(),
            },
            results: Vec::new(),
        }
    }

    async fn decide(&self, _: Decide) -> DecideAnswer {
        DecideAnswer {
            decided: Decided::Unknown {
                detail: "recovery only".to_owned(),
            },
            results: Vec::new(),
        }
    }

    async fn finish(&self, branches: Vec<Finish>) -> Vec<Finished> {
        let detail = "recovery only".to_owned();
        vec![Finished::Unknown { detail }; branches.len()]
    }

    async fn resolve(&self, batch: BatchId, incarnation: Incarnation) -> RegisterAnswer {
        resolve::resolve(&self.pool, batch, incarnation).await
    }

    async fn look_up_decisions(&self, batches: Vec<BatchId>) -> Vec<RegisterAnswer> {
        resolve::look_up_decisions(&self.pool, &batches).await
    }

    async fn look_up_branches(&self, batches: Vec<BatchId>) -> Result<Vec<BranchRow>, Unavailable> {
        resolve::look_up_branches(&self.pool, &batches)
            .await
            .map_err(|error| self.unavailable(&error))
    }

    async fn record_aborts(&self, record: RecordAborts) -> RecordAnswer {
        status::record_aborts(&self.pool, &record).await
    }

    async fn status(&self, txid: Txid, asker: Option<Principal>) -> StatusAnswer {
        status::status(&self.pool, txid, asker.as_ref()).await
    }

    async fn session_open(&self, _: SessionOpen, _: bool) -> SessionStep {
        SessionStep::Lost(not_here())
    }

    async fn session_execute(&self, _: SessionExecute) -> Executed {
        Executed::Lost(not_here())
    }

    async fn session_prepare(&self, _: BatchId) -> Vote {
        Vote::Unknown {
            detail: "recovery only".to_owned(),
        }
    }

    async fn session_enter_decision(&self, _: Decide) -> SessionStep {
        SessionStep::Lost(not_here())
    }

    async fn session_commit(&self, _: BatchId) -> Decided {
        Decided::Unknown {
            detail: "recovery only".to_owned(),
        }
    }

    async fn session_rollback(&self, _: BatchId) -> SessionStep {
        SessionStep::Lost(not_here())
    }

    async fn in_doubt(&self) -> Result<Vec<InDoubtBranch>, Unavailable> {
        self.scanner.in_doubt().await
    }

    async fn resolve_now(&self, gid: Gid) -> Result<Finished, Unavailable> {
        self.scanner.resolve_now(&gid).await
    }

    async fn page_decisions(
        &self,
        after: Option<BatchId>,
        limit: u32,
    ) -> Result<Vec<DecisionRow>, Unavailable> {
        rows::page_decisions(&self.pool, after, limit)
            .await
            .map_err(|error| self.unavailable(&error))
    }

    async fn page_branches(
        &self,
        after: Option<BatchId>,
        limit: u32,
    ) -> Result<Vec<BranchRow>, Unavailable> {
        rows::page_branches(&self.pool, after, limit)
            .await
            .map_err(|error| self.unavailable(&error))
    }

    async fn retention(&self) -> Result<Retention, Unavailable> {
        rows::retention(&self.pool)
            .await
            .map_err(|error| self.unavailable(&error))
    }
}
