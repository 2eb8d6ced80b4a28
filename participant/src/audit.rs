//! The auditor (R16): compares branch rows on every shard with decisions at their homes, in both
//! directions. It proves atomicity, and finds what a hand-made `COMMIT PREPARED` or a lossy
//! failover destroyed.
//!
//! Invariants:
//! - A shard that could not be asked is reported as not audited, never as fine.
//! - A suspicion becomes damage only if a second look, behind new barriers, shows the same. The
//!   second look reads the decision first, then the prepared branches, then the branch rows: a
//!   branch being finished shows its row before its gid is gone, so it cannot be missed twice.
//! - What is below a floor is not compared: rows may be gone there (R14).
//!
//! Failure model: nothing is changed. Rows are read in pages, so memory stays bounded; what
//! happens during an audit is seen by it or by the next.

pub mod background;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use gavel_protocol::message::{BranchRow, Decision, DecisionRow, RegisterAnswer};
use gavel_protocol::recovery::{Action, DamageKind, HomeSays, ShardShows, action};
use gavel_protocol::{BatchId, ShardTag};

use crate::api::{Directory, Participant, Unavailable};
use crate::damage::{self, Damage};
use crate::service_pool::{ServiceError, ServicePool};

/// Rows compared at a time.
const PAGE: u32 = 500;

/// What an audit found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AuditReport {
    /// Branch rows compared with their home's decision.
    pub branches: u64,
    /// Decisions compared with the shards that they name.
    pub decisions: u64,
    /// Broken atomicity, with evidence.
    pub damage: Vec<Finding>,
    /// Shards that could not be audited, or not completely, with the reason.
    pub not_audited: BTreeMap<ShardTag, String>,
}

impl AuditReport {
    /// Whether everything was audited and nothing is broken.
    pub fn is_clean(&self) -> bool {
        self.damage.is_empty() && self.not_audited.is_empty()
    }
}

/// One broken batch on one shard.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    /// The shard that contradicts the decision.
    pub shard: ShardTag,
    /// Where the decision is, or should be.
    pub home: ShardTag,
    /// The batch.
    pub batch: BatchId,
    /// What is broken.
    pub kind: DamageKind,
    /// What was read, for people.
    pub evidence: String,
}

/// Audits every shard of the directory, all that it keeps.
pub async fn audit(directory: &Directory) -> AuditReport {
    let mut auditor = Auditor::new(directory, None, Duration::ZERO);
    for (tag, participant) in directory.iter() {
        auditor.shard(tag, &participant).await;
    }
    auditor.judge().await;
    auditor.report
}

/// Audits what one shard holds: its branch rows against the decisions at their homes, and its
/// decisions against the branch rows on the shards that they name.
///
/// Only batches after `after` are looked at, or all; between two pages it rests for `pause`.
pub async fn audit_shard(
    directory: &Directory,
    tag: ShardTag,
    after: Option<BatchId>,
    pause: Duration,
) -> AuditReport {
    let mut auditor = Auditor::new(directory, after, pause);
    match directory.shard(tag) {
        Some(participant) => auditor.shard(tag, &participant).await,
        None => auditor.not_audited(tag, "it is not configured here".to_owned()),
    }
    auditor.judge().await;
    auditor.report
}

/// Raises an alarm for `finding` and records it in `gavel.damage` of the shard behind `pool`.
/// True if it was not known there before.
///
/// # Errors
/// See [`ServiceError`]; the alarm is raised in any case.
pub async fn record(pool: &ServicePool, finding: &Finding) -> Result<bool, ServiceError> {
    let damage = Damage {
        batch: finding.batch,
        gid: None,
        kind: finding.kind,
        detail: finding.evidence.clone(),
    };
    damage::record(pool, &damage).await
}

/// A branch to look at again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Suspect {
    home: ShardTag,
    shard: ShardTag,
    batch: BatchId,
}

struct Auditor<'a> {
    directory: &'a Directory,
    after: Option<BatchId>,
    pause: Duration,
    report: AuditReport,
    suspects: BTreeSet<Suspect>,
}

impl<'a> Auditor<'a> {
    fn new(directory: &'a Directory, after: Option<BatchId>, pause: Duration) -> Self {
        Self {
            directory,
            after,
            pause,
            report: AuditReport::default(),
            suspects: BTreeSet::new(),
        }
    }

    async fn shard(&mut self, tag: ShardTag, participant: &Arc<dyn Participant>) {
        let audited = self.branches_of(tag, participant).await;
        self.note(tag, audited);
        let audited = self.decisions_of(tag, participant).await;
        self.note(tag, audited);
    }

    fn note(&mut self, shard: ShardTag, audited: Result<(), Unavailable>) {
        if let Err(error) = audited {
            self.not_audited(shard, error.detail);
        }
    }

    fn not_audited(&mut self, shard: ShardTag, why: String) {
        self.report.not_audited.entry(shard).or_insert(why);
    }

    /// Every branch row must have a commit decision that names the shard.
    async fn branches_of(
        &mut self,
        shard: ShardTag,
        participant: &Arc<dyn Participant>,
    ) -> Result<(), Unavailable> {
        let mut after = self.after;
        loop {
            let page = participant.page_branches(after, PAGE).await?;
            let Some(last) = page.last() else {
                return Ok(());
            };
            after = Some(last.batch);
            let mut by_home: BTreeMap<ShardTag, Vec<BatchId>> = BTreeMap::new();
            for BranchRow { batch, home, .. } in page {
                by_home.entry(home).or_default().push(batch);
            }
            for (home, batches) in by_home {
                self.compare_with_home(shard, home, batches).await;
            }
            tokio::time::sleep(self.pause).await;
        }
    }

