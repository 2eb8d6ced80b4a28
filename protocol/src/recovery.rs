//! The recovery table (design: recovery is a table, not a procedure).
//!
//! Purpose: what to do about one branch of a batch on one shard, given what the batch's home
//! says and what the shard shows. [`TABLE`] is that knowledge as labelled cases, for people,
//! documentation and tests; [`action`] is the same as a function without a default arm, so that
//! a new case cannot compile unhandled. Run time, recovery, operators and the auditor all use it.
//!
//! Invariants:
//! - No combination leads to COMMIT PREPARED unless home has a commit row that names the shard,
//!   nor to ROLLBACK PREPARED unless home has a row, any row, that does not.
//! - Doing an action and asking again leads to rest or to waiting, never to the opposite.
//! - What could not be learned is a value ([`HomeSays::Unreachable`], [`ShardShows::Busy`]) and
//!   never leads to a change.
//!
//! Failure model: both sides may be read at different moments. A decision, once read behind a
//! barrier (R6), is final, so only what the shard shows may be stale; where a stale look could
//! be mistaken for damage, the action is to look again first.

use crate::message::{Decision, FinishKind, RegisterAnswer};
use crate::names::ShardTag;

/// What home's register says about a batch, from the point of view of one shard. A decision
/// counts only when it was read behind a barrier (R6).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum HomeSays {
    /// A commit row that names the shard.
    CommitNamesShard,
    /// A commit row that does not name the shard.
    CommitOmitsShard,
    /// An abort row.
    Abort,
    /// No row.
    NoRow,
    /// Rows of that age have been dropped (R14): nothing can be concluded.
    BelowFloor,
    /// No answer, or an answer from another life of that home (R13).
    Unreachable,
}

/// What the shard shows of the branch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ShardShows {
    /// It is prepared.
    Prepared,
    /// It is being prepared or finished, or waits for replication (SQLSTATE 55000).
    Busy,
    /// It is not prepared, and its branch row is there: it was applied (R1).
    BranchRow,
    /// It is not prepared, and there is no branch row.
    Nothing,
}

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action {
    /// `COMMIT PREPARED`.
    Commit,
    /// `ROLLBACK PREPARED`.
    Rollback,
    /// `ROLLBACK PREPARED`, and an alarm: the coordinator left out a shard that it had prepared.
    RollbackWithAlarm,
    /// Force an abort row at home, which waits for a decide in flight, and read again (R7).
    ForceAbort,
    /// Nothing automatic: alarm, and leave it to an operator.
    AskOperator,
    /// Ask home again later; block nothing else.
    Wait,
    /// Look at the shard again.
    LookAgain,
    /// Look at the shard again behind a barrier; if it still shows nothing, it is
    /// [`DamageKind::LostBranch`].
    ConfirmLost,
    /// Record damage; no action of Gavel's can mend it.
    Damage(DamageKind),
    /// The branch is over, as decided.
    Rest,
}

/// Ways in which atomicity can be found broken. The spelling is stored in `gavel.damage`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum DamageKind {
    /// Home committed, but the branch is neither prepared nor applied: somebody rolled it back
    /// by hand, or the shard lost it in a failover or restore.
    LostBranch,
    /// The branch was applied, but home aborted: somebody committed it by hand.
    AppliedButAborted,
    /// The branch was applied, but home knows of no decision: somebody committed it by hand, or
    /// home lost its decision in a failover or restore.
    AppliedButUndecided,
    /// The branch was applied, but the commit decision does not name its shard.
    AppliedButUnnamed,
}

impl DamageKind {
    /// The stable spelling.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::LostBranch => "commit_lost",
            Self::AppliedButAborted => "abort_applied",
            Self::AppliedButUndecided => "undecided_applied",
            Self::AppliedButUnnamed => "unnamed_applied",
        }
    }
}

/// One case of the recovery table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row {
    /// What this case is, for people.
    pub label: &'static str,
    /// Any of these at home…
    pub home: &'static [HomeSays],
    /// …with any of these on the shard…
    pub shard: &'static [ShardShows],
    /// …leads to this.
    pub action: Action,
}

