//! Retention (R14); `participant/src/retention.rs` and `migrations/sql/0008_retention.sql`.
//!
//! The steps of a home, in order: commit a floor, verify that every shard is done with what is
//! below it, drop. Partitions of branches are dropped with the decisions.

use gavel_protocol::message::Decision;

use super::World;
use super::hole::Hole;
use super::ids::EPOCH_MS;
use super::setup::place;

impl World {
    /// One step of retention at a home; where it stands is in its tables.
    pub(crate) fn retain(&mut self, at: usize) {
        let Some(timers) = &self.setup.timers else {
            return;
        };
        let now = self.now;
        let wanted = EPOCH_MS + now.saturating_sub(timers.retention_ms);
        let tables = &mut self.shards[at].tables;
        tables.retained_at = now;
        let (floor, verified, dropped) = (tables.floor_ms, tables.verified_ms, tables.dropped_ms);
        let unverified = self.setup.has(Hole::DropUnverified);
        if verified < floor {
            if unverified || self.may_drop(at, floor) {
                self.shards[at].tables.verified_ms = floor;
            }
        } else if dropped < verified {
            self.drop_below(at, verified);
        } else {
            let tables = &mut self.shards[at].tables;
            tables.floor_ms = tables.floor_ms.max(wanted);
        }
    }

    /// Whether no shard holds a gid of this home, and every commit of it is applied, below
    /// `floor`; and no decide that began before the floor was committed is still open.
    fn may_drop(&self, home: usize, floor: u64) -> bool {
        let tag = self.shards[home].tag;
        let all_answer = self
            .shards
            .iter()
            .all(|shard| shard.up && shard.is_replicated())
            && self.participants.iter().all(|participant| participant.up);
        let is_old = |batch: gavel_protocol::BatchId| batch.unix_ms() < floor;
        let gid_left = self.shards.iter().any(|shard| {
            let mut gids = shard.tables.prepared.keys();
            gids.any(|gid| gid.home == tag && is_old(gid.batch))
        });
        let deciding = self.shards[home].jobs.iter().any(|job| {
            let super::participant::job::Work::Decide(decide, _) = &job.work else {
                return false;
            };
            is_old(decide.batch)
        });
        let decisions = self.shards[home].tables.decisions.iter();
        let mut old = decisions.filter(|(batch, _)| is_old(**batch));
        let unapplied = old.any(|(batch, decision)| match decision {
            Decision::Abort => false,
            Decision::Commit { prepared } => prepared.iter().any(|shard| {
                let tables = &self.shards[place(*shard)].tables;
                !tables.branches.contains_key(batch)
            }),
        });
        all_answer && !gid_left && !deciding && !unapplied
    }

    fn drop_below(&mut self, home: usize, floor: u64) {
        let tag = self.shards[home].tag;
        for shard in &mut self.shards {
            shard
                .tables
                .branches
                .retain(|batch, home| *home != tag || batch.unix_ms() >= floor);
        }
        let tables = &mut self.shards[home].tables;
        tables.decisions.retain(|batch, _| batch.unix_ms() >= floor);
        tables
            .transactions
            .retain(|txid, _| txid.unix_ms() >= floor);
        tables.dropped_ms = floor;
    }
}
