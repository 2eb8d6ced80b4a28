//! The oracle: what every member would have come to, one after the other in some order.

use gavel_protocol::AbortReason;

use crate::case::{Case, Member, SHARDS, Step};

/// What the rows of one group are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rows {
    pub(crate) balances: [i64; SHARDS],
    pub(crate) claims: [u64; SHARDS],
    pub(crate) late_claims: [u64; SHARDS],
}

/// A final answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Told {
    Committed,
    Aborted(AbortReason),
}

/// Why a member fails, as clients are told it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Failure {
    shard: usize,
    /// None for a guard.
    sqlstate: Option<&'static str>,
}

impl Rows {
    pub(crate) fn new(balances: [i64; SHARDS]) -> Self {
        Self {
            balances,
            claims: [0; SHARDS],
            late_claims: [0; SHARDS],
        }
    }

    /// Runs a member alone. Its branches run at the same time, so the failure of either may be
    /// told.
    fn run(&self, member: &Member) -> Result<Self, Vec<Failure>> {
        let mut after = self.clone();
        let branches = (0..SHARDS).map(|shard| after.run_branch(member, shard));
        let failures: Vec<Failure> = branches.flatten().collect();
        match failures.is_empty() {
            true => Ok(after),
            false => Err(failures),
        }
    }

    /// What fails. The statements of a member go to the server together, and the guards are judged
    /// when all have answered: so an error may follow a guard that does not hold, and be told.
    fn run_branch(&mut self, member: &Member, shard: usize) -> Vec<Failure> {
        let fail = |sqlstate| Failure { shard, sqlstate };
        let mut failures = Vec::new();
        for step in member.steps_on(shard) {
            let failure = match step {
                Step::Add(amount) => {
                    let after = self.balances[shard] + amount;
                    if after >= 0 {
                        self.balances[shard] = after;
                    }
                    (after < 0).then_some(None)
                }
                Step::Claim => {
                    self.claims[shard] += 1;
                    (self.claims[shard] > 1).then_some(Some("23505"))
                }
                Step::ClaimLate => {
                    self.late_claims[shard] += 1;
                    (self.late_claims[shard] > 1).then_some(Some("23505"))
                }
                Step::FailGuard => Some(None),
                Step::FailSql => Some(Some("22012")),
                Step::FailLate => Some(Some("23503")),
            };
            failures.extend(failure.map(fail));
            let is_error = matches!(step, Step::Claim | Step::FailSql);
            if is_error && failure.is_some() {
                // Nothing is executed after it, and no deferred constraint is checked.
                failures.retain(|each| *each == fail(None) || Some(each.sqlstate) == failure);
                break;
            }
        }
        failures
    }
}

impl Failure {
    fn is(self, reason: &AbortReason) -> bool {
        let shard = reason.shard.map(|tag| usize::from(tag.0) - 1);
        shard == Some(self.shard) && reason.sqlstate.as_deref() == self.sqlstate
    }
}

/// Whether there is an order of this group's members in which each, run alone after those before
/// it that committed, comes to what was told. Gives the rows after them.
pub(crate) fn explain(case: &Case, told: &[Told], group: usize) -> Option<Rows> {
    let members = case.members.iter().zip(told);
    let members: Vec<(&Member, &Told)> = members
        .filter(|(member, _)| member.group == group)
        .collect();
    let (committed, aborted) = members
        .into_iter()
        .partition(|(_, told)| **told == Told::Committed);
    search(&Rows::new(case.groups[group]), committed, aborted)
}

type Answered<'a> = Vec<(&'a Member, &'a Told)>;

/// Goes on from these rows with each member that may be next.
fn search(rows: &Rows, committed: Answered<'_>, mut aborted: Answered<'_>) -> Option<Rows> {
    // An aborted member changes nothing: it can be put at the first place where it fails so.
    aborted.retain(|(member, told)| match (rows.run(member), told) {
        (Err(failures), Told::Aborted(reason)) => !failures.iter().any(|each| each.is(reason)),
        _ => true,
    });
    if committed.is_empty() {
        return aborted.is_empty().then(|| rows.clone());
    }
    (0..committed.len()).find_map(|next| {
        let after = rows.run(committed[next].0).ok()?;
        let mut rest = committed.clone();
        rest.remove(next);
        search(&after, rest, aborted.clone())
    })
}

#[cfg(test)]
mod tests {
    use gavel_protocol::{AbortCode, ShardTag};

    use super::*;
    use crate::case::Shape;

    fn member(steps: &[(usize, Step)]) -> Member {
        Member {
            group: 0,
            shape: Shape::HomeFirst,
            steps: steps.to_vec(),
            is_doubled: false,
        }
    }

    fn aborted(sqlstate: Option<&str>) -> Told {
        let mut reason = AbortReason::new(AbortCode::GuardFailed, "");
        reason.shard = Some(ShardTag(1));
        reason.sqlstate = sqlstate.map(str::to_owned);
        Told::Aborted(reason)
    }

    fn is_explained(members: &[&[(usize, Step)]], told: &[Told]) -> bool {
        let case = Case {
            size: any_index(),
            groups: vec![[0, 0]],
            members: members.iter().map(|steps| member(steps)).collect(),
        };
        explain(&case, told, 0).is_some()
    }

    fn any_index() -> proptest::sample::Index {
        use proptest::strategy::{Strategy, ValueTree};
        let mut runner = proptest::test_runner::TestRunner::deterministic();
        let any = proptest::prelude::any::<proptest::sample::Index>();
        any.new_tree(&mut runner).expect("a value").current()
    }

    /// An oracle that says yes to everything would prove nothing.
    #[test]
    fn the_oracle_tells_right_from_wrong() {
        use Told::Committed;
        let (bring, take) = (&[(0, Step::Add(1))][..], &[(0, Step::Add(-1))][..]);
        let claim = &[(0, Step::Claim)][..];
        let claim_and_fail = &[(0, Step::Claim), (1, Step::FailSql)][..];
        let guard = || aborted(None);
        let unique = || aborted(Some("23505"));
        assert!(is_explained(&[take, bring], &[Committed, Committed]));
        assert!(is_explained(&[take, bring], &[guard(), Committed]));
        assert!(!is_explained(&[take], &[Committed]), "nothing was there");
        assert!(!is_explained(&[bring], &[guard()]), "it cannot fail");
        assert!(!is_explained(
            &[take, take, bring],
            &[Committed, Committed, Committed]
        ));
        assert!(is_explained(&[claim, claim], &[Committed, unique()]));
        assert!(!is_explained(&[claim, claim], &[unique(), unique()]));
        assert!(!is_explained(&[claim, claim], &[Committed, Committed]));
        assert!(!is_explained(&[claim, claim], &[Committed, guard()]));
        let poisoned = [
            Told::Aborted(AbortReason::new(AbortCode::GuardFailed, "")),
            unique(),
        ];
        assert!(
            !is_explained(&[claim_and_fail, claim], &poisoned),
            "I10: failed by a neighbour that did not commit"
        );
    }
}