/// The recovery table. Every combination is in exactly one row.
pub const TABLE: &[Row] = {
    use HomeSays::{Abort, BelowFloor, CommitNamesShard, CommitOmitsShard, NoRow, Unreachable};
    use ShardShows::{BranchRow, Busy, Nothing, Prepared};
    &[
        row(
            "decided to commit",
            &[CommitNamesShard],
            &[Prepared],
            Action::Commit,
        ),
        row("applied", &[CommitNamesShard], &[BranchRow], Action::Rest),
        row(
            "committed, but gone from the shard",
            &[CommitNamesShard],
            &[Nothing],
            Action::ConfirmLost,
        ),
        row(
            "committed without this shard",
            &[CommitOmitsShard],
            &[Prepared],
            Action::RollbackWithAlarm,
        ),
        row(
            "applied, although the commit does not name the shard",
            &[CommitOmitsShard],
            &[BranchRow],
            Action::Damage(DamageKind::AppliedButUnnamed),
        ),
        row("decided to abort", &[Abort], &[Prepared], Action::Rollback),
        row(
            "applied, although aborted",
            &[Abort],
            &[BranchRow],
            Action::Damage(DamageKind::AppliedButAborted),
        ),
        row("undecided", &[NoRow], &[Prepared], Action::ForceAbort),
        row(
            "applied, although undecided",
            &[NoRow],
            &[BranchRow],
            Action::Damage(DamageKind::AppliedButUndecided),
        ),
        row(
            "nothing was to be done, and nothing was",
            &[CommitOmitsShard, Abort, NoRow],
            &[Nothing],
            Action::Rest,
        ),
        row(
            "somebody is at it",
            &[CommitNamesShard, CommitOmitsShard, Abort, NoRow, BelowFloor],
            &[Busy],
            Action::LookAgain,
        ),
        row(
            "prepared, but the decision is not kept any more",
            &[BelowFloor],
            &[Prepared],
            Action::AskOperator,
        ),
        row(
            "over, and too old to compare",
            &[BelowFloor],
            &[BranchRow, Nothing],
            Action::Rest,
        ),
        row(
            "home cannot be asked",
            &[Unreachable],
            &[Prepared, Busy, BranchRow, Nothing],
            Action::Wait,
        ),
    ]
};

const fn row(
    label: &'static str,
    home: &'static [HomeSays],
    shard: &'static [ShardShows],
    action: Action,
) -> Row {
    Row {
        label,
        home,
        shard,
        action,
    }
}

/// What to do when home says `home` and the shard shows `shard`.
pub fn action(home: HomeSays, shard: ShardShows) -> Action {
    match home {
        HomeSays::CommitNamesShard => match shard {
            ShardShows::Prepared => Action::Commit,
            ShardShows::Busy => Action::LookAgain,
            ShardShows::BranchRow => Action::Rest,
            ShardShows::Nothing => Action::ConfirmLost,
        },
        HomeSays::CommitOmitsShard => match shard {
            ShardShows::Prepared => Action::RollbackWithAlarm,
            ShardShows::Busy => Action::LookAgain,
            ShardShows::BranchRow => Action::Damage(DamageKind::AppliedButUnnamed),
            ShardShows::Nothing => Action::Rest,
        },
        HomeSays::Abort => match shard {
            ShardShows::Prepared => Action::Rollback,
            ShardShows::Busy => Action::LookAgain,
            ShardShows::BranchRow => Action::Damage(DamageKind::AppliedButAborted),
            ShardShows::Nothing => Action::Rest,
        },
        HomeSays::NoRow => match shard {
            ShardShows::Prepared => Action::ForceAbort,
            ShardShows::Busy => Action::LookAgain,
            ShardShows::BranchRow => Action::Damage(DamageKind::AppliedButUndecided),
            ShardShows::Nothing => Action::Rest,
        },
        HomeSays::BelowFloor => match shard {
            ShardShows::Prepared => Action::AskOperator,
            ShardShows::Busy => Action::LookAgain,
            ShardShows::BranchRow | ShardShows::Nothing => Action::Rest,
        },
        HomeSays::Unreachable => match shard {
            ShardShows::Prepared
            | ShardShows::Busy
            | ShardShows::BranchRow
            | ShardShows::Nothing => Action::Wait,
        },
    }
}

impl HomeSays {
    /// What `answer` means for `shard`.
    pub fn about(answer: &RegisterAnswer, shard: ShardTag) -> Self {
        match answer {
            RegisterAnswer::Decision(Decision::Commit { prepared }) => {
                if prepared.contains(&shard) {
                    Self::CommitNamesShard
                } else {
                    Self::CommitOmitsShard
                }
            }
            RegisterAnswer::Decision(Decision::Abort) => Self::Abort,
            RegisterAnswer::NoRow => Self::NoRow,
            RegisterAnswer::BelowFloor => Self::BelowFloor,
            RegisterAnswer::OtherIncarnation { .. } | RegisterAnswer::Unreachable { .. } => {
                Self::Unreachable
            }
        }
    }
}

