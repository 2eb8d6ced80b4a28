//! Failover to a synchronous standby.
//!
//! The primary dies with a transaction at the wanted step, and never comes back. Its standby is
//! promoted, and the shard's address leads to it, as a floating address or a proxy would. Nothing
//! else is done: Gavel has to find its way by itself, and nothing that was acknowledged may be lost.

use std::time::{Duration, Instant};

use super::aim::nobody;
use super::{Strikes, Struck};
use crate::arena::SMALL_DISK_SHARD;
use crate::bank::DATABASE;
use crate::error::ChaosError;
use crate::proxy::{Passage, Step};
use crate::verdict::{Invariant, Violation};

/// How soon a participant must work with the new primary. It looks for its server all the time.
const BACK_WITHIN: Duration = Duration::from_secs(10);
/// How long a standby may take to find its primary after an earlier blow.
const FOLLOWS_WITHIN: Duration = Duration::from_secs(10);
const LOOK_EVERY: Duration = Duration::from_millis(50);

impl Strikes {
    pub(super) async fn fail_over(&mut self, step: Step) -> Result<Struck, ChaosError> {
        if !self.all_are_covered().await? {
            return Ok(Err("a standby does not follow its primary".to_owned()));
        }
        // A server with a small disk stays where its disk is.
        let fixed = self.arena.small_disk.as_ref().map(|_| SMALL_DISK_SHARD);
        let wants = move |passage: &Passage| !passage.is_local() && Some(passage.shard) != fixed;
        let Some(caught) = self.catch_where(step, wants).await else {
            return Ok(nobody(step));
        };
        let (shard, what) = (caught.passage.shard, self.name(&caught));
        self.on_server(shard, |server| Ok(server.kill9()?)).await?;
        drop(caught);
        let arena = self.arena.clone();
        self.arena
            .blocking(move |_| Ok(arena.replicas.promote(shard)?))
            .await?;
        let prepared = self
            .on_server(shard, |server| {
                let sql = "SELECT 1 FROM pg_prepared_xacts WHERE gid LIKE 'gavel:dev:%'";
                Ok(server.sql(DATABASE, sql)?.len())
            })
            .await?;
        let promoted = Instant::now();
        let primary = self.arena.primary(shard).port();
        self.arena.servers()[shard].lead_to(primary);
        self.await_participant(shard, promoted).await;
        let arena = self.arena.clone();
        self.arena
            .blocking(move |dev| Ok(arena.replicas.add_standby(dev, shard)?))
            .await?;
        Ok(Ok(format!(
            "{what}, {prepared} prepared branches found after it"
        )))
    }

    /// Waits until every standby follows, whose primary an earlier blow may have struck.
    async fn all_are_covered(&self) -> Result<bool, ChaosError> {
        let began = Instant::now();
        while began.elapsed() < FOLLOWS_WITHIN {
            let arena = self.arena.clone();
            let covered = self.arena.blocking(move |dev| {
                let mut shards = 0..dev.shards().len();
                let covered = shards.try_fold(true, |all, shard| {
                    Ok(all & arena.replicas.is_covered(dev, shard)?)
                });
                covered.map_err(|error: local_postgres::Error| error.into())
            });
            if covered.await? {
                return Ok(true);
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        Ok(false)
    }

    /// The participant was told nothing, and has to do work on the new primary soon.
    async fn await_participant(&mut self, shard: usize, promoted: Instant) {
        let there = move |passage: &Passage| passage.shard == shard;
        let mut is_back = false;
        while !is_back && promoted.elapsed() < BACK_WITHIN {
            is_back = self.catch_where(Step::Work, there).await.is_some();
        }
        let name = self.arena.shard(shard);
        let seconds = promoted.elapsed().as_secs_f32();
        if is_back {
            let evidence = format!("{name} worked {seconds:.1} s after its failover");
            self.seen.evidence.push((Invariant::Progress, evidence));
        } else {
            let what = format!("{name} did nothing for {seconds:.1} s after its failover");
            self.seen.violations.push(Violation {
                invariant: Invariant::Progress,
                what,
            });
        }
    }
}
