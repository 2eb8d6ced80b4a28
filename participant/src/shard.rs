//! What every part of a participant knows of its shard.

use std::collections::HashMap;
use std::sync::Arc;

use gavel_protocol::message::{Finish, FinishKind, ShardIdentity};
use gavel_protocol::{BatchId, Gid, Incarnation, Limits, Refusal, RefusalCode, ShardTag};
use parking_lot::Mutex;
use tokio::sync::Semaphore;

use crate::metrics::Meters;
use crate::pg::pool::Pool;
use crate::pg::{ConnectError, Target};

/// Connections for deciding that head starts never take.
const CONNECTIONS_KEPT_TO_DECIDE: usize = 2;

/// A shard: who it is, and the connections to it, apart by kind of work (design §7). Work that
/// waits on the rows of a prepared branch never holds the last connection that could finish it.
pub struct Shard {
    /// Who it is.
    pub identity: ShardIdentity,
    /// The limits.
    pub limits: Limits,
    /// What is measured.
    pub meters: Meters,
    /// For branch work.
    pub work: Pool,
    /// For deciding at home.
    pub decide: Pool,
    /// For COMMIT PREPARED and ROLLBACK PREPARED.
    pub finish: Pool,
    /// For interactive branches.
    pub interactive: Pool,
    /// The prepared slots in use.
    pub slots: Slots,
    /// How many head starts may be open: they wait for votes, and must leave connections to
    /// decides that do not.
    pub head_starts: Arc<Semaphore>,
}

impl Shard {
    /// Opens nothing yet: connections are made when they are needed.
    pub fn new(
        identity: ShardIdentity,
        database_url: &str,
        slots: Slots,
        limits: &Limits,
    ) -> Result<Self, ConnectError> {
        let target = Target::from_url(database_url, limits)?;
        let pool = |size| Pool::new(&target, size, limits);
        Ok(Self {
            work: pool(limits.work_connections),
            decide: pool(limits.decide_connections),
            finish: pool(limits.finish_connections),
            interactive: pool(limits.interactive_connections),
            head_starts: Arc::new(Semaphore::new(
                limits
                    .decide_connections
                    .saturating_sub(CONNECTIONS_KEPT_TO_DECIDE),
            )),
            meters: Meters::new(identity.name.as_str()),
            identity,
            limits: limits.clone(),
            slots,
        })
    }

    /// Sets the gauges of the connections.
    pub(crate) fn meter_pools(&self) {
        for (name, pool) in [
            ("work", &self.work),
            ("decide", &self.decide),
            ("finish", &self.finish),
            ("interactive", &self.interactive),
        ] {
            self.meters.pool(name, pool.status());
        }
    }

    /// The shard's number.
    pub fn tag(&self) -> ShardTag {
        self.identity.tag
    }

    /// Refuses a branch that is meant for another shard, installation or life (R13).
    pub fn check_branch(&self, gid: &Gid, incarnation: Incarnation) -> Result<(), Refusal> {
        let me = &self.identity;
        if gid.deployment == me.deployment && gid.shard == me.tag && incarnation == me.incarnation {
            return Ok(());
        }
        let message = format!(
            "the branch is meant for shard {} of `{}`, incarnation {incarnation}; \
             this is shard {} of `{}`, incarnation {}: check the shard addresses",
            gid.shard, gid.deployment, me.tag, me.deployment, me.incarnation
        );
        tracing::error!(%gid, "{message}");
        Err(Refusal::new(RefusalCode::ShardUnavailable, message))
    }

    /// Names the work on a batch whose home this is.
    pub fn home_gid(&self, batch: BatchId) -> Gid {
        let ShardIdentity {
            deployment,
            tag,
            incarnation,
            ..
        } = &self.identity;
        Gid {
            deployment: deployment.clone(),
            home: *tag,
            home_incarnation: *incarnation,
            batch,
            shard: *tag,
        }
    }