impl Action {
    /// How this action ends a prepared branch, if it does.
    pub fn finish(self) -> Option<FinishKind> {
        match self {
            Self::Commit => Some(FinishKind::Commit),
            Self::Rollback | Self::RollbackWithAlarm => Some(FinishKind::Rollback),
            Self::ForceAbort
            | Self::AskOperator
            | Self::Wait
            | Self::LookAgain
            | Self::ConfirmLost
            | Self::Damage(_)
            | Self::Rest => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOMES: [HomeSays; 6] = [
        HomeSays::CommitNamesShard,
        HomeSays::CommitOmitsShard,
        HomeSays::Abort,
        HomeSays::NoRow,
        HomeSays::BelowFloor,
        HomeSays::Unreachable,
    ];
    const SHARDS: [ShardShows; 4] = [
        ShardShows::Prepared,
        ShardShows::Busy,
        ShardShows::BranchRow,
        ShardShows::Nothing,
    ];

    fn combinations() -> impl Iterator<Item = (HomeSays, ShardShows)> {
        HOMES
            .into_iter()
            .flat_map(|home| SHARDS.into_iter().map(move |shard| (home, shard)))
    }

    #[test]
    fn table_and_function_agree_and_cover_every_combination_once() {
        for (home, shard) in combinations() {
            let rows: Vec<&Row> = TABLE
                .iter()
                .filter(|row| row.home.contains(&home) && row.shard.contains(&shard))
                .collect();
            assert_eq!(rows.len(), 1, "{home:?} {shard:?}: {rows:?}");
            assert_eq!(rows[0].action, action(home, shard), "{}", rows[0].label);
        }
        let labels: std::collections::BTreeSet<_> = TABLE.iter().map(|row| row.label).collect();
        assert_eq!(labels.len(), TABLE.len(), "labels are names");
    }

    #[test]
    fn only_a_row_at_home_ends_a_prepared_branch() {
        for (home, shard) in combinations() {
            let expected = match (home, shard) {
                (HomeSays::CommitNamesShard, ShardShows::Prepared) => Some(FinishKind::Commit),
                (HomeSays::CommitOmitsShard | HomeSays::Abort, ShardShows::Prepared) => {
                    Some(FinishKind::Rollback)
                }
                _ => None,
            };
            assert_eq!(action(home, shard).finish(), expected, "{home:?} {shard:?}");
        }
    }

    /// What home may say later, having said `home` now and having been forced if `forced`.
    fn later(home: HomeSays, forced: bool) -> Vec<HomeSays> {
        let mut later = vec![HomeSays::Unreachable];
        match home {
            HomeSays::NoRow if forced => later.extend([
                HomeSays::Abort,
                HomeSays::CommitNamesShard,
                HomeSays::CommitOmitsShard,
            ]),
            HomeSays::Unreachable => later.extend(HOMES),
            said => later.extend([said, HomeSays::BelowFloor]),
        }
        later
    }

    /// What the shard may show right after `done`.
    fn after(done: Action, shard: ShardShows) -> Vec<ShardShows> {
        match done.finish() {
            Some(FinishKind::Commit) => vec![ShardShows::BranchRow, ShardShows::Busy],
            Some(FinishKind::Rollback) => vec![ShardShows::Nothing, ShardShows::Busy],
            None => vec![shard],
        }
    }

    #[test]
    fn acting_and_asking_again_comes_to_rest_and_never_turns_round() {
        for (home, shard) in combinations() {
            let first = action(home, shard);
            let Some(kind) = first.finish() else { continue };
            for next_home in later(home, false) {
                for next_shard in after(first, shard) {
                    let second = action(next_home, next_shard);
                    assert!(
                        matches!(second, Action::Rest | Action::Wait | Action::LookAgain),
                        "{kind:?}, then {next_home:?} {next_shard:?}: {second:?}"
                    );
                }
            }
        }
    }

    #[test]
    fn a_forced_abort_leads_to_an_end() {
        let forced = action(HomeSays::NoRow, ShardShows::Prepared);
        assert_eq!(forced, Action::ForceAbort);
        for home in later(HomeSays::NoRow, true) {
            let second = action(home, ShardShows::Prepared);
            assert!(
                second.finish().is_some() || second == Action::Wait,
                "{home:?}"
            );
        }
    }

    #[test]
    fn what_was_not_learned_changes_nothing() {
        for shard in SHARDS {
            assert_eq!(action(HomeSays::Unreachable, shard), Action::Wait);
        }
        for home in HOMES {
            let told = action(home, ShardShows::Busy);
            assert!(matches!(told, Action::LookAgain | Action::Wait), "{home:?}");
        }
    }

    #[test]
    fn a_commit_is_read_for_one_shard() {
        let answer = RegisterAnswer::Decision(Decision::Commit {
            prepared: vec![ShardTag(2), ShardTag(7)],
        });
        assert_eq!(
            HomeSays::about(&answer, ShardTag(7)),
            HomeSays::CommitNamesShard
        );
        assert_eq!(
            HomeSays::about(&answer, ShardTag(3)),
            HomeSays::CommitOmitsShard
        );
    }
}
