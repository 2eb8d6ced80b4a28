//! What can happen next, faults apart.

use gavel_protocol::Gid;
use gavel_protocol::branch::{DriverSeen, State};

use super::World;
use super::action::Action;
use super::client::ClientMove;
use super::coordinator::Coordinator;
use super::hole::Hole;
use super::network::{Asker, Body, Key, Message, Node};
use super::participant::job::{Job, Work};

impl World {
    /// Every plain move, in an order that depends on this world alone.
    pub(crate) fn moves(&self, out: &mut Vec<Action>) {
        self.messages(out);
        for at in 0..self.shards.len() {
            self.jobs(at, out);
            self.scans(at, out);
        }
        for at in 0..self.coordinators.len() {
            let coordinator = &self.coordinators[at];
            if self.setup.timers.is_some() {
                self.stream_moves(at, out);
            }
            if coordinator.runs() {
                self.give_ups(at, coordinator, out);
            }
        }
        for at in 0..self.clients.len() {
            self.offers_to_client(at, out);
        }
        if self.setup.timers.is_some() {
            let homes = (0..self.shards.len()).filter(|at| self.retention_is_due(*at));
            out.extend(homes.map(Action::Retain));
        }
    }

    fn messages(&self, out: &mut Vec<Action>) {
        for (at, message) in self.network.iter().enumerate() {
            if self.is_deliverable(message) {
                out.push(Action::Deliver(at));
            }
        }
    }

    fn is_deliverable(&self, message: &Message) -> bool {
        let listens = match message.to {
            Node::Client(_) => true,
            // What is sent to a process that is down comes back as refused, or is lost.
            Node::Coordinator(at) => !self.coordinators[usize::from(at)].paused,
            Node::Participant(at) => !self.participants[usize::from(at)].paused,
        };
        listens && message.not_before <= self.now && !self.is_cut(message.from, message.to)
    }

    fn jobs(&self, at: usize, out: &mut Vec<Action>) {
        let shard = &self.shards[at];
        for place in 0..shard.jobs.len() {
            if self.job_can_step(at, place) {
                out.push(Action::Step(at, place));
            } else if self.session_is_forgotten(at, place) {
                out.push(Action::Expire(at, place));
            } else if self.lock_timeout_is_due(at, place) {
                out.push(Action::LockTimeout(at, place));
            }
        }
        if shard.up && !shard.is_replicated() {
            out.push(Action::Replicate(at));
        }
    }

    fn lock_timeout_is_due(&self, at: usize, place: usize) -> bool {
        let job = &self.shards[at].jobs[place];
        let late = match &self.setup.timers {
            Some(timers) => self.now >= job.since + timers.lock_ms,
            // Asking again and again would never end.
            None => !matches!(job.work, Work::Resolve { .. }),
        };
        !job.waits && late && self.is_blocked(at, place)
    }

    fn scans(&self, at: usize, out: &mut Vec<Action>) {
        let participant = &self.participants[at];
        if !participant.runs() {
            return;
        }
        let scan_is_due = match &self.setup.timers {
            Some(_) => self.now >= participant.next_scan,
            None => self.scan_matters(at),
        };
        if scan_is_due {
            out.push(Action::Scan(at));
        }
        for (gid, tracked) in &participant.branches {
            if self.retry_is_due(at, gid, tracked) {
                out.push(Action::Retry(at, gid.clone()));
            }
            let is_asking = matches!(tracked.branch.state(), State::Asking { .. });
            let gives_up = match &self.setup.timers {
                Some(timers) => self.now >= tracked.asked_at + timers.finish_ms,
                None => !self.is_carried(
                    |asker| matches!(asker, Asker::Scan { gid: asked, .. } if asked == gid),
                ),
            };
            if is_asking && gives_up {
                out.push(Action::ScanGivesUp(at, gid.clone()));
            }
            // Time makes it suspicious sooner or later.
            let is_watched = matches!(tracked.branch.state(), State::Watched(_));
            if self.setup.timers.is_none() && is_watched && !self.is_driven(at, gid) {
                out.push(Action::Suspect(at, gid.clone()));
            }
        }
    }

    /// Whether a driver attends that still has the batch of this branch in its hands.
    pub(crate) fn is_driven(&self, at: usize, gid: &Gid) -> bool {
        let mut coordinators = self.coordinators.iter();
        self.participants[at].driver_of(gid) == DriverSeen::Attending
            && coordinators.any(|coordinator| coordinator.runs.contains_key(&gid.batch))
    }

    /// Whether a message or a job still carries the question of this asker, or its answer.
    pub(crate) fn is_carried(&self, is_asker: impl Fn(&Asker) -> bool) -> bool {
        let messages = self.network.iter().any(|message| match &message.body {
            Body::Ask { asker, .. } | Body::Reply { asker, .. } => is_asker(asker),
            _ => false,
        });
        let mut jobs = self.shards.iter().flat_map(|shard| shard.jobs.iter());
        let owes_an_answer = |job: &Job| !job.is_orphan && job.open_session().is_none();
        messages || jobs.any(|job: &Job| owes_an_answer(job) && is_asker(&job.asker))
    }