    /// How to roll a branch back that this participant prepared itself.
    pub fn rollback(gid: &Gid) -> Finish {
        Finish {
            gid: gid.clone(),
            kind: FinishKind::Rollback,
        }
    }
}

/// Prepared slots per home (R12): a dead home must not fill them all.
///
/// What is prepared comes from the last scan of `pg_prepared_xacts`; what this process has
/// started to prepare since then is added to it, so the count is never too low.
#[derive(Clone)]
pub struct Slots(Arc<Mutex<SlotCounts>>);

struct SlotCounts {
    per_home_max: usize,
    scanned: HashMap<ShardTag, usize>,
    started_since: HashMap<ShardTag, usize>,
    under_way: HashMap<ShardTag, usize>,
}

impl Slots {
    /// A share of `max_prepared_transactions` for every home.
    pub fn new(max_prepared_transactions: usize, limits: &Limits) -> Self {
        let percent = limits.slots_per_home_percent as usize;
        Self(Arc::new(Mutex::new(SlotCounts {
            per_home_max: (max_prepared_transactions * percent / 100).max(1),
            scanned: HashMap::new(),
            started_since: HashMap::new(),
            under_way: HashMap::new(),
        })))
    }

    /// Takes a slot for a branch of `home`; it is under way until the permit is dropped.
    pub fn acquire(&self, home: ShardTag) -> Result<SlotPermit, Refusal> {
        let mut counts = self.0.lock();
        let count = |map: &HashMap<ShardTag, usize>| map.get(&home).copied().unwrap_or(0);
        let used = count(&counts.scanned) + count(&counts.started_since);
        if used.max(count(&counts.under_way)) >= counts.per_home_max {
            let message = format!(
                "home {home} has {used} of its {} prepared slots in use: wait until they are \
                 resolved, or raise max_prepared_transactions",
                counts.per_home_max
            );
            return Err(Refusal::new(RefusalCode::SlotsExhausted, message));
        }
        *counts.started_since.entry(home).or_default() += 1;
        *counts.under_way.entry(home).or_default() += 1;
        Ok(SlotPermit {
            slots: self.clone(),
            home,
        })
    }

    /// Takes over what a scan has counted.
    pub fn note_scan(&self, prepared: HashMap<ShardTag, usize>) {
        let mut counts = self.0.lock();
        counts.scanned = prepared;
        counts.started_since = counts.under_way.clone();
    }

    /// Gives slots back whose branches are known to be finished.
    pub fn note_finished(&self, home: ShardTag) {
        let mut counts = self.0.lock();
        let SlotCounts {
            scanned,
            started_since,
            ..
        } = &mut *counts;
        for map in [started_since, scanned] {
            if let Some(count) = map.get_mut(&home).filter(|count| **count > 0) {
                *count -= 1;
                return;
            }
        }
    }
}

/// A slot that a prepare has taken.
pub struct SlotPermit {
    slots: Slots,
    home: ShardTag,
}

impl Drop for SlotPermit {
    fn drop(&mut self) {
        if let Some(count) = self.slots.0.lock().under_way.get_mut(&self.home) {
            *count -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r12_one_home_cannot_fill_all_slots() {
        let slots = Slots::new(4, &Limits::default());
        let (dead, live) = (ShardTag(1), ShardTag(2));
        let permits: Vec<_> = (0..2).map(|_| slots.acquire(dead).unwrap()).collect();
        assert!(slots.acquire(dead).is_err());
        assert!(slots.acquire(live).is_ok());
        drop(permits);
        // Prepared and never finished: the scan sees them.
        slots.note_scan(HashMap::from([(dead, 2)]));
        assert_eq!(
            slots.acquire(dead).err().unwrap().code,
            RefusalCode::SlotsExhausted
        );
        slots.note_finished(dead);
        assert!(slots.acquire(dead).is_ok());
    }
}
