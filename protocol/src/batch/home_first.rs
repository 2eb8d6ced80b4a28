//! Batches whose home works before the branches are asked (R2): who fails there is left out
//! before anybody has prepared.

use std::collections::{BTreeMap, BTreeSet};

use super::aftermath::{Fate, Others};
use super::votes::judge;
use super::{Batch, Effect, MemberIndex, Survivors};
use crate::message::MemberReport;

impl Batch {
    pub(super) fn on_worked_first(
        &mut self,
        left_out: BTreeMap<MemberIndex, MemberReport>,
    ) -> Vec<Effect> {
        self.left_out = left_out;
        if self.asked().next().is_some() {
            return self.ask_branches();
        }
        // Nobody is left to be prepared, and nobody has seen anybody's work.
        let mut fates = vec![Fate::Again; self.spec.members.len()];
        judge(&mut fates, self.home_reports());
        self.abort(BTreeSet::new(), fates, Others::RunAgain)
    }

    /// What home said of everybody, before the branches were asked.
    pub(super) fn home_reports(&self) -> impl Iterator<Item = (MemberIndex, &MemberReport)> {
        let everybody = 0..self.spec.members.len();
        everybody.map(|index| {
            let report = self.left_out.get(&index);
            (index, report.unwrap_or(&MemberReport::Executed))
        })
    }

    /// With those whom home has left out. If a branch has left somebody out as well, home runs
    /// again, and what it said of those who failed there holds only for those who have seen
    /// nobody's work (R10). The others run again.
    pub(super) fn with_left_out_at_home(&self, mut survivors: Survivors) -> Survivors {
        let home_runs_again = survivors.executed.len() < self.asked().count();
        let first = self.asked().next();
        for (index, report) in &self.left_out {
            let has_seen_others = first.is_some_and(|first| first < *index);
            let report = match report {
                MemberReport::Failed(_) if home_runs_again && has_seen_others => {
                    MemberReport::NotRun
                }
                report => report.clone(),
            };
            survivors.left_out.insert(*index, report);
        }
        survivors
    }
}
