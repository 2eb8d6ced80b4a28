//! How transactions form batches, and how batches follow each other.
//!
//! Whoever arrives while a batch works waits, and goes with the next one: no timer, no added
//! delay when idle. A lane is a pipeline of three stages, in each of which is one batch at most:
//! its members' work is done on every shard, home included; it is decided; its branches are
//! finished.
//!
//! The next batch begins to work when the one before has done its work everywhere, and holds the
//! rows that it touched. So two batches of a lane wait for each other in one order only, on every
//! shard. A batch that has not said so keeps the lane to itself until it is decided. R12: while a
//! batch is in doubt, one other may be prepared behind it, and no more.

use std::collections::VecDeque;

/// The queue of transactions with one home and one set of shards, and the batches it forms.
/// `T` names a waiting transaction.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Lane<T> {
    batch_members_max: usize,
    waiting: VecDeque<T>,
    again: VecDeque<Group<T>>,
    alone_in_a_row: usize,
    /// The oldest first.
    in_flight: VecDeque<(Turn, Stage)>,
    turns: u32,
}

/// Names a batch in flight within its lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Turn(u32);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Stage {
    Working,
    /// Its members' work is done on every shard, and its branches are prepared.
    Executed,
    /// What becomes of it is known, and its branches are being finished.
    Decided,
}

/// One batch in each stage.
const IN_FLIGHT_MAX: usize = 3;
/// One that is decided, and one that works behind it (R12).
const UNDECIDED_MAX: usize = 2;

/// Batches of those who travel alone between two of the others.
const ALONE_IN_A_ROW_MAX: usize = 4;

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Group<T> {
    members: Vec<T>,
    alone: bool,
}

impl<T> Lane<T> {
    /// An idle lane. Batches have at most `batch_members_max` members.
    pub fn new(batch_members_max: usize) -> Self {
        assert!(batch_members_max > 0, "a batch has members");
        Self {
            batch_members_max,
            waiting: VecDeque::new(),
            again: VecDeque::new(),
            alone_in_a_row: 0,
            in_flight: VecDeque::new(),
            turns: 0,
        }
    }

    /// A transaction arrives.
    pub fn on_submit(&mut self, transaction: T) {
        self.waiting.push_back(transaction);
    }

    /// A transaction arrives that must not share a batch (R11).
    pub fn on_submit_alone(&mut self, transaction: T) {
        self.again.push_back(Group {
            members: vec![transaction],
            alone: true,
        });
    }

    /// Members of a batch in flight must run again; they go before those who came later.
    /// With `alone` set, nobody joins them.
    pub fn on_run_again(&mut self, members: Vec<T>, alone: bool) {
        if !members.is_empty() {
            self.again.push_back(Group { members, alone });
        }
    }

    /// This batch holds every row that it will touch, on every shard: the next one may wait for
    /// it wherever they meet.
    pub fn on_executed(&mut self, turn: Turn) {
        self.enter(turn, Stage::Executed);
    }

    /// What becomes of this batch is known.
    pub fn on_decided(&mut self, turn: Turn) {
        self.enter(turn, Stage::Decided);
    }

    /// This batch is over.
    pub fn on_rest(&mut self, turn: Turn) {
        debug_assert!(self.in_flight.iter().any(|(each, _)| *each == turn));
        self.in_flight.retain(|(each, _)| *each != turn);
    }

    fn enter(&mut self, turn: Turn, stage: Stage) {
        let mut batches = self.in_flight.iter_mut();
        if let Some((_, at)) = batches.find(|(each, _)| *each == turn) {
            *at = stage;
        }
    }

    fn has_room(&self) -> bool {
        let stages = || self.in_flight.iter().map(|(_, stage)| *stage);
        let undecided = stages().filter(|stage| *stage != Stage::Decided).count();
        self.in_flight.len() < IN_FLIGHT_MAX
            && undecided < UNDECIDED_MAX
            && stages().all(|stage| stage != Stage::Working)
    }

    /// The next batch, if it is time for one.
    pub fn poll_batch(&mut self) -> Option<(Turn, Vec<T>)> {
        if !self.has_room() {
            return None;
        }
        let batch = self.next_batch()?;
        let turn = Turn(self.turns);
        self.turns = self.turns.wrapping_add(1);
        self.in_flight.push_back((turn, Stage::Working));
        Some((turn, batch))
    }

    fn next_batch(&mut self) -> Option<Vec<T>> {
        // Those who travel alone take turns with the others: a stream of them, each a batch of
        // one, would let nobody else through. A few go in a row, because they are quick, and
        // the members of one batch that fail may all have to.
        let others_turn = self.alone_in_a_row >= ALONE_IN_A_ROW_MAX && !self.waiting.is_empty();
        let next = match self.again.front() {
            Some(group) if group.alone && others_turn => None,
            Some(_) | None => self.again.pop_front(),
        };
        self.alone_in_a_row = match &next {
            Some(group) if group.alone => self.alone_in_a_row.saturating_add(1),
            Some(_) | None => 0,
        };
        let mut batch = match next {
            Some(group) if group.alone => return Some(group.members),
            Some(group) => group.members,
            None => Vec::new(),
        };
        let room = self.batch_members_max.saturating_sub(batch.len());
        let joining = room.min(self.waiting.len());
        batch.extend(self.waiting.drain(..joining));
        (!batch.is_empty()).then_some(batch)
    }

