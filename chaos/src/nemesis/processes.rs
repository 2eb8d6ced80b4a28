//! Faults of Gavel's own processes.

use gavel_devkit::Role;

use super::aim::{nobody, struck};
use super::{Strikes, Struck};
use crate::arena::{COORDINATORS, SHARDS};
use crate::error::ChaosError;
use crate::proxy::{Caught, Step};

impl Strikes {
    pub(super) async fn kill_participant(&mut self, step: Step) -> Result<Struck, ChaosError> {
        let found = self.participant_at(step).await;
        self.kill_one(found, step).await
    }

    pub(super) async fn kill_coordinator(&mut self, step: Step) -> Result<Struck, ChaosError> {
        let found = self.coordinator_at(step).await;
        self.kill_one(found, step).await
    }

    pub(super) async fn pause_participant(&mut self, step: Step) -> Result<Struck, ChaosError> {
        let found = self.participant_at(step).await;
        self.pause_one(found, step).await
    }

    pub(super) async fn pause_coordinator(&mut self, step: Step) -> Result<Struck, ChaosError> {
        let found = self.coordinator_at(step).await;
        self.pause_one(found, step).await
    }

    pub(super) async fn no_coordinator(&mut self, step: Step) -> Result<Struck, ChaosError> {
        let Some(caught) = self.catch(step).await else {
            return Ok(nobody(step));
        };
        let what = struck("all coordinators", &caught);
        let all: Vec<Role> = (0..COORDINATORS).map(Role::Coordinator).collect();
        self.kill(all.clone()).await?;
        let_go(caught);
        tokio::time::sleep(self.a_while(1_000)).await;
        self.restart(all).await?;
        Ok(Ok(what))
    }

    /// The coordinator dies, and those who could resolve cannot reach each other.
    pub(super) async fn cut_recovery(&mut self, step: Step) -> Result<Struck, ChaosError> {
        let Some((caught, coordinator)) = self.catch_driven(step).await else {
            return Ok(nobody(step));
        };
        let what = struck("links between participants", &caught);
        self.kill(vec![Role::Coordinator(coordinator)]).await?;
        let arena = self.arena.clone();
        let between = (0..SHARDS).flat_map(|from| (0..SHARDS).map(move |to| (from, to)));
        let links: Vec<_> = between
            .filter_map(|(from, to)| arena.service(Role::Participant(from), to))
            .collect();
        for link in &links {
            link.gate().take_struck();
            link.gate().sever();
        }
        caught.release();
        tokio::time::sleep(self.a_while(1_500)).await;
        let hits: u64 = links.iter().map(|link| link.gate().take_struck()).sum();
        links.iter().for_each(|link| link.gate().heal());
        self.restart(vec![Role::Coordinator(coordinator)]).await?;
        if hits == 0 {
            return Ok(Err(
                "nobody asked anybody while the links were cut".to_owned()
            ));
        }
        Ok(Ok(what))
    }

    pub(super) async fn kill(&self, roles: Vec<Role>) -> Result<(), ChaosError> {
        let kill =
            move |dev: &gavel_devkit::Dev| roles.iter().try_for_each(|role| Ok(dev.kill(*role)?));
        self.arena.blocking(kill).await
    }

    pub(super) async fn restart(&self, roles: Vec<Role>) -> Result<(), ChaosError> {
        let restart = move |dev: &gavel_devkit::Dev| {
            roles.iter().try_for_each(|role| Ok(dev.restart(*role)?))
        };
        self.arena.blocking(restart).await
    }

    async fn participant_at(&self, step: Step) -> Option<Found> {
        let caught = self.catch(step).await?;
        let shard = caught.passage.shard;
        let name = format!("participant of {}", self.arena.shard(shard));
        Some(Found {
            role: Role::Participant(shard),
            what: struck(&name, &caught),
            caught,
        })
    }

    async fn coordinator_at(&self, step: Step) -> Option<Found> {
        let (caught, coordinator) = self.catch_driven(step).await?;
        let name = format!("coordinator {}", coordinator + 1);
        Some(Found {
            role: Role::Coordinator(coordinator),
            what: struck(&name, &caught),
            caught,
        })
    }

    /// Kills a process, and starts it again.
    async fn kill_one(&self, found: Option<Found>, step: Step) -> Result<Struck, ChaosError> {
        let Some(Found { role, what, caught }) = found else {
            return Ok(nobody(step));
        };
        self.kill(vec![role]).await?;
        let_go(caught);
        self.restart(vec![role]).await?;
        Ok(Ok(what))
    }

    /// Freezes a process, lets the message go, and resumes the process after a while.
    async fn pause_one(&self, found: Option<Found>, step: Step) -> Result<Struck, ChaosError> {
        let Some(Found { role, what, caught }) = found else {
            return Ok(nobody(step));
        };
        self.arena.blocking(move |dev| Ok(dev.pause(role)?)).await?;
        caught.release();
        tokio::time::sleep(self.a_while(500)).await;
        self.arena
            .blocking(move |dev| Ok(dev.resume(role)?))
            .await?;
        Ok(Ok(what))
    }
}

/// A process that has a transaction at the wanted step in its hands.
struct Found {
    role: Role,
    what: String,
    caught: Caught,
}

/// What was on its way when its process died arrives, or does not.
fn let_go(caught: Caught) {
    if rand::random() {
        caught.release();
    } else {
        caught.cut();
    }
}
