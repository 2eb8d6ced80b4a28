//! The lanes of this coordinator: which transactions may share batches, and when a batch goes.

mod lately;
mod pace;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use gavel_protocol::batch::Rerun;
use gavel_protocol::{
    Access, Isolation, Lane, Outcome, Principal, Refusal, RefusalCode, ShardTag, Turn,
};
use parking_lot::Mutex;

use self::lately::Lately;
pub use self::lately::{Approach, Side};
use self::pace::Pace;
use crate::clock;
use crate::coordinator::{Inner, shards_of};
use crate::driver::Driver;
use crate::engine::Submission;
use crate::ticket::Ticket;

/// What transactions of one lane have in common: home, shards with their access, isolation, and
/// the principal (R11).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct LaneKey {
    home: ShardTag,
    shards: Vec<(ShardTag, Access)>,
    isolation: Isolation,
    principal: Principal,
}

impl LaneKey {
    fn of(submission: &Submission) -> Self {
        let branches = &submission.transaction.branches;
        Self {
            home: submission.txid.home(),
            shards: branches
                .iter()
                .map(|branch| (branch.shard, branch.access))
                .collect(),
            isolation: submission.transaction.isolation,
            principal: submission.principal.clone(),
        }
    }
}

/// All lanes. A lane exists while it has something to do.
#[derive(Default)]
pub struct Lanes(Mutex<HashMap<LaneKey, Track>>);

/// A lane, and what happened in it lately.
struct Track {
    lane: Lane<Arc<Ticket>>,
    lately: Lately,
    pace: Pace,
}

/// A batch's place in its lane.
#[derive(Clone)]
pub struct Seat {
    inner: Arc<Inner>,
    key: LaneKey,
    turn: Turn,
    approach: Approach,
    expects_failures: bool,
    began: Instant,
}

impl Seat {
    /// Whether members have failed on the branches lately.
    pub fn expects_failures(&self) -> bool {
        self.expects_failures
    }

    /// How the batch is to go to work.
    pub fn approach(&self) -> Approach {
        self.approach
    }

    /// A member of the batch has failed there.
    pub fn failed(&self, side: Side) {
        if let Some(track) = self.inner.lanes.0.lock().get_mut(&self.key) {
            track.lately.on_failure(side);
        }
    }

    /// The batch has done its work on every shard: the next may begin.
    pub fn executed(&self) {
        self.move_on(Lane::on_executed);
    }

    /// What becomes of the batch is known.
    pub fn decided(&self) {
        self.move_on(Lane::on_decided);
    }

    fn move_on(&self, on: fn(&mut Lane<Arc<Ticket>>, Turn)) {
        let mut lanes = self.inner.lanes.0.lock();
        if let Some(track) = lanes.get_mut(&self.key) {
            on(&mut track.lane, self.turn);
        }
        Lanes::start_batches(&self.inner, &self.key, &mut lanes);
    }
}

/// How much waits in lanes.
#[derive(Default)]
pub struct Depths {
    /// Lanes with something to do.
    pub lanes: usize,
    /// Transactions that wait.
    pub waiting: usize,
    /// Those in the deepest lane.
    pub deepest: usize,
}

impl Lanes {
    /// How much waits now.
    pub fn depths(&self) -> Depths {
        let lanes = self.0.lock();
        let depths = lanes.values().map(|track| track.lane.depth());
        Depths {
            lanes: lanes.len(),
            waiting: depths.clone().sum(),
            deepest: depths.max().unwrap_or(0),
        }
    }

    /// Puts an admitted transaction into its lane, and starts a batch if the lane is idle.
    pub fn submit(inner: &Arc<Inner>, ticket: Arc<Ticket>) -> Result<(), Refusal> {
        let key = LaneKey::of(&ticket.submission);
        let mut lanes = inner.lanes.0.lock();
        let limits = &inner.limits;
        let track = lanes.entry(key.clone()).or_insert_with(|| Track {
            lane: Lane::new(limits.batch_members_max),
            lately: Lately::default(),
            pace: Pace::default(),
        });
        let lane = &mut track.lane;
        if lane.depth() >= limits.lane_depth_max {
            // Those who lost patience are still in the queue.
            lane.remove_waiting(|ticket| ticket.is_ended());
        }
        if lane.depth() >= limits.lane_depth_max {
            let message = format!("{} transactions wait for the same shards", lane.depth());
            return Err(Refusal::new(RefusalCode::Overloaded, message));
        }
        let wait = track.pace.wait(lane.depth());
        let patience = ticket.submission.patience(limits);
        if let Some(wait) = wait.filter(|wait| *wait > patience) {
            let message = format!(
                "{} transactions wait for the same shards, for about {wait:.1?}: too long for this \
                 one, which has {patience:.1?}",
                lane.depth()
            );
            return Err(Refusal::new(RefusalCode::Overloaded, message));
        }
        // R11: what may leave a setting behind shares no batch. A repeated txid may collide with
        // its own record at home; it is not to take neighbours down with it.
        if ticket.submission.is_retry || !ticket.submission.transaction.is_batch_safe() {
            lane.on_submit_alone(ticket);
        } else {
            lane.on_submit(ticket);
        }
        Self::start_batches(inner, &key, &mut lanes);
        Ok(())
    }

