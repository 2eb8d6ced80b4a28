//! Finding a transaction at a step.

use std::time::Duration;

use gavel_protocol::Txid;
use rand::Rng;

use super::reach::Target;
use super::{Strikes, Struck};
use crate::arena::coordinator_of;
use crate::proxy::{Caught, Passage, Step, catch_any};

/// What the blow that is being struck has taken aim at, and since when.
#[derive(Debug, Default)]
pub(super) struct Aim {
    pub(super) since: Option<Duration>,
    pub(super) targets: Vec<Target>,
}

/// Long enough for one to come by even while the deployment recovers from the blow before.
const CATCH_LIMIT: Duration = Duration::from_secs(6);

impl Strikes {
    /// A transaction at this step, seldom one that home has to itself: there is less to break.
    pub(super) async fn catch(&self, step: Step) -> Option<Caught> {
        let also_local = rand::rng().random_ratio(1, 6);
        self.catch_where(step, move |passage| also_local || !passage.is_local())
            .await
    }

    /// A transaction at this step that `wants` accepts.
    pub(super) async fn catch_where(
        &self,
        step: Step,
        wants: impl Fn(&Passage) -> bool + Send + Sync + 'static,
    ) -> Option<Caught> {
        self.catch_from(step, wants).await
    }

    /// A transaction at this step that one known coordinator drives, and which that is.
    pub(super) async fn catch_driven(&self, step: Step) -> Option<(Caught, usize)> {
        let (witness, routes) = (self.arena.witness.clone(), self.arena.routes.clone());
        let is_driven =
            move |passage: &Passage| coordinator_of(&witness, &routes, &passage.batch).is_some();
        let caught = self.catch_from(step, is_driven).await?;
        let coordinator = self.arena.coordinator_of(&caught.passage.batch)?;
        Some((caught, coordinator))
    }

    /// As [`Strikes::catch_driven`], by one coordinator.
    pub(super) async fn catch_driven_by(&self, coordinator: usize, step: Step) -> Option<Caught> {
        let (witness, routes) = (self.arena.witness.clone(), self.arena.routes.clone());
        let is_driven = move |passage: &Passage| {
            coordinator_of(&witness, &routes, &passage.batch) == Some(coordinator)
        };
        self.catch_from(step, is_driven).await
    }

    /// A transaction of one's own at this step, on its way to a commit.
    pub(super) async fn catch_own(&self, txid: Txid, step: Step) -> Option<Caught> {
        let witness = self.arena.witness.clone();
        let is_own = move |passage: &Passage| {
            let named = passage.txids.contains(&txid);
            !passage.is_rollback() && (named || witness.txids(&passage.batch).contains(&txid))
        };
        self.catch_from(step, is_own).await
    }

    /// All that is caught is caught here. The streams that show what a fault does not touch are left
    /// alone, and what has been caught is known to be touched.
    async fn catch_from(
        &self,
        step: Step,
        wants: impl Fn(&Passage) -> bool + Send + Sync + 'static,
    ) -> Option<Caught> {
        let witness = self.arena.witness.clone();
        let wants = move |passage: &Passage| !witness.is_beat(&passage.batch) && wants(passage);
        let caught = catch_any(self.arena.servers(), step, CATCH_LIMIT, wants).await?;
        self.aimed_at(Target {
            shard: Some(caught.passage.shard),
            coordinator: self.arena.coordinator_of(&caught.passage.batch),
        });
        Some(caught)
    }

    /// From now on this may be touched.
    pub(super) fn aimed_at(&self, target: Target) {
        let now = self.arena.recorder.began().elapsed();
        let mut aim = self.aim.lock();
        aim.since.get_or_insert(now);
        aim.targets.push(target);
    }

    /// As [`Strikes::aimed_at`], where nothing was caught.
    pub(super) fn aimed_at_coordinator(&self, coordinator: usize) {
        self.aimed_at(Target {
            shard: None,
            coordinator: Some(coordinator),
        });
    }

    /// Some time, at most as long as a fault may last.
    pub(super) fn a_while(&self, shortest_ms: u64) -> Duration {
        let longest = self.patience.max(Duration::from_millis(shortest_ms));
        let longest_ms = u64::try_from(longest.as_millis()).unwrap_or(u64::MAX);
        Duration::from_millis(rand::rng().random_range(shortest_ms..=longest_ms))
    }
}

/// What a blow says that found nobody.
pub(super) fn nobody(step: Step) -> Struck {
    Err(format!("no transaction came to {step} in time"))
}

/// What a blow says that found one.
pub(super) fn struck(what: &str, caught: &Caught) -> String {
    format!("{what}, batch {} at {}", caught.passage.batch, caught.step)
}