    /// Streams that end, because a participant notices that nobody is there, or begin.
    pub(crate) fn stream_moves(&self, at: usize, out: &mut Vec<Action>) {
        let coordinator = &self.coordinators[at];
        for shard in 0..self.shards.len() {
            let participant = &self.participants[shard];
            let attends = coordinator.attends.contains(&shard);
            let can_be_seen = coordinator.runs() && !self.link_is_cut(at, shard);
            if attends && !can_be_seen && participant.runs() {
                out.push(Action::CloseStream(at, shard));
            } else if !attends && can_be_seen && participant.runs() {
                out.push(Action::Attend(at, shard));
            }
        }
    }

    fn link_is_cut(&self, coordinator: usize, shard: usize) -> bool {
        let coordinator = Node::Coordinator(u8::try_from(coordinator).expect("few"));
        let participant = Node::Participant(u8::try_from(shard).expect("few"));
        self.is_cut(coordinator, participant) || self.is_cut(participant, coordinator)
    }

    fn give_ups(&self, at: usize, coordinator: &Coordinator, out: &mut Vec<Action>) {
        for (batch, run) in &coordinator.runs {
            for (key, since) in &run.pending {
                let due = match &self.setup.timers {
                    Some(timers) => {
                        let patience = match key {
                            Key::Prepare(_) | Key::WorkFirst | Key::HeadStart | Key::Decide => {
                                timers.answer_ms
                            }
                            _ => timers.finish_ms,
                        };
                        self.now >= since + patience
                    }
                    None => !self.is_carried(|asker| {
                        matches!(asker, Asker::Batch { batch: asked, key: asked_key, .. }
                            if asked == batch && asked_key == key)
                    }),
                };
                if due {
                    out.push(Action::GiveUp(at, *batch, *key));
                }
            }
        }
        let Some(timers) = &self.setup.timers else {
            return;
        };
        for (txid, ticket) in &coordinator.tickets {
            if ticket.has_waiters() && self.now >= ticket.since + timers.client_ms {
                out.push(Action::LosePatience(at, *txid));
            }
        }
    }

    fn offers_to_client(&self, at: usize, out: &mut Vec<Action>) {
        let client = &self.clients[at];
        let mut offer = |chosen| out.push(Action::Client(at, chosen));
        let Some(current) = &client.current else {
            if client.has_more() {
                offer(ClientMove::Begin);
            }
            return;
        };
        let waited = match &self.setup.timers {
            Some(timers) => self.now >= current.since + timers.client_ms,
            None => false,
        };
        let may_ask =
            !current.submitted || waited || (current.waits_for == 0 && self.setup.timers.is_some());
        if !may_ask {
            return;
        }
        let up = self.coordinators.iter().enumerate();
        for (to, _) in up.filter(|(_, coordinator)| coordinator.up) {
            let to = u8::try_from(to).expect("few coordinators");
            offer(ClientMove::Submit { to });
            if self.setup.timers.is_some() && current.is_in_doubt {
                offer(ClientMove::AskStatus { to });
                offer(ClientMove::AbortForGood { to });
            }
        }
    }

    fn retention_is_due(&self, at: usize) -> bool {
        let Some(timers) = &self.setup.timers else {
            return false;
        };
        let shard = &self.shards[at];
        let tables = &shard.tables;
        let wanted = super::ids::EPOCH_MS + self.now.saturating_sub(timers.retention_ms);
        let moves = tables.dropped_ms < tables.verified_ms
            || tables.verified_ms < tables.floor_ms
            || tables.floor_ms + timers.retention_ms / 4 < wanted;
        let is_time = self.now > tables.retained_at + timers.scan_ms;
        shard.up && self.now > timers.retention_ms && is_time && moves
    }

    /// Nothing is under way, and nothing of ours is prepared but what only an operator can end.
    pub(crate) fn is_at_rest(&self) -> bool {
        let is_vain = |asker: &Asker| matches!(asker, Asker::Scan { gid, .. } if self.is_orphaned_by_restore(gid));
        let messages_done = self.network.iter().all(|message| match &message.body {
            Body::Ask { asker, .. } | Body::Reply { asker, .. } => is_vain(asker),
            _ => false,
        });
        messages_done
            && self
                .clients
                .iter()
                .all(|client| client.is_done() || self.setup.timers.is_none())
            && self.coordinators.iter().all(Coordinator::is_idle)
            && self.shards.iter().all(|shard| {
                let mut gids = shard.tables.prepared.keys();
                shard.jobs.iter().all(|job| is_vain(&job.asker))
                    && shard.is_replicated()
                    && gids.all(|gid| self.is_orphaned_by_restore(gid))
            })
            && (self.setup.has(Hole::NobodyScans) || self.tracks_nothing())
    }

    fn tracks_nothing(&self) -> bool {
        let mut tracked = self
            .participants
            .iter()
            .flat_map(|each| each.branches.keys());
        tracked.all(|gid| self.is_orphaned_by_restore(gid))
    }
}
