//! Fake shards: home's register and the branches, as PostgreSQL behaves (one step at a time: a
//! unique key makes the second writer see what the first one did), and the participants' own
//! resolution. Whatever must never be asked of a shard panics here.

use std::collections::BTreeMap;

use super::super::*;
use crate::message::{Decision, KnownTxid, MemberFailure};
use crate::recovery::{Action, HomeSays, ShardShows, action};

/// A transaction of this world; also the index of its txid.
pub(super) type Who = usize;
pub(super) type BatchNumber = usize;

/// Choices, drawn by proptest. When they are used up, faults stop: every further choice is the
/// plain one.
#[derive(Debug)]
pub(super) struct Tape {
    choices: std::vec::IntoIter<u8>,
}

impl Tape {
    pub(super) fn new(choices: Vec<u8>) -> Self {
        Self {
            choices: choices.into_iter(),
        }
    }

    /// One of `count`, 0 being the plain one.
    pub(super) fn pick(&mut self, count: usize) -> usize {
        usize::from(self.choices.next().unwrap_or(0)) % count
    }

    pub(super) fn one_in(&mut self, count: usize) -> bool {
        self.pick(count) == count - 1
    }
}

/// How a transaction behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Nature {
    Fine,
    /// Fails on this shard, by itself.
    Fails(ShardTag),
    /// Breaks a deferred constraint on this shard, which PREPARE and COMMIT notice.
    Deferred(ShardTag),
    /// Fails on this shard if it sees the work of that transaction.
    FailsAfter(ShardTag, Who),
    /// Fails on this shard unless it sees the work of that transaction.
    Needs(ShardTag, Who),
}

/// A row of `gavel.decision`, with the members for checking.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Row {
    Commit {
        prepared: Vec<ShardTag>,
        executed: Vec<Who>,
    },
    Abort,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Branch {
    Prepared { executed: Vec<Who>, zombie: bool },
    Applied { executed: Vec<Who> },
}

#[derive(Debug)]
pub(super) struct Shards {
    pub(super) natures: Vec<Nature>,
    pub(super) register: BTreeMap<BatchNumber, Row>,
    pub(super) transactions: BTreeMap<Who, Recorded>,
    pub(super) branches: BTreeMap<(BatchNumber, ShardTag), Branch>,
}

impl Shards {
    pub(super) fn new(natures: Vec<Nature>) -> Self {
        Self {
            natures,
            register: BTreeMap::new(),
            transactions: BTreeMap::new(),
            branches: BTreeMap::new(),
        }
    }

    fn run(&self, shard: ShardTag, who: Who, before: &[Who]) -> Result<(), MemberFailure> {
        let sees = |other: &Who| {
            let row = self.transactions.get(other);
            before.contains(other) || row == Some(&Recorded::Committed)
        };
        let fails = match self.natures[who] {
            Nature::Fine | Nature::Deferred(_) => false,
            Nature::Fails(on) => on == shard,
            Nature::FailsAfter(on, other) => on == shard && sees(&other),
            Nature::Needs(on, other) => on == shard && !sees(&other),
        };
        if fails {
            return Err(MemberFailure::Failed(guard()));
        }
        Ok(())
    }

    fn breaks_deferred(&self, shard: ShardTag, executed: &[Who]) -> bool {
        let natures = executed.iter().map(|who| self.natures[*who]);
        natures
            .into_iter()
            .any(|nature| nature == Nature::Deferred(shard))
    }

    fn no_culprit(
        &self,
        shard: ShardTag,
        executed: &[Who],
        tape: &mut Tape,
    ) -> Option<MemberFailure> {
        if self.breaks_deferred(shard, executed) {
            return Some(MemberFailure::Failed(guard()));
        }
        tape.one_in(24).then(|| MemberFailure::Refused(busy()))
    }