    /// Takes out every waiting transaction that `gone` names: those whose time is over, or that
    /// have no one to answer to. Members of batches in flight are not touched.
    pub fn remove_waiting(&mut self, mut gone: impl FnMut(&T) -> bool) -> Vec<T> {
        let (out, kept): (Vec<T>, Vec<T>) = self.waiting.drain(..).partition(|each| gone(each));
        self.waiting = kept.into();
        out
    }

    /// How many wait.
    pub fn depth(&self) -> usize {
        self.waiting.len()
            + self
                .again
                .iter()
                .map(|group| group.members.len())
                .sum::<usize>()
    }

    /// Whether nothing is in flight and nobody waits.
    pub fn is_idle(&self) -> bool {
        self.in_flight.is_empty() && self.depth() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn next<T>(lane: &mut Lane<T>) -> (Turn, Vec<T>) {
        lane.poll_batch().expect("it is time for a batch")
    }

    #[test]
    fn arrivals_wait_for_the_batch_that_works_and_form_the_next() {
        let mut lane = Lane::new(3);
        assert_eq!(lane.poll_batch(), None);
        lane.on_submit(1);
        let (first, members) = next(&mut lane);
        assert_eq!(members, [1], "no delay when idle");
        for each in 2..=6 {
            lane.on_submit(each);
        }
        assert_eq!(lane.poll_batch(), None);
        lane.on_rest(first);
        let (second, members) = next(&mut lane);
        assert_eq!(members, [2, 3, 4]);
        lane.on_rest(second);
        let (third, members) = next(&mut lane);
        assert_eq!(members, [5, 6]);
        lane.on_rest(third);
        assert!(lane.is_idle());
    }

    #[test]
    fn r12_one_batch_works_behind_one_that_is_decided_and_no_more() {
        let mut lane = Lane::new(1);
        for each in 1..=9 {
            lane.on_submit(each);
        }
        let (first, _) = next(&mut lane);
        assert_eq!(lane.poll_batch(), None, "one works");
        lane.on_executed(first);
        let (second, _) = next(&mut lane);
        lane.on_executed(second);
        assert_eq!(lane.poll_batch(), None, "two are undecided");
        lane.on_decided(first);
        let (third, _) = next(&mut lane);
        lane.on_executed(third);
        lane.on_decided(second);
        assert_eq!(lane.poll_batch(), None, "two are not finished");
        lane.on_rest(second);
        assert_eq!(next(&mut lane).1, [4]);
    }

    #[test]
    fn a_batch_that_never_said_that_it_was_executed_lets_the_next_begin_when_it_is_decided() {
        let mut lane = Lane::new(1);
        lane.on_submit(1);
        lane.on_submit(2);
        let (first, _) = next(&mut lane);
        assert_eq!(lane.poll_batch(), None);
        lane.on_decided(first);
        assert_eq!(next(&mut lane).1, [2]);
    }

    #[test]
    fn r10_members_that_run_alone_get_no_company() {
        let mut lane = Lane::new(8);
        lane.on_submit(1);
        lane.on_submit(2);
        let (first, _) = next(&mut lane);
        lane.on_submit(9);
        lane.on_run_again(vec![1], true);
        lane.on_run_again(vec![2], false);
        lane.on_rest(first);
        let (second, members) = next(&mut lane);
        assert_eq!(members, [1]);
        lane.on_rest(second);
        assert_eq!(next(&mut lane).1, [2, 9]);
    }

    #[test]
    fn a_stream_of_those_who_travel_alone_lets_others_through() {
        let mut lane = Lane::new(8);
        for each in 1..=6 {
            lane.on_submit_alone(each);
        }
        lane.on_submit(8);
        lane.on_submit(9);
        let mut batches = Vec::new();
        while let Some((turn, batch)) = lane.poll_batch() {
            batches.push(batch);
            lane.on_rest(turn);
        }
        let alone = |each| vec![each];
        let expected = [1, 2, 3, 4].map(alone).to_vec();
        let expected = [expected, vec![vec![8, 9]], vec![alone(5), alone(6)]].concat();
        assert_eq!(batches, expected);
        assert!(lane.is_idle());
    }

    #[test]
    fn who_gives_up_waiting_leaves() {
        let mut lane = Lane::new(8);
        lane.on_submit(1);
        let (first, _) = next(&mut lane);
        lane.on_submit(2);
        lane.on_submit(3);
        assert_eq!(lane.remove_waiting(|each| *each == 2), vec![2]);
        lane.on_rest(first);
        assert_eq!(next(&mut lane).1, [3]);
    }
}