    /// Starts the next batch of a lane, or forgets the lane if it is idle.
    fn start_batches(inner: &Arc<Inner>, key: &LaneKey, lanes: &mut HashMap<LaneKey, Track>) {
        let Some(Track { lane, lately, .. }) = lanes.get_mut(key) else {
            return;
        };
        while let Some((turn, members)) = lane.poll_batch() {
            let (members, too_many) = cut(members, inner.limits.request_bytes_max);
            lane.on_run_again(too_many, false);
            // Whoever lost patience while waiting has been told that nothing was done.
            let members: Vec<_> = members
                .into_iter()
                .filter(|ticket| ticket.start_running())
                .collect();
            if members.is_empty() {
                lane.on_rest(turn);
                continue;
            }
            for member in members.iter().filter(|member| !member.has_run()) {
                inner.meters.queue.record(member.admitted.elapsed());
            }
            let seat = Seat {
                inner: inner.clone(),
                key: key.clone(),
                turn,
                approach: lately.next_approach(),
                expects_failures: lately.branches_fail(),
                began: Instant::now(),
            };
            inner.tasks.spawn(async move {
                let reruns = drive(&seat, &members).await;
                Self::rest(&seat, &members, reruns);
            });
        }
        if lane.is_idle() {
            lanes.remove(key);
        }
    }

    fn rest(seat: &Seat, members: &[Arc<Ticket>], reruns: Vec<Rerun>) {
        let Seat {
            inner,
            key,
            turn,
            began,
            ..
        } = seat;
        let mut lanes = inner.lanes.0.lock();
        if let Some(Track { lane, pace, .. }) = lanes.get_mut(key) {
            pace.done(members.len(), began.elapsed(), Instant::now());
            for rerun in reruns {
                lane.on_run_again(again(inner, members, &rerun), rerun.alone);
            }
            lane.on_rest(*turn);
        }
        Self::start_batches(inner, key, &mut lanes);
        drop(lanes);
        for ticket in members {
            inner.forget_if_ended(ticket);
        }
    }
}

/// Cuts a batch where its messages would grow beyond what one request may hold; its first member
/// always fits. Who is cut off goes next.
fn cut(mut members: Vec<Arc<Ticket>>, bytes_max: usize) -> (Vec<Arc<Ticket>>, Vec<Arc<Ticket>>) {
    let mut bytes = 0;
    let fit = members.iter().take_while(|ticket| {
        bytes += ticket.bytes;
        bytes <= bytes_max
    });
    let fit = fit.count().max(1).min(members.len());
    let rest = members.split_off(fit);
    (members, rest)
}

/// The members of a rerun that may try once more; the others are refused.
fn again(inner: &Inner, members: &[Arc<Ticket>], rerun: &Rerun) -> Vec<Arc<Ticket>> {
    let tickets = rerun
        .members
        .iter()
        .filter_map(|member| members.get(*member));
    tickets
        .filter(|ticket| {
            let may = ticket.wait_again(inner.limits.runs_max);
            if !may {
                ticket.end(ticket.answer(Outcome::Refused(rerun.because.clone())));
            }
            may
        })
        .inspect(|_| inner.meters.retried("run"))
        .cloned()
        .collect()
}

async fn drive(seat: &Seat, members: &[Arc<Ticket>]) -> Vec<Rerun> {
    let inner = seat.inner.clone();
    let shards = shards_of(&members[0]);
    let worth = inner.circuits.check(shards);
    let driver =
        worth.and_then(|()| Driver::new(inner, members.to_vec(), clock::mint_batch(), None));
    match driver {
        Ok(driver) => driver.in_lane(seat.clone()).run().await,
        Err(refusal) => {
            for ticket in members {
                ticket.end(ticket.answer(Outcome::Refused(refusal.clone())));
            }
            Vec::new()
        }
    }
}
