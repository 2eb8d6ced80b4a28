//! Processes whose clock is wrong.
//!
//! The wall clock only: the monotonic one, by which they wait, is as it should be on any machine.

use std::path::Path;
use std::time::Duration;

use gavel_devkit::Role;

use super::aim::{nobody, struck};
use super::needs::{faketime_library, has_loaded};
use super::{Strikes, Struck};
use crate::error::ChaosError;
use crate::proxy::{Caught, Step};

const READY_LIMIT: Duration = Duration::from_secs(60);

impl Strikes {
    pub(super) async fn clock(&mut self, step: Step) -> Result<Struck, ChaosError> {
        let Some(library) = faketime_library() else {
            return Ok(Err("libfaketime is gone".to_owned()));
        };
        let Some((caught, coordinator)) = self.catch_driven(step).await else {
            return Ok(nobody(step));
        };
        let role = if rand::random() {
            Role::Coordinator(coordinator)
        } else {
            Role::Participant(caught.passage.shard)
        };
        let offset = if rand::random() { "+1h" } else { "-1h" };
        self.kill(vec![role]).await?;
        drop(caught);
        let turned = self.live_with(role, offset, &library).await?;
        let next = self.catch_through(role, offset, step).await;
        let what = next
            .as_ref()
            .map(|caught| struck(&format!("{role:?} with its clock {offset}"), caught));
        drop(next);
        tokio::time::sleep(self.a_while(500)).await;
        self.restart(vec![role]).await?;
        Ok(match what {
            Some(what) if turned => Ok(what),
            Some(_) => Err(format!("the clock of {role:?} was not turned")),
            None => nobody(step),
        })
    }

    /// Starts a process with its clock turned; says whether it is.
    async fn live_with(
        &self,
        role: Role,
        offset: &'static str,
        library: &Path,
    ) -> Result<bool, ChaosError> {
        let library = library.to_owned();
        self.arena
            .blocking(move |dev| {
                let preload = library.display().to_string();
                let env = [
                    ("LD_PRELOAD", preload.as_str()),
                    ("FAKETIME", offset),
                    ("DONT_FAKE_MONOTONIC", "1"),
                    ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
                ];
                let env = env.map(|(name, value)| (name.to_owned(), value.to_owned()));
                dev.spawn(role, &env)?;
                dev.wait_ready(READY_LIMIT)?;
                Ok(dev.pid(role).is_some_and(|pid| has_loaded(pid, &library)))
            })
            .await
    }

    /// A transaction that the process has a part in. A coordinator that lives an hour ago takes
    /// no transactions, because their ids are from its future; then anybody's will do.
    async fn catch_through(&self, role: Role, offset: &str, step: Step) -> Option<Caught> {
        match role {
            Role::Coordinator(index) if offset == "+1h" => self.catch_driven_by(index, step).await,
            Role::Coordinator(_) => self.catch(step).await,
            Role::Participant(shard) => {
                self.catch_where(step, move |passage| passage.shard == shard)
                    .await
            }
        }
    }
}
