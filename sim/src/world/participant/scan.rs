//! The scan for in-doubt branches; `participant/src/scan/`. It runs the real branch machine.

use gavel_protocol::Gid;
use gavel_protocol::branch::{Branch, Effect, Event, State, Step};
use gavel_protocol::message::{Finish, FinishKind};

use super::Tracked;
use super::job::Job;
use crate::world::World;
use crate::world::hole::Hole;
use crate::world::network::{Asker, Question, Reply};
use crate::world::setup::place;

/// By the database's clock a branch is in doubt when it is this many times `in_doubt_after` old.
const OLD_BY_DATABASE: u64 = 10;

impl World {
    /// Reads `pg_prepared_xacts` and tells every branch what was seen of it.
    pub(crate) fn scan(&mut self, at: usize) {
        if let Some(timers) = &self.setup.timers {
            self.participants[at].next_scan = self.now + timers.scan_ms;
        }
        self.sweep_sessions(at);
        if self.setup.has(Hole::NobodyScans) || !self.shards[at].up {
            return;
        }
        if self.setup.has(Hole::TouchesForeign) {
            self.shards[at].foreign = false;
        }
        let found: Vec<Gid> = self.shards[at].tables.prepared.keys().cloned().collect();
        let participant = &self.participants[at];
        let gone = participant
            .branches
            .keys()
            .filter(|gid| !found.contains(gid));
        for gid in gone.cloned().collect::<Vec<_>>() {
            self.feed_branch(at, &gid, Event::Gone);
        }
        for gid in found {
            self.see(at, gid);
        }
    }

    fn see(&mut self, at: usize, gid: Gid) {
        let (now, shard) = (self.now, self.shards[at].tag);
        let participant = &mut self.participants[at];
        let driver = match self.setup.has(Hole::NobodyAttends) {
            true => gavel_protocol::branch::DriverSeen::Closed,
            false => participant.driver_of(&gid),
        };
        let new = || Tracked {
            branch: Branch::new(shard),
            first_seen: now,
            retry_at: 0,
            asked_at: 0,
        };
        let tracked = participant.branches.entry(gid.clone()).or_insert_with(new);
        let seen_for = now - tracked.first_seen;
        self.feed_branch(at, &gid, Event::Seen(driver));
        let Some(timers) = &self.setup.timers else {
            return;
        };
        let in_doubt_after = timers.in_doubt_after_ms;
        let prepared = self.shards[at].tables.prepared.get(&gid);
        let age = prepared.map_or(0, |branch| now.saturating_sub(branch.at_ms));
        if seen_for >= in_doubt_after {
            self.feed_branch(at, &gid, Event::PassedInDoubtAfter);
        }
        if age >= in_doubt_after * OLD_BY_DATABASE {
            self.feed_branch(at, &gid, Event::OldByDatabaseClock);
        }
    }

    /// Whether a scan would find something to do, for worlds without a clock. What it sees of
    /// branches whose driver is at work with them changes nothing.
    pub(crate) fn scan_matters(&self, at: usize) -> bool {
        let (shard, participant) = (&self.shards[at], &self.participants[at]);
        if self.setup.has(Hole::NobodyScans) || !shard.up {
            return false;
        }
        let changes = |gid: &Gid, tracked: &Tracked| {
            let event = match shard.tables.prepared.contains_key(gid) {
                true => Event::Seen(participant.driver_of(gid)),
                false => Event::Gone,
            };
            let mut branch = tracked.branch.clone();
            branch.on_event(event);
            branch != tracked.branch
        };
        let ignores_drivers = self.setup.has(Hole::NobodyAttends);
        let mut followed = participant.branches.iter();
        let mut prepared = shard.tables.prepared.keys();
        followed.any(|(gid, tracked)| changes(gid, tracked))
            || prepared.any(|gid| {
                let is_new = !participant.branches.contains_key(gid);
                is_new && (ignores_drivers || !self.is_driven(at, gid))
            })
            || (self.setup.has(Hole::TouchesForeign) && shard.foreign)
    }

