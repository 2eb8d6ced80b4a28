//! What a world is made of, and does not change.

use gavel_protocol::ShardTag;

use super::hole::Hole;
use super::ids::TxNumber;

/// The plan of a world.
#[derive(Debug, Clone)]
pub(crate) struct Setup {
    pub(crate) shards: u8,
    pub(crate) coordinators: u8,
    pub(crate) transactions: Vec<TxSpec>,
    /// Which transactions each client submits, one after the other.
    pub(crate) clients: Vec<Vec<TxNumber>>,
    /// The rule that is switched off or the bug that is planted, if any.
    pub(crate) hole: Option<Hole>,
    /// Whether every shard has a synchronous standby, so that rows may be read before they are
    /// replicated, and a failover loses what is not.
    pub(crate) standby: bool,
    /// How many replicated changes a failover that loses data can lose.
    pub(crate) archive: usize,
    pub(crate) batch_members_max: usize,
    pub(crate) approach: Approach,
    pub(crate) savepoints_max: usize,
    pub(crate) runs_max: u8,
    /// `max_prepared_transactions` of every shard, and how many of them one home may fill (R12).
    pub(crate) slots: usize,
    pub(crate) slots_per_home: usize,
    /// Every step of every job apart, instead of some together.
    pub(crate) fine: bool,
    /// With timers that expire by the clock; without, they may expire at any time.
    pub(crate) timers: Option<Timers>,
}

/// Who works first; `coordinator/src/lanes/lately.rs`. What a batch comes to never depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Approach {
    BranchesFirst,
    Together,
    HomeFirst,
    /// One batch so, the next one so.
    Mixed,
}

impl Approach {
    /// How the batch of this number goes to work.
    pub(crate) fn of_batch(self, number: u16) -> Self {
        match self {
            Self::Mixed => {
                let each = [Self::Together, Self::HomeFirst, Self::BranchesFirst];
                each[usize::from(number) % each.len()]
            }
            always => always,
        }
    }
}

/// How long things take, in milliseconds.
#[derive(Debug, Clone)]
pub(crate) struct Timers {
    pub(crate) answer_ms: u64,
    pub(crate) finish_ms: u64,
    pub(crate) lock_ms: u64,
    pub(crate) scan_ms: u64,
    pub(crate) in_doubt_after_ms: u64,
    pub(crate) retry_ms: u64,
    pub(crate) client_ms: u64,
    /// How long decisions are kept (R14); far shorter than in life.
    pub(crate) retention_ms: u64,
    /// Participants refuse batches older than this by their own database's clock; a day in life.
    pub(crate) batch_age_ms: u64,
}

/// What a transaction is.
#[derive(Debug, Clone)]
pub(crate) struct TxSpec {
    pub(crate) home: ShardTag,
    /// Where it leaves its mark; home is among them, or only decides.
    pub(crate) writes: Vec<ShardTag>,
    pub(crate) reads: Vec<ShardTag>,
    pub(crate) nature: Nature,
    /// The row that it locks on all of its shards; 0 is one of its own.
    pub(crate) row: u8,
    pub(crate) principal: u8,
}

/// How a transaction behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Nature {
    Fine,
    /// Its guard does not hold on this shard.
    Fails(ShardTag),
    /// Breaks a deferred constraint on this shard, which PREPARE and COMMIT notice.
    Deferred(ShardTag),
    /// Fails on this shard if it sees the work of that transaction.
    FailsAfter(ShardTag, TxNumber),
    /// Changes a setting, and every member after it fails (R11).
    Spoils,
    /// Switches `synchronous_commit` off (R11).
    Hurries,
}

impl TxSpec {
    pub(crate) fn takes_part(&self, shard: ShardTag) -> bool {
        self.writes.contains(&shard) || self.reads.contains(&shard)
    }

    /// Whether its own nature keeps it from committing.
    pub(crate) fn must_fail(&self) -> bool {
        match self.nature {
            Nature::Fails(on) => self.takes_part(on),
            Nature::Deferred(on) => self.writes.contains(&on),
            Nature::Fine | Nature::FailsAfter(..) | Nature::Spoils | Nature::Hurries => false,
        }
    }

    /// Whether it may share a batch (R11).
    pub(crate) fn is_batch_safe(&self) -> bool {
        !matches!(self.nature, Nature::Spoils | Nature::Hurries)
    }
}

impl Setup {
    pub(crate) fn spec(&self, number: TxNumber) -> &TxSpec {
        &self.transactions[usize::from(number.0)]
    }

    pub(crate) fn has(&self, hole: Hole) -> bool {
        self.hole == Some(hole)
    }
}

/// The tag of the shard in this place.
pub(crate) fn tag(place: u8) -> ShardTag {
    ShardTag(u16::from(place) + 1)
}

/// The place of the shard with this tag.
pub(crate) fn place(tag: ShardTag) -> usize {
    usize::from(tag.0) - 1
}
