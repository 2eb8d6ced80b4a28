//! What goes wrong, and what mends it.

use gavel_protocol::message::FinishKind;
use gavel_protocol::{Gid, Incarnation};

use super::World;
use super::action::{Action, Fault, Repair};
use super::network::Node;
use super::setup::place;
use super::shard::Change;

impl World {
    pub(crate) fn go_wrong(&mut self, fault: Fault) {
        match fault {
            Fault::Drop(message) => {
                self.network.take(message);
            }
            Fault::Duplicate(message) => {
                let copy = self.network[message].clone();
                self.network.add(copy);
            }
            Fault::Delay(message, ms) => self.network[message].not_before = self.now + ms,
            Fault::CrashCoordinator(at) => self.crash_coordinator(at),
            Fault::PauseCoordinator(at) => {
                self.coordinators[at].paused = true;
                self.settle_streams();
            }
            Fault::CrashParticipant(at) => {
                self.crash_participant(at);
                for coordinator in &mut self.coordinators {
                    coordinator.attends.remove(&at);
                }
            }
            Fault::PauseParticipant(at) => self.participants[at].paused = true,
            Fault::CrashShard(at) => self.crash_shard(at),
            Fault::FailOver(at) => self.fail_over(at, 0),
            Fault::LoseData(at, changes) => self.fail_over(at, changes),
            Fault::Restore(at, changes) => self.restore(at, changes),
            Fault::Terminate(at, job) => self.terminate(at, job),
            Fault::CancelWait(at, job) => self.cancel_wait(at, job),
            Fault::Cut(from, to) => {
                self.cuts.insert((from, to));
            }
            Fault::ByHand(at, gid, kind) => self.finish_by_hand(at, &gid, kind),
        }
    }

    pub(crate) fn repair(&mut self, repair: Repair) {
        match repair {
            Repair::RestartCoordinator(at) => self.restart_coordinator(at),
            Repair::ResumeCoordinator(at) => {
                self.coordinators[at].paused = false;
                self.settle_streams();
            }
            Repair::RestartParticipant(at) => {
                self.restart_participant(at);
                self.settle_streams();
            }
            Repair::ResumeParticipant(at) => self.participants[at].paused = false,
            Repair::RestartShard(at) => self.restart_shard(at),
            Repair::Mend(from, to) => {
                self.cuts.remove(&(from, to));
            }
        }
    }

    /// Everything that can be mended now.
    pub(crate) fn repairs(&self, out: &mut Vec<Action>) {
        let mut offer = |repair| out.push(Action::Repair(repair));
        for (at, coordinator) in self.coordinators.iter().enumerate() {
            if !coordinator.up {
                offer(Repair::RestartCoordinator(at));
            } else if coordinator.paused {
                offer(Repair::ResumeCoordinator(at));
            }
        }
        for (at, participant) in self.participants.iter().enumerate() {
            if !participant.up {
                offer(Repair::RestartParticipant(at));
            } else if participant.paused {
                offer(Repair::ResumeParticipant(at));
            }
            if !self.shards[at].up {
                offer(Repair::RestartShard(at));
            }
        }
        for (from, to) in &self.cuts {
            offer(Repair::Mend(*from, *to));
        }
    }

    /// A restore from a backup, as an operator does it: the shard begins a new incarnation, whose
    /// floor is its birth (R13, R14), and its participant is started anew.
    fn restore(&mut self, at: usize, changes: usize) {
        self.observer.restored = true;
        self.fail_over(at, changes);
        let shard = &mut self.shards[at];
        shard.incarnation = Incarnation(shard.incarnation.0 + 1);
        shard.tables.floor_ms = super::ids::EPOCH_MS + self.now;
        self.go_wrong(Fault::CrashParticipant(at));
    }

    fn finish_by_hand(&mut self, at: usize, gid: &Gid, kind: FinishKind) {
        let prepared = self.shards[at].tables.prepared.get(gid).cloned();
        let Some(branch) = prepared else {
            return;
        };
        self.observer.on_harm(Some(gid.batch), &branch.executed);
        let change = match kind {
            FinishKind::Commit => Change::CommitPrepared(gid.clone(), branch),
            FinishKind::Rollback => Change::RollbackPrepared(gid.clone(), branch),
        };
        self.write(at, change);
    }

    /// Whether a message cannot get through now.
    pub(crate) fn is_cut(&self, from: Node, to: Node) -> bool {
        !self.cuts.is_empty() && self.cuts.contains(&(from, to))
    }

    /// A branch of another life of its home, which nobody but an operator can end (R13).
    pub(crate) fn is_orphaned_by_restore(&self, gid: &Gid) -> bool {
        gid.home_incarnation != self.shards[place(gid.home)].incarnation
    }
}