    pub(super) fn prepare(
        &mut self,
        (batch, shard): (BatchNumber, ShardTag),
        members: &[Who],
        zombie: bool,
        tape: &mut Tape,
    ) -> Vote {
        if self.branches.contains_key(&(batch, shard)) {
            return lost_vote(); // R1
        }
        if tape.one_in(16) {
            return Vote::No(NoVote::Refused(busy()));
        }
        let (executed, reports) = self.run_some(shard, members, tape);
        if executed.is_empty() {
            return none(&reports);
        }
        if let Some(failure) = self.no_culprit(shard, &executed, tape) {
            return Vote::No(NoVote::NoCulprit(failure));
        }
        if shard == READER {
            return Vote::ReadOnly { reports };
        }
        let digest = MembersDigest::of(executed.iter().map(|who| txid(*who)));
        let branch = Branch::Prepared { executed, zombie };
        self.branches.insert((batch, shard), branch);
        Vote::Yes {
            digest,
            xid: 1,
            reports,
        }
    }

    /// Runs the members without those who fail, and without some who get no turn.
    fn run_some(
        &self,
        shard: ShardTag,
        members: &[Who],
        tape: &mut Tape,
    ) -> (Vec<Who>, Vec<MemberReport>) {
        let turns = if tape.one_in(6) {
            tape.pick(members.len() + 1)
        } else {
            members.len()
        };
        let mut executed = Vec::new();
        let mut reports = Vec::new();
        for who in members {
            let report = if executed.len() >= turns {
                MemberReport::NotRun
            } else if tape.one_in(24) {
                MemberReport::Refused(busy())
            } else {
                match self.run(shard, *who, &executed) {
                    Ok(()) => MemberReport::Executed,
                    Err(MemberFailure::Failed(reason)) => MemberReport::Failed(reason),
                    Err(MemberFailure::Refused(why)) => MemberReport::Refused(why),
                }
            };
            if report == MemberReport::Executed {
                executed.push(*who);
            }
            reports.push(report);
        }
        (executed, reports)
    }

    /// Home's work before the branches are asked. Nothing is kept of it here: the decide runs it
    /// again, which allows more than a session that holds its rows.
    pub(super) fn work_first(
        &self,
        members: &[Who],
        tape: &mut Tape,
    ) -> BTreeMap<MemberIndex, MemberReport> {
        let (_, reports) = self.run_some(HOME, members, tape);
        let each = reports.into_iter().enumerate();
        each.filter(|(_, report)| *report != MemberReport::Executed)
            .collect()
    }

    pub(super) fn decide(
        &mut self,
        batch: BatchNumber,
        prepared: &[ShardTag],
        members: &[Who],
        failed: &[Who],
        tape: &mut Tape,
    ) -> Decided {
        match self.register.get(&batch) {
            Some(Row::Commit { .. }) => return Decided::Committed,
            Some(Row::Abort) => return Decided::Aborted(WhyAborted::Refused(busy())),
            None => {}
        }
        if let Err(why) = self.run_at_home(members, failed, tape) {
            self.register.insert(batch, Row::Abort);
            return Decided::Aborted(why);
        }
        for shard in prepared {
            let agreed = match self.branches.get(&(batch, *shard)) {
                Some(Branch::Prepared { executed, .. }) => executed == members,
                Some(Branch::Applied { .. }) | None => false,
            };
            assert!(agreed, "I3: {batch} on {shard} has no yes for {members:?}");
        }
        for who in members {
            self.transactions.insert(*who, Recorded::Committed);
        }
        for who in failed {
            self.transactions.insert(*who, Recorded::Aborted(guard()));
        }
        let row = Row::Commit {
            prepared: prepared.to_vec(),
            executed: members.to_vec(),
        };
        self.register.insert(batch, row);
        Decided::Committed
    }

