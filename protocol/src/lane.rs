//! How transactions form batches.
//!
//! While a lane has a batch in flight, later arrivals wait and form the next one: no timer, no
//! added delay when idle. A lane with an unresolved batch prepares no other behind it (R12).

use std::collections::VecDeque;

/// The queue of transactions with one home and one set of shards, and the batches it forms.
/// `T` names a waiting transaction.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Lane<T> {
    batch_members_max: usize,
    waiting: VecDeque<T>,
    again: VecDeque<Group<T>>,
    alone_last: bool,
    in_flight: bool,
}

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
            alone_last: false,
            in_flight: false,
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

    /// Members of the batch in flight must run again; they go before those who came later.
    /// With `alone` set, nobody joins them.
    pub fn on_run_again(&mut self, members: Vec<T>, alone: bool) {
        if !members.is_empty() {
            self.again.push_back(Group { members, alone });
        }
    }

    /// The batch in flight is over.
    pub fn on_rest(&mut self) {
        debug_assert!(self.in_flight, "a batch was in flight");
        self.in_flight = false;
    }

    /// The next batch, if it is time for one.
    pub fn poll_batch(&mut self) -> Option<Vec<T>> {
        if self.in_flight {
            return None;
        }
        // Those who travel alone take turns with the others: a stream of them, each a batch of
        // one, would let nobody else through.
        let others_turn = self.alone_last && !self.waiting.is_empty();
        let next = match self.again.front() {
            Some(group) if group.alone && others_turn => None,
            Some(_) | None => self.again.pop_front(),
        };
        self.alone_last = next.as_ref().is_some_and(|group| group.alone);
        let mut batch = match next {
            Some(group) if group.alone => {
                self.in_flight = true;
                return Some(group.members);
            }
            Some(group) => group.members,
            None => Vec::new(),
        };
        let room = self.batch_members_max.saturating_sub(batch.len());
        let joining = room.min(self.waiting.len());
        batch.extend(self.waiting.drain(..joining));
        self.in_flight = !batch.is_empty();
        self.in_flight.then_some(batch)
    }

    /// Takes out every waiting transaction that `gone` names: those whose time is over, or that
    /// have no one to answer to. Members of the batch in flight are not touched.
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
        !self.in_flight && self.depth() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r12_arrivals_wait_for_the_batch_in_flight_and_form_the_next() {
        let mut lane = Lane::new(3);
        assert_eq!(lane.poll_batch(), None);
        lane.on_submit(1);
        assert_eq!(lane.poll_batch(), Some(vec![1]), "no delay when idle");
        for each in 2..=6 {
            lane.on_submit(each);
        }
        assert_eq!(lane.poll_batch(), None, "r12: one batch at a time");
        lane.on_rest();
        assert_eq!(lane.poll_batch(), Some(vec![2, 3, 4]));
        lane.on_rest();
        assert_eq!(lane.poll_batch(), Some(vec![5, 6]));
        lane.on_rest();
        assert!(lane.is_idle());
    }

    #[test]
    fn r10_members_that_run_alone_get_no_company() {
        let mut lane = Lane::new(8);
        lane.on_submit(1);
        lane.on_submit(2);
        lane.poll_batch();
        lane.on_submit(9);
        lane.on_run_again(vec![1], true);
        lane.on_run_again(vec![2], false);
        lane.on_rest();
        assert_eq!(lane.poll_batch(), Some(vec![1]));
        lane.on_rest();
        assert_eq!(lane.poll_batch(), Some(vec![2, 9]));
    }

    #[test]
    fn r12_a_stream_of_those_who_travel_alone_lets_others_through() {
        let mut lane = Lane::new(8);
        for each in [1, 2, 3] {
            lane.on_submit_alone(each);
        }
        lane.on_submit(8);
        lane.on_submit(9);
        let mut batches = Vec::new();
        while let Some(batch) = lane.poll_batch() {
            batches.push(batch);
            lane.on_rest();
        }
        assert_eq!(batches, [vec![1], vec![8, 9], vec![2], vec![3]]);
        assert!(lane.is_idle());
    }

    #[test]
    fn who_gives_up_waiting_leaves() {
        let mut lane = Lane::new(8);
        lane.on_submit(1);
        lane.poll_batch();
        lane.on_submit(2);
        lane.on_submit(3);
        assert_eq!(lane.remove_waiting(|each| *each == 2), vec![2]);
        lane.on_rest();
        assert_eq!(lane.poll_batch(), Some(vec![3]));
    }
}
