//! Which nemesis strikes next, and where.

use rand::seq::SliceRandom;

use crate::nemesis::{Blow, Nemesis};
use crate::proxy::Step;

/// Which blow is next: all nemeses in turn, in an order that changes.
pub(super) struct Order {
    all: Vec<Turn>,
    queue: Vec<usize>,
}

struct Turn {
    nemesis: Nemesis,
    blows: usize,
    has_struck: bool,
}

impl Order {
    pub(super) fn new(nemeses: &[Nemesis]) -> Self {
        let first = |nemesis: &Nemesis| Turn {
            nemesis: *nemesis,
            blows: rand::random_range(0..nemesis.steps.len()),
            has_struck: false,
        };
        Self {
            all: nemeses.iter().map(first).collect(),
            queue: Vec::new(),
        }
    }

    /// The next one; of those that have not struck, if it is `late`.
    pub(super) fn next(&mut self, late: bool) -> Option<(Nemesis, Step)> {
        if late {
            let all = &self.all;
            self.queue.retain(|index| !all[*index].has_struck);
        }
        if self.queue.is_empty() {
            let wanted = |index: &usize| !late || !self.all[*index].has_struck;
            self.queue = (0..self.all.len()).filter(wanted).collect();
            self.queue.shuffle(&mut rand::rng());
        }
        let Turn { nemesis, blows, .. } = &mut self.all[self.queue.pop()?];
        *blows += 1;
        Some((*nemesis, nemesis.steps[*blows % nemesis.steps.len()]))
    }

    pub(super) fn note(&mut self, blow: &Blow) {
        let mut all = self.all.iter_mut();
        if let Some(turn) = all.find(|turn| turn.nemesis.name == blow.nemesis) {
            turn.has_struck |= blow.hit;
        }
    }

    pub(super) fn someone_missed(&self) -> bool {
        self.all.iter().any(|turn| !turn.has_struck)
    }
}
