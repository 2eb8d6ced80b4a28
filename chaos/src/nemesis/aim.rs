//! Finding a transaction at a step.

use std::time::Duration;

use gavel_protocol::Txid;
use rand::Rng;

use super::{Strikes, Struck};
use crate::arena::coordinator_of;
use crate::proxy::{Caught, Passage, Step, catch_any};

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
        catch_any(self.arena.servers(), step, CATCH_LIMIT, wants).await
    }

    /// A transaction at this step that one known coordinator drives, and which that is.
    pub(super) async fn catch_driven(&self, step: Step) -> Option<(Caught, usize)> {
        let (witness, routes) = (self.arena.witness.clone(), self.arena.routes.clone());
        let is_driven =
            move |passage: &Passage| coordinator_of(&witness, &routes, &passage.batch).is_some();
        let caught = catch_any(self.arena.servers(), step, CATCH_LIMIT, is_driven).await?;
        let coordinator = self.arena.coordinator_of(&caught.passage.batch)?;
        Some((caught, coordinator))
    }

    /// As [`Strikes::catch_driven`], by one coordinator.
    pub(super) async fn catch_driven_by(&self, coordinator: usize, step: Step) -> Option<Caught> {
        let (witness, routes) = (self.arena.witness.clone(), self.arena.routes.clone());
        let is_driven = move |passage: &Passage| {
            coordinator_of(&witness, &routes, &passage.batch) == Some(coordinator)
        };
        catch_any(self.arena.servers(), step, CATCH_LIMIT, is_driven).await
    }

    /// A transaction of one's own at this step, on its way to a commit.
    pub(super) async fn catch_own(&self, txid: Txid, step: Step) -> Option<Caught> {
        let witness = self.arena.witness.clone();
        let is_own = move |passage: &Passage| {
            let named = passage.txids.contains(&txid);
            !passage.is_rollback() && (named || witness.txids(&passage.batch).contains(&txid))
        };
        catch_any(self.arena.servers(), step, CATCH_LIMIT, is_own).await
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
