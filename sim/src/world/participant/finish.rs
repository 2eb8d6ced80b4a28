//! COMMIT PREPARED and ROLLBACK PREPARED; `participant/src/finish.rs`.

use gavel_protocol::Gid;
use gavel_protocol::message::{FinishKind, Finished};
use gavel_protocol::recovery::DamageKind;

use super::job::{FinishPhase, Work};
use super::prepare::NOBODY;
use super::steps::Then;
use crate::world::World;
use crate::world::hole::Hole;
use crate::world::network::{Reply, cut};
use crate::world::shard::Change;

impl World {
    pub(crate) fn step_finish(
        &mut self,
        at: usize,
        gid: Gid,
        kind: FinishKind,
        phase: FinishPhase,
    ) -> Then {
        match phase {
            FinishPhase::Executing => self.execute_finish(at, gid, kind),
            FinishPhase::Answering => self.finished(at, &gid, kind),
            FinishPhase::Explaining => {
                let finished = self.explain_missing(at, &gid, kind);
                Then::Answer(Reply::Finished(finished))
            }
        }
    }

    fn execute_finish(&mut self, at: usize, gid: Gid, kind: FinishKind) -> Then {
        let shard = &self.shards[at];
        let Some(branch) = shard.tables.prepared.get(&gid).cloned() else {
            if self.setup.has(Hole::MissingIsDone) {
                return self.finished(at, &gid, kind);
            }
            // The barriers around the look at the branch row.
            let waits = !shard.is_replicated();
            let phase = FinishPhase::Explaining;
            return Then::Next {
                work: Work::Finish { gid, kind, phase },
                waits,
            };
        };
        if shard.is_busy(&gid, NOBODY) {
            return Then::Answer(Reply::Finished(Finished::Busy));
        }
        self.observe_finish(at, &gid, kind);
        let change = match kind {
            FinishKind::Commit => Change::CommitPrepared(gid.clone(), branch),
            FinishKind::Rollback => Change::RollbackPrepared(gid.clone(), branch),
        };
        if !self.write(at, change) {
            return self.finished(at, &gid, kind);
        }
        let phase = FinishPhase::Answering;
        Then::Next {
            work: Work::Finish { gid, kind, phase },
            waits: true,
        }
    }

    fn finished(&mut self, at: usize, gid: &Gid, kind: FinishKind) -> Then {
        self.observe_done(at, gid, kind);
        self.let_go(at, gid, kind);
        Then::Answer(Reply::Finished(Finished::Done))
    }

    /// What was rolled back stays in the book of drivers: a late PREPARE is nobody's.
    fn let_go(&mut self, at: usize, gid: &Gid, kind: FinishKind) {
        let participant = &mut self.participants[at];
        participant.notes.remove(gid);
        if kind == FinishKind::Rollback {
            participant.over.insert(gid.batch);
        }
    }

    /// R1: the branch row tells "applied before" from "never was".
    fn explain_missing(&mut self, at: usize, gid: &Gid, kind: FinishKind) -> Finished {
        let shard = &mut self.shards[at];
        let is_applied = shard.tables.branches.contains_key(&gid.batch);
        let damage = match (kind, is_applied) {
            (FinishKind::Commit, true) | (FinishKind::Rollback, false) => {
                self.let_go(at, gid, kind);
                return Finished::Done;
            }
            (FinishKind::Commit, false) => DamageKind::LostBranch,
            (FinishKind::Rollback, true) => DamageKind::AppliedButAborted,
        };
        shard.damage.insert((gid.batch, damage));
        Finished::Damaged { detail: cut() }
    }
}
