//! What breaks things, and when.
//!
//! # Purpose
//! A nemesis strikes one transaction at one step, with one fault, and then heals what it broke. The
//! step is not left to luck: a message of the transaction is caught on the wire, the fault is made
//! while it is held, and only then counts as a hit.
//!
//! # Invariants
//! * A blow that did not find its transaction is a miss and says so. A run whose nemesis never hit
//!   has not been run.
//! * After a blow the deployment is as it was, apart from what the fault itself has left behind.

mod aim;
mod clock;
mod failover;
mod needs;
mod people;
mod processes;
mod reach;
mod resources;
mod servers;
mod table;
mod wires;

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use serde::Serialize;
use tokio::task::JoinSet;

use crate::arena::Arena;
use crate::error::ChaosError;
use crate::proxy::Step;
use crate::verify::Seen;

pub use reach::Reach;
pub use table::{ALL, Kind, Nemesis, by_name, usual};

use aim::Aim;
use table::Deed;

/// One blow.
#[derive(Debug, Clone, Serialize)]
pub struct Blow {
    /// Whose.
    pub nemesis: &'static str,
    /// Where it was meant to strike.
    pub step: Step,
    /// Whether it did.
    pub hit: bool,
    /// What it struck, or why it did not.
    pub target: String,
    /// Begin, in milliseconds since the history began.
    pub from_ms: u64,
    /// When it had found its transaction; nothing is touched before.
    pub struck_ms: u64,
    /// When it was healed.
    pub until_ms: u64,
    /// Whom it can have touched.
    pub reach: Reach,
}

/// Where blows are struck.
pub struct Strikes {
    arena: Arc<Arena>,
    /// Faults that last longer than their blow.
    background: JoinSet<()>,
    /// How long a fault may last.
    patience: Duration,
    /// What nemeses have judged themselves.
    seen: Seen,
    aim: Mutex<Aim>,
}

/// What came of a blow: what it struck, or why it struck nothing.
type Struck = Result<String, String>;

impl Strikes {
    /// `patience` is how long a fault may last.
    #[must_use]
    pub fn new(arena: &Arc<Arena>, patience: Duration) -> Self {
        Self {
            arena: Arc::clone(arena),
            background: JoinSet::new(),
            patience,
            seen: Seen::default(),
            aim: Mutex::default(),
        }
    }

    /// Strikes once.
    ///
    /// # Errors
    /// The deployment does what no fault explains, such as not coming back.
    pub async fn strike(&mut self, nemesis: Nemesis, step: Step) -> Result<Blow, ChaosError> {
        let began = self.arena.recorder.began();
        let from = began.elapsed();
        *self.aim.lock() = Aim::default();
        let struck = self.perform(nemesis.deed, step).await?;
        let aim = std::mem::take(&mut *self.aim.lock());
        let hit = struck.is_ok();
        let (Ok(target) | Err(target)) = struck;
        Ok(Blow {
            nemesis: nemesis.name,
            step,
            hit,
            target,
            from_ms: millis(from),
            struck_ms: millis(aim.since.unwrap_or(from)),
            until_ms: millis(began.elapsed()),
            reach: nemesis.deed.reach(&aim.targets),
        })
    }

    /// Waits until no fault of an earlier blow lasts; gives what nemeses have judged themselves.
    pub async fn settle(mut self) -> Seen {
        while self.background.join_next().await.is_some() {}
        self.seen
    }

    async fn perform(&mut self, deed: Deed, step: Step) -> Result<Struck, ChaosError> {
        match deed {
            Deed::KillParticipant => self.kill_participant(step).await,
            Deed::KillCoordinator => self.kill_coordinator(step).await,
            Deed::NoCoordinator => self.no_coordinator(step).await,
            Deed::PauseParticipant => self.pause_participant(step).await,
            Deed::PauseCoordinator => self.pause_coordinator(step).await,
            Deed::KillPostgres => self.kill_postgres(step).await,
            Deed::StopPostgres => self.stop_postgres(step).await,
            Deed::PausePostgres => self.pause_postgres(step).await,
            Deed::KillBackend => self.kill_backend(step).await,
            Deed::TerminateBackend => self.terminate_backend(step).await,
            Deed::Cut => self.cut(step).await,
            Deed::LoseTransaction => self.lose_transaction(step).await,
            Deed::Delay => self.delay(step).await,
            Deed::Zombie => self.zombie(step).await,
            Deed::Duplicate => self.duplicate(step).await,
            Deed::CutLink => self.cut_link(step).await,
            Deed::OneWay => self.one_way(step).await,
            Deed::HalfOpen => self.half_open(step).await,
            Deed::CutDatabase => self.cut_database(step).await,
            Deed::CutClients => self.cut_clients(step).await,
            Deed::CutRecovery => self.cut_recovery(step).await,
            Deed::ByHand => self.by_hand(step).await,
            Deed::NoSlots => self.no_slots(step).await,
            Deed::FewDescriptors => self.few_descriptors(step).await,
            Deed::Clock => self.clock(step).await,
            Deed::DiskFull => self.disk_full(step).await,
            Deed::FailOver => self.fail_over(step).await,
        }
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
