//! The scan: finds the prepared branches of this shard, and resolves those that are in doubt.
//!
//! Purpose: whatever was killed, no branch stays prepared for longer than its decision takes to
//! be learned. No coordinator is needed: the branch's gid names its home, and home's register
//! decides. When to act is [`gavel_protocol::branch`]'s business, what to do
//! [`gavel_protocol::recovery`]'s; here are the effects.
//!
//! Invariants:
//! - Only gids of this deployment and this shard, parsed by the one parser, are ever touched.
//! - A home that does not answer holds up only its own branches: questions are bounded per home.
//! - Ages are measured here (R15): by this process's monotonic clock from when it first saw the
//!   gid, and by the database's own clock.
//!
//! Failure model: nothing here is kept on disk. After a crash the next scan finds the same
//! branches, and the same questions have the same answers. While the database is down, scans
//! fail, and go on by themselves when it is back.

mod backoff;
mod run;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use gavel_protocol::message::{Finish, Finished, InDoubtBranch, RegisterAnswer, ShardIdentity};
use gavel_protocol::recovery::{HomeSays, ShardShows, action};
use gavel_protocol::{Gid, Limits};
use parking_lot::{Mutex, RwLock};
use tokio::sync::Notify;

use crate::api::{Directory, Unavailable};
use crate::attendance::Drivers;
use crate::metrics::Meters;
use crate::service_pool::{ServiceError, ServicePool};
use crate::shard::Slots;

/// Finishes prepared branches, on connections reserved for it.
#[async_trait]
pub trait Finisher: Send + Sync + 'static {
    /// One answer per entry, in order. Called only with what home decided.
    async fn finish(&self, branches: Vec<Finish>) -> Vec<Finished>;
}

/// What a scanner works with.
pub struct ScannerParts {
    /// Who the shard is.
    pub identity: ShardIdentity,
    /// For looking at `pg_prepared_xacts` and recording damage.
    pub pool: ServicePool,
    /// Which drivers attend.
    pub drivers: Drivers,
    /// What is measured.
    pub meters: Meters,
    /// Told how many branches each home has prepared here (R12).
    pub slots: Slots,
    /// Finishes branches.
    pub finisher: Arc<dyn Finisher>,
}

/// The scanner of one shard. Cheap to clone; does nothing by itself until [`Scanner::start`].
#[derive(Clone)]
pub struct Scanner(Arc<Inner>);

struct Inner {
    parts: ScannerParts,
    limits: Limits,
    directory: RwLock<Directory>,
    waits_for: Mutex<HashMap<Gid, String>>,
    wake: Notify,
}

/// The running scan. Dropping it stops the scan; branches in doubt stay as they are.
pub struct ScannerTask {
    task: tokio::task::JoinHandle<()>,
    inner: Arc<Inner>,
}

impl Drop for ScannerTask {
    fn drop(&mut self) {
        self.task.abort();
        // The directory holds this shard's own participant, and that one the scanner.
        *self.inner.directory.write() = Directory::default();
    }
}

impl Scanner {
    /// A scanner with the limits of its pool.
    pub fn new(parts: ScannerParts) -> Self {
        Self(Arc::new(Inner {
            limits: parts.pool.limits().clone(),
            parts,
            directory: RwLock::default(),
            waits_for: Mutex::default(),
            wake: Notify::new(),
        }))
    }

    /// Starts scanning: now, every `scan_interval_ms`, and when a driver's stream closes.
    /// `directory` has every shard, this one included. Call it once.
    pub fn start(&self, directory: Directory) -> ScannerTask {
        *self.0.directory.write() = directory;
        ScannerTask {
            task: tokio::spawn(run::run(self.0.clone())),
            inner: self.0.clone(),
        }
    }

    /// Scans now instead of at the next interval.
    pub fn scan_now(&self) {
        self.0.wake.notify_one();
    }

    /// Prepared branches of this deployment on this shard, read now, with their age.
    ///
    /// # Errors
    /// [`Unavailable`] if the database does not answer.
    pub async fn in_doubt(&self) -> Result<Vec<InDoubtBranch>, Unavailable> {
        let found = prepared(&self.0.parts.pool)
            .await
            .map_err(|error| self.unavailable(&error))?;
        let waits_for = self.0.waits_for.lock();
        let waits_for = |gid: &Gid| match waits_for.get(gid) {
            Some(text) => text.clone(),
            None => "its driver".to_owned(),
        };
        Ok(found
            .into_iter()
            .filter_map(|each| {
                let gid = each.gid.parse::<Gid>().ok()?;
                self.0.is_ours(&gid).then(|| InDoubtBranch {
                    age_ms: u64::try_from(each.age.as_millis()).unwrap_or(u64::MAX),
                    waits_for: waits_for(&gid),
                    gid,
                })
            })
            .collect())
    }