    async fn compare_with_home(&mut self, shard: ShardTag, home: ShardTag, batches: Vec<BatchId>) {
        let Some(register) = self.directory.shard(home) else {
            self.not_audited(shard, format!("its home {home} is not configured here"));
            return;
        };
        let answers = register.look_up_decisions(batches.clone()).await;
        for (batch, answer) in batches.into_iter().zip(answers) {
            if let RegisterAnswer::Unreachable { detail }
            | RegisterAnswer::OtherIncarnation { detail } = &answer
            {
                self.not_audited(shard, format!("its home {home}: {detail}"));
                continue;
            }
            self.report.branches += 1;
            match action(HomeSays::about(&answer, shard), ShardShows::BranchRow) {
                Action::Rest => {}
                _ => {
                    self.suspects.insert(Suspect { home, shard, batch });
                }
            }
        }
    }

    /// Every shard that a commit decision names must have the branch row, or still be prepared.
    async fn decisions_of(
        &mut self,
        home: ShardTag,
        participant: &Arc<dyn Participant>,
    ) -> Result<(), Unavailable> {
        let mut after = self.after;
        loop {
            let page = participant.page_decisions(after, PAGE).await?;
            let Some(last) = page.last() else {
                return Ok(());
            };
            after = Some(last.batch);
            let mut by_shard: BTreeMap<ShardTag, Vec<BatchId>> = BTreeMap::new();
            for DecisionRow { batch, decision } in page {
                self.report.decisions += 1;
                let Decision::Commit { prepared } = decision else {
                    continue;
                };
                for shard in prepared {
                    by_shard.entry(shard).or_default().push(batch);
                }
            }
            for (shard, batches) in by_shard {
                let compared = self.compare_with_shard(home, shard, batches).await;
                self.note(shard, compared);
            }
            tokio::time::sleep(self.pause).await;
        }
    }

    async fn compare_with_shard(
        &mut self,
        home: ShardTag,
        shard: ShardTag,
        batches: Vec<BatchId>,
    ) -> Result<(), Unavailable> {
        let participant = self.directory.shard(shard).ok_or_else(|| Unavailable {
            shard,
            detail: format!("home {home} names it, but it is not configured here"),
        })?;
        let rows = participant.look_up_branches(batches.clone()).await?;
        let applied: BTreeSet<BatchId> = rows.into_iter().map(|row| row.batch).collect();
        let missing = batches.into_iter().filter(|batch| !applied.contains(batch));
        self.suspects
            .extend(missing.map(|batch| Suspect { home, shard, batch }));
        Ok(())
    }

    /// The second look at everything suspicious.
    async fn judge(&mut self) {
        for suspect in std::mem::take(&mut self.suspects) {
            match self.look_again(suspect).await {
                Ok(None) => {}
                Ok(Some(finding)) => self.report.damage.push(finding),
                Err(error) => self.not_audited(suspect.shard, error.detail),
            }
        }
    }

    async fn look_again(&self, suspect: Suspect) -> Result<Option<Finding>, Unavailable> {
        let Suspect { home, shard, batch } = suspect;
        let unknown = |shard| Unavailable {
            shard,
            detail: format!("shard {shard} is not configured here"),
        };
        let register = self.directory.shard(home).ok_or_else(|| unknown(home))?;
        let participant = self.directory.shard(shard).ok_or_else(|| unknown(shard))?;
        let answer = register.look_up_decisions(vec![batch]).await.pop();
        let answer = answer.ok_or_else(|| unknown(home))?;
        let shows = shows(&participant, batch).await?;
        let kind = match action(HomeSays::about(&answer, shard), shows) {
            Action::Damage(kind) => kind,
            // This was the look behind a barrier that the table asks for.
            Action::ConfirmLost if self.is_kept(&participant, batch).await? => {
                DamageKind::LostBranch
            }
            Action::Wait => {
                return Err(Unavailable {
                    shard: home,
                    detail: format!("home {home} says {answer:?}"),
                });
            }
            Action::ConfirmLost
            | Action::Commit
            | Action::Rollback
            | Action::RollbackWithAlarm
            | Action::ForceAbort
            | Action::AskOperator
            | Action::LookAgain
            | Action::Rest => return Ok(None),
        };
        Ok(Some(Finding {
            shard,
            home,
            batch,
            kind,
            evidence: format!("home {home} says {answer:?}, shard {shard} shows {shows:?}"),
        }))
    }

    /// Whether the shard still keeps branch rows of that age. Asked after the row was missed.
    async fn is_kept(
        &self,
        participant: &Arc<dyn Participant>,
        batch: BatchId,
    ) -> Result<bool, Unavailable> {
        Ok(batch.unix_ms() >= participant.retention().await?.branch_floor_ms)
    }
}

/// What a shard shows of a batch. Prepared branches are read first, see the module's header.
async fn shows(
    participant: &Arc<dyn Participant>,
    batch: BatchId,
) -> Result<ShardShows, Unavailable> {
    let prepared = participant.in_doubt().await?;
    if prepared.iter().any(|branch| branch.gid.batch == batch) {
        return Ok(ShardShows::Prepared);
    }
    let rows = participant.look_up_branches(vec![batch]).await?;
    Ok(match rows.is_empty() {
        true => ShardShows::Nothing,
        false => ShardShows::BranchRow,
    })
}