    fn run_at_home(
        &mut self,
        members: &[Who],
        failed: &[Who],
        tape: &mut Tape,
    ) -> Result<(), WhyAborted> {
        let known: Vec<KnownTxid> = members
            .iter()
            .chain(failed)
            .filter_map(|who| {
                let record = self.transactions.get(who)?.clone();
                let txid = txid(*who);
                Some(KnownTxid { txid, record })
            })
            .collect();
        if !known.is_empty() {
            return Err(WhyAborted::Known(known));
        }
        if tape.one_in(16) {
            return Err(WhyAborted::Refused(busy()));
        }
        for (index, who) in members.iter().enumerate() {
            if let Err(failure) = self.run(HOME, *who, &members[..index]) {
                let recorded = self.record_if_only(members, &failure);
                let later = (index + 1)..members.len();
                return Err(WhyAborted::Member {
                    index,
                    failure,
                    recorded,
                    also: later.filter(|_| tape.one_in(3)).collect(),
                });
            }
        }
        if let Some(failure) = self.no_culprit(HOME, members, tape) {
            let recorded = self.record_if_only(members, &failure);
            return Err(WhyAborted::NoCulprit { failure, recorded });
        }
        Ok(())
    }

    fn record_if_only(&mut self, members: &[Who], failure: &MemberFailure) -> bool {
        match (members, failure) {
            ([only], MemberFailure::Failed(reason)) => {
                let record = Recorded::Aborted(reason.clone());
                self.transactions.insert(*only, record);
                true
            }
            (_, MemberFailure::Failed(_) | MemberFailure::Refused(_)) => false,
        }
    }

    /// R7: insert, then read.
    pub(super) fn resolve(&mut self, batch: BatchNumber) -> RegisterAnswer {
        let row = self.register.entry(batch).or_insert(Row::Abort);
        RegisterAnswer::Decision(match row {
            Row::Commit { prepared, .. } => Decision::Commit {
                prepared: prepared.clone(),
            },
            Row::Abort => Decision::Abort,
        })
    }

    pub(super) fn commit(&mut self, batch: BatchNumber, shard: ShardTag) -> Finished {
        let decided = matches!(self.register.get(&batch), Some(Row::Commit { .. }));
        assert!(
            decided,
            "I8: COMMIT PREPARED of {batch} before its decision"
        );
        let branch = self.branches.remove(&(batch, shard));
        let executed = match branch {
            Some(Branch::Prepared { executed, .. } | Branch::Applied { executed }) => executed,
            None => panic!("I4: the branch of {batch} on {shard} is gone"),
        };
        let applied = Branch::Applied { executed };
        self.branches.insert((batch, shard), applied);
        Finished::Done
    }

    pub(super) fn roll_back(&mut self, batch: BatchNumber, shard: ShardTag) -> Finished {
        let decided = matches!(self.register.get(&batch), Some(Row::Commit { .. }));
        assert!(
            !decided,
            "I1: ROLLBACK PREPARED of {batch}, which is committed"
        );
        let branch = self.branches.remove(&(batch, shard));
        let applied = matches!(branch, Some(Branch::Applied { .. }));
        assert!(!applied, "I1: {batch} is applied, but rolled back");
        Finished::Done
    }

    /// R8: what has an outcome keeps it.
    pub(super) fn record_aborts(&mut self, aborts: &[Who]) -> RecordAnswer {
        let each = aborts.iter().map(|who| {
            let row = self.transactions.entry(*who);
            row.or_insert(Recorded::Aborted(guard())).clone()
        });
        RecordAnswer::Recorded(each.collect())
    }

    /// What a participant's scan does with a prepared branch.
    pub(super) fn scan(&mut self, batch: BatchNumber, shard: ShardTag) {
        let Some(Branch::Prepared { .. }) = self.branches.get(&(batch, shard)) else {
            return;
        };
        let answer = self.resolve(batch);
        match action(HomeSays::about(&answer, shard), ShardShows::Prepared) {
            Action::Commit => self.commit(batch, shard),
            Action::Rollback => self.roll_back(batch, shard),
            other => panic!("a forced register leads to {other:?}"),
        };
    }
}
