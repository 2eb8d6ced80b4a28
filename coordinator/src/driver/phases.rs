//! How long each phase of a batch takes.

use std::time::Instant;

use crate::metrics::Meters;

/// When the phases of one batch began.
pub(super) struct Phases {
    began: Instant,
    deciding: Option<Instant>,
    decided: Option<Instant>,
}

impl Phases {
    pub(super) fn begin() -> Self {
        Self {
            began: Instant::now(),
            deciding: None,
            decided: None,
        }
    }

    /// The votes are in, and home is asked to decide.
    pub(super) fn deciding(&mut self, meters: &Meters) {
        meters.prepare.record(self.began.elapsed());
        self.deciding = Some(Instant::now());
    }

    /// The decision is known. A batch may end without having asked for one.
    pub(super) fn decided(&mut self, meters: &Meters) {
        if let Some(since) = self.deciding.take() {
            meters.decide.record(since.elapsed());
        }
        self.decided = Some(Instant::now());
    }

    /// Every shard shows what was decided.
    pub(super) fn applied(&self, meters: &Meters) {
        let since = self.decided.unwrap_or(self.began);
        meters.apply.record(since.elapsed());
    }
}
