//! Faults of the wires between the processes.

use std::time::Duration;

use gavel_devkit::Role;
use rand::Rng;

use super::aim::{nobody, struck};
use super::{Strikes, Struck};
use crate::arena::COORDINATORS;
use crate::error::ChaosError;
use crate::proxy::{Direction, Gate, Step, run_again};

/// How long a blocked wire may take to have something to hold.
const HELD_LIMIT: Duration = Duration::from_secs(5);
const LOOK_EVERY: Duration = Duration::from_millis(5);

impl Strikes {
    pub(super) async fn cut(&mut self, step: Step) -> Result<Struck, ChaosError> {
        let Some(caught) = self.catch(step).await else {
            return Ok(nobody(step));
        };
        let what = self.name(&caught);
        caught.cut();
        Ok(Ok(what))
    }

    /// As behind a pooler that has silently connected again: the session goes on, and what it was in
    /// the middle of is gone. PREPARE and COMMIT are no errors then; only tag and warning tell.
    pub(super) async fn lose_transaction(&mut self, step: Step) -> Result<Struck, ChaosError> {
        let Some(caught) = self.catch(step).await else {
            return Ok(nobody(step));
        };
        let what = self.name(&caught);
        caught.lose_transaction();
        Ok(Ok(what))
    }

    pub(super) async fn delay(&mut self, step: Step) -> Result<Struck, ChaosError> {
        let Some(caught) = self.catch(step).await else {
            return Ok(nobody(step));
        };
        let what = self.name(&caught);
        tokio::time::sleep(self.a_while(200)).await;
        caught.release();
        Ok(Ok(what))
    }

    /// The message arrives long after its sender has given up.
    pub(super) async fn zombie(&mut self, step: Step) -> Result<Struck, ChaosError> {
        let Some(caught) = self.catch(step).await else {
            return Ok(nobody(step));
        };
        let what = self.name(&caught);
        caught.sever_sender();
        let wait = self.a_while(2_000);
        self.background.spawn(async move {
            tokio::time::sleep(wait).await;
            caught.release();
        });
        Ok(Ok(format!(
            "{what}, delivered after {:.1} s",
            wait.as_secs_f32()
        )))
    }

    /// Runs everything that the transaction has said so far on another connection, while the
    /// original waits, or instead of it.
    pub(super) async fn duplicate(&mut self, step: Step) -> Result<Struck, ChaosError> {
        let Some(caught) = self.catch(step).await else {
            return Ok(nobody(step));
        };
        let what = self.name(&caught);
        let (arena, passage) = (self.arena.clone(), caught.passage.clone());
        // What is run here passes no proxy.
        arena.witness.forwarded(&passage);
        let instead = rand::random();
        if instead {
            caught.cut();
        } else {
            caught.release();
        }
        let url = arena.database_url(passage.shard);
        self.background.spawn(async move {
            // Refused by the branch row, the register or the gid that is gone; or, if the original
            // was lost, executed in its place. The books tell which of them was wrong.
            let _either = run_again(&url, &passage.calls).await;
        });
        let how = if instead { "in its place" } else { "beside it" };
        Ok(Ok(format!("{what}, run {how}")))
    }

    pub(super) async fn cut_link(&mut self, step: Step) -> Result<Struck, ChaosError> {
        self.break_link(step, "link to", Gate::sever).await
    }

    pub(super) async fn one_way(&mut self, step: Step) -> Result<Struck, ChaosError> {
        let (what, direction) = if rand::random() {
            ("requests to", Direction::Forth)
        } else {
            ("answers of", Direction::Back)
        };
        self.break_link(step, what, move |gate| gate.block(direction))
            .await
    }

    pub(super) async fn half_open(&mut self, step: Step) -> Result<Struck, ChaosError> {
        self.break_link(step, "half-open link to", Gate::half_open)
            .await
    }

    /// Breaks the link between the transaction's coordinator and the shard that it is at.
    async fn break_link(
        &mut self,
        step: Step,
        what: &str,
        do_break: impl Fn(&Gate),
    ) -> Result<Struck, ChaosError> {
        let Some((caught, coordinator)) = self.catch_driven(step).await else {
            return Ok(nobody(step));
        };
        let shard = caught.passage.shard;
        let name = self.arena.shard(shard);
        let what = struck(
            &format!("{what} {name} from coordinator {}", coordinator + 1),
            &caught,
        );
        let arena = self.arena.clone();
        let Some(link) = arena.service(Role::Coordinator(coordinator), shard) else {
            return Ok(Err("there is no such link".to_owned()));
        };
        link.gate().take_struck();
        do_break(link.gate());
        caught.release();
        tokio::time::sleep(self.a_while(500)).await;
        let hits = link.gate().take_struck();
        link.gate().heal();
        if hits == 0 {
            return Ok(Err("nothing was on the link while it was broken".to_owned()));
        }
        Ok(Ok(what))
    }

    pub(super) async fn cut_database(&mut self, step: Step) -> Result<Struck, ChaosError> {
        let Some(caught) = self.catch(step).await else {
            return Ok(nobody(step));
        };
        let what = self.name(&caught);
        let arena = self.arena.clone();
        let gate = arena.servers()[caught.passage.shard].gate();
        gate.sever();
        drop(caught);
        tokio::time::sleep(self.a_while(500)).await;
        gate.heal();
        Ok(Ok(what))
    }

    pub(super) async fn cut_clients(&mut self, step: Step) -> Result<Struck, ChaosError> {
        let coordinator = rand::rng().random_range(0..COORDINATORS);
        self.aimed_at_coordinator(coordinator);
        let arena = self.arena.clone();
        let gate = arena.front(coordinator).gate();
        gate.take_struck();
        let mut batch = String::new();
        if step == Step::Submit {
            gate.block(Direction::Forth);
        } else {
            // Its outcome is decided here, so the answer that is held is not a mere refusal.
            let Some(caught) = self.catch_driven_by(coordinator, Step::Decided).await else {
                return Ok(nobody(Step::Decided));
            };
            gate.block(Direction::Back);
            batch = format!(", batch {}", caught.passage.batch);
            caught.release();
        }
        let held = async {
            while gate.take_struck() == 0 {
                tokio::time::sleep(LOOK_EVERY).await;
            }
        };
        let held = tokio::time::timeout(HELD_LIMIT, held).await.is_ok();
        gate.cut();
        gate.heal();
        if !held {
            return Ok(Err(
                "nothing was on the link while it was blocked".to_owned()
            ));
        }
        Ok(Ok(format!(
            "clients of coordinator {}{batch} at {step}",
            coordinator + 1
        )))
    }
}