    /// A branch is very old: it is resolved whoever attends.
    pub(crate) fn suspect(&mut self, at: usize, gid: Gid) {
        self.see(at, gid.clone());
        self.feed_branch(at, &gid, Event::OldByDatabaseClock);
    }

    pub(crate) fn feed_branch(&mut self, at: usize, gid: &Gid, event: Event) {
        let Some(tracked) = self.participants[at].branches.get_mut(gid) else {
            return;
        };
        for effect in tracked.branch.on_event(event) {
            self.carry_out(at, gid, effect);
        }
    }

    fn carry_out(&mut self, at: usize, gid: &Gid, effect: Effect) {
        let life = self.participants[at].life;
        let asker = Asker::Scan {
            shard: u8::try_from(at).expect("few shards"),
            life,
            gid: gid.clone(),
        };
        match effect {
            Effect::AskHome => {
                let question = Question::Resolve {
                    batch: gid.batch,
                    incarnation: gid.home_incarnation,
                };
                if let Some(tracked) = self.participants[at].branches.get_mut(gid) {
                    tracked.asked_at = self.now;
                }
                self.ask_home(at, place(gid.home), asker, question);
            }
            Effect::Apply(kind) => self.apply(at, asker, gid.clone(), kind),
            Effect::Alarm(_) => {}
            Effect::Damage(kind) => {
                self.shards[at].damage.insert((gid.batch, kind));
            }
            Effect::RetryAfter { .. } => {
                let pause = self
                    .setup
                    .timers
                    .as_ref()
                    .map_or(0, |timers| timers.retry_ms);
                let retry_at = self.now + pause;
                if let Some(tracked) = self.participants[at].branches.get_mut(gid) {
                    tracked.retry_at = retry_at;
                }
            }
            Effect::Forget => {
                let participant = &mut self.participants[at];
                participant.branches.remove(gid);
                participant.notes.remove(gid);
            }
        }
    }

    fn apply(&mut self, at: usize, asker: Asker, gid: Gid, kind: FinishKind) {
        let Finish { gid, kind } = Finish { gid, kind };
        let question = Question::Finish { gid, kind };
        if !self.shards[at].up {
            let unknown = question.unknown();
            self.on_scan_reply(at, asker, unknown);
            return;
        }
        if let Some(job) = Job::new(asker, question, self.now) {
            self.start_job(at, job);
        }
    }

    /// The answer to a question of the scan.
    pub(crate) fn on_scan_reply(&mut self, at: usize, asker: Asker, reply: Reply) {
        let Asker::Scan { life, gid, .. } = asker else {
            return;
        };
        if !self.participants[at].up || self.participants[at].life != life {
            return;
        }
        let event = match reply {
            Reply::Register(answer) => Event::Register(answer),
            Reply::Finished(finished) => Event::Finished(finished),
            Reply::Vote(_)
            | Reply::Decided(_)
            | Reply::HeadStarted(_)
            | Reply::SessionEnded
            | Reply::Recorded(_)
            | Reply::Status(_)
            | Reply::Unreachable => return,
        };
        self.feed_branch(at, &gid, event);
    }

    /// Whether the pause before a branch's next try is over and the try makes sense.
    pub(crate) fn retry_is_due(&self, at: usize, gid: &Gid, tracked: &Tracked) -> bool {
        let State::Pausing { next, .. } = tracked.branch.state() else {
            return false;
        };
        if self.setup.timers.is_some() {
            return self.now >= tracked.retry_at;
        }
        let home = place(gid.home);
        match next {
            Step::Ask => {
                let same_life = self.shards[home].incarnation == gid.home_incarnation;
                self.shards[home].up && self.participants[home].up && same_life
            }
            Step::Apply(_) => {
                let shard = &self.shards[at];
                shard.up && !shard.is_busy(gid, super::prepare::NOBODY)
            }
        }
    }
}