    /// Resolves one prepared branch now, whatever its age. For operators; tries for
    /// `resolve_timeout_ms`.
    ///
    /// # Errors
    /// [`Unavailable`] if the database does not answer.
    pub async fn resolve_now(&self, gid: &Gid) -> Result<Finished, Unavailable> {
        let found = prepared(&self.0.parts.pool)
            .await
            .map_err(|error| self.unavailable(&error))?;
        let name = gid.to_string();
        if !self.0.is_ours(gid) || !found.iter().any(|each| each.gid == name) {
            let detail = format!("{gid} is not prepared on this shard");
            return Ok(Finished::Unknown { detail });
        }
        let deadline = Instant::now() + Duration::from_millis(self.0.limits.resolve_timeout_ms);
        let mut attempt = 0;
        loop {
            let finished = self.0.resolve_once(gid).await;
            let open = matches!(finished, Finished::Busy | Finished::Unknown { .. });
            if !open || Instant::now() >= deadline {
                return Ok(finished);
            }
            attempt += 1;
            tokio::time::sleep(backoff::pause(&self.0.limits, attempt)).await;
        }
    }

    fn unavailable(&self, error: &ServiceError) -> Unavailable {
        Unavailable {
            shard: self.0.parts.identity.tag,
            detail: error.detail(),
        }
    }
}

impl Inner {
    /// Whether `gid` names this shard of this deployment.
    fn is_ours(&self, gid: &Gid) -> bool {
        let me = &self.parts.identity;
        gid.deployment == me.deployment && gid.shard == me.tag
    }

    /// Asks the register of the branch's home, which forces an abort if there is no decision.
    async fn ask_home(&self, gid: &Gid) -> RegisterAnswer {
        let home = self.directory.read().shard(gid.home);
        let Some(home) = home else {
            let detail = format!("shard {} is not configured here", gid.home);
            return RegisterAnswer::Unreachable { detail };
        };
        let limit = Duration::from_millis(self.limits.resolve_timeout_ms);
        // Dying here: the abort may be forced; the next scan reads it.
        let answer = home.resolve(gid.batch, gid.home_incarnation);
        tokio::time::timeout(limit, answer)
            .await
            .unwrap_or_else(|_| RegisterAnswer::Unreachable {
                detail: format!("home {} did not answer within {limit:?}", gid.home),
            })
    }

    async fn finish(&self, branches: Vec<Finish>) -> Vec<Finished> {
        let count = branches.len();
        let limit = Duration::from_millis(self.limits.resolve_timeout_ms);
        let mut answers = tokio::time::timeout(limit, self.parts.finisher.finish(branches))
            .await
            .unwrap_or_default();
        let detail = || "the shard did not answer".to_owned();
        answers.resize_with(count, || Finished::Unknown { detail: detail() });
        answers
    }

    async fn resolve_once(&self, gid: &Gid) -> Finished {
        let answer = self.ask_home(gid).await;
        let home = HomeSays::about(&answer, gid.shard);
        let Some(kind) = action(home, ShardShows::Prepared).finish() else {
            let detail = match answer {
                RegisterAnswer::OtherIncarnation { detail }
                | RegisterAnswer::Unreachable { detail } => detail,
                RegisterAnswer::BelowFloor => "its decision is not kept any more".to_owned(),
                RegisterAnswer::NoRow | RegisterAnswer::Decision(_) => "no decision yet".to_owned(),
            };
            return Finished::Unknown { detail };
        };
        let finish = Finish {
            gid: gid.clone(),
            kind,
        };
        let finished = self.finish(vec![finish]).await.pop();
        let cause = "an operator asked";
        tracing::info!(%gid, cause, action = ?kind, ?finished, "resolved");
        if matches!(finished, Some(Finished::Done)) {
            self.parts.meters.resolved(cause, kind);
        }
        finished.expect("one answer per branch")
    }
}

/// A row of `gavel.prepared()`.
struct Prepared {
    gid: String,
    /// By the database's clock; zero if that clock went back.
    age: Duration,
}

/// Prepared transactions of this deployment in this database.
async fn prepared(pool: &ServicePool) -> Result<Vec<Prepared>, ServiceError> {
    let session = pool.session().await?;
    let rows = session
        .query("SELECT gid, age_seconds FROM gavel.prepared()", &[])
        .await?;
    Ok(rows
        .iter()
        .map(|row| Prepared {
            gid: row.get(0),
            age: Duration::try_from_secs_f64(row.get(1)).unwrap_or_default(),
        })
        .collect())
}
