//! What a case draws: transactions that succeed, fail, and depend on each other.

use proptest::prelude::*;

/// Shards with data. One more only decides.
pub(crate) const SHARDS: usize = 2;
/// In one group everybody can depend on everybody, and every order of them is tried.
const GROUP_MAX: usize = 6;
/// The most that an account begins with, and that is added or taken.
const AMOUNT_MAX: i64 = 2;

/// Members that are submitted at the same time, in this order.
#[derive(Debug, Clone)]
pub(crate) struct Case {
    /// How many members a batch may have: one of the coordinators' sizes, by place.
    pub(crate) size: prop::sample::Index,
    /// What each group's accounts begin with.
    pub(crate) groups: Vec<[i64; SHARDS]>,
    pub(crate) members: Vec<Member>,
}

/// One transaction.
#[derive(Debug, Clone)]
pub(crate) struct Member {
    /// Whose accounts and keys it uses; nobody else's.
    pub(crate) group: usize,
    pub(crate) shape: Shape,
    /// What it does on each shard on which it works, in order.
    pub(crate) steps: Vec<(usize, Step)>,
    /// Whether it is submitted twice at the same time, under the same txid.
    pub(crate) is_doubled: bool,
}

/// Where home is, and where there is work. Each is a lane of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    /// Work on both shards, home is the first.
    HomeFirst,
    /// Work on both shards, home is the second.
    HomeSecond,
    /// Work on both shards; a third one only decides, so that both are prepared.
    HomeElsewhere,
    /// Work on the second shard; the first only decides.
    HomeDecides,
    /// Work at home alone: no two-phase commit.
    Local,
}

/// Something that a transaction does on a shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// Changes its group's account, which must not become negative: a guard sees to that. What
    /// takes money may need what an earlier member brings.
    Add(i64),
    /// Inserts its group's key, which is unique.
    Claim,
    /// The same where the constraint is deferred to PREPARE or COMMIT.
    ClaimLate,
    /// A guard that does not hold.
    FailGuard,
    /// An error of PostgreSQL.
    FailSql,
    /// A deferred constraint that fails at PREPARE or COMMIT.
    FailLate,
}

impl Shape {
    /// The place of the shard that records the outcome.
    pub(crate) fn home(self) -> usize {
        match self {
            Self::HomeFirst | Self::HomeDecides | Self::Local => 0,
            Self::HomeSecond => 1,
            Self::HomeElsewhere => SHARDS,
        }
    }

    pub(crate) fn works_on(self, shard: usize) -> bool {
        match self {
            Self::HomeFirst | Self::HomeSecond | Self::HomeElsewhere => true,
            Self::HomeDecides => shard == 1,
            Self::Local => shard == 0,
        }
    }
}

impl Member {
    /// What it does on this shard.
    pub(crate) fn steps_on(&self, shard: usize) -> impl Iterator<Item = Step> + '_ {
        let steps = self.steps.iter().filter(move |(on, _)| *on == shard);
        let steps = steps.map(|(_, step)| *step);
        steps.filter(move |_| self.shape.works_on(shard))
    }
}

pub(crate) fn case() -> impl Strategy<Value = Case> {
    let groups = prop_oneof![group(1..=GROUP_MAX), poisoned_group()];
    let groups = prop::collection::vec(groups, 1..=6);
    // Independent members, some of which fail, around those that fight for something.
    let loners = prop::collection::vec(group(1..=1), 1..=16);
    let shapes = prop_oneof![
        3 => shape().prop_map(|shape| vec![shape]),
        1 => prop::collection::vec(shape(), 2),
    ];
    let parts = (any::<prop::sample::Index>(), groups, loners, shapes);
    parts.prop_flat_map(|(size, mut groups, loners, shapes)| {
        groups.extend(loners);
        let mut members = Vec::new();
        for (group, (_, plans)) in groups.iter().enumerate() {
            members.extend(plans.iter().map(|plan| Member {
                group,
                shape: *plan.shape.get(&shapes),
                steps: plan.steps.clone(),
                is_doubled: plan.is_doubled,
            }));
        }
        let initial: Vec<[i64; SHARDS]> = groups.into_iter().map(|(initial, _)| initial).collect();
        (Just(size), Just(initial), Just(members).prop_shuffle()).prop_map(
            |(size, groups, members)| Case {
                size,
                groups,
                members,
            },
        )
    })
}

#[derive(Debug, Clone)]
struct Plan {
    shape: prop::sample::Index,
    steps: Vec<(usize, Step)>,
    is_doubled: bool,
}

fn group(
    sizes: std::ops::RangeInclusive<usize>,
) -> impl Strategy<Value = ([i64; SHARDS], Vec<Plan>)> {
    let initial = prop::array::uniform2(0..=AMOUNT_MAX);
    (initial, prop::collection::vec(plan(), sizes))
}

/// A member that takes what others want on one shard, and fails on the other; and those others,
/// who must come to what they would have come to without it.
fn poisoned_group() -> impl Strategy<Value = ([i64; SHARDS], Vec<Plan>)> {
    let wanted = prop_oneof![
        Just((Step::Claim, Step::Claim)),
        Just((Step::ClaimLate, Step::ClaimLate)),
        // All that is there; a part of it.
        Just((Step::Add(-AMOUNT_MAX), Step::Add(-1))),
    ];
    let fails = prop_oneof![
        Just(Step::FailGuard),
        Just(Step::FailSql),
        Just(Step::FailLate)
    ];
    let parts = (
        0..SHARDS,
        wanted,
        fails,
        any::<prop::sample::Index>(),
        1..=2_usize,
    );
    parts.prop_map(|(shard, (taken, wanted), fails, shape, others)| {
        let plan = |steps: Vec<(usize, Step)>| Plan {
            shape,
            steps,
            is_doubled: false,
        };
        let poison = plan(vec![(shard, taken), (1 - shard, fails)]);
        let others = (0..others).map(|_| plan(vec![(shard, wanted)]));
        let plans = std::iter::once(poison).chain(others).collect();
        ([AMOUNT_MAX; SHARDS], plans)
    })
}

fn plan() -> impl Strategy<Value = Plan> {
    let steps = prop::collection::vec((0..SHARDS, step()), 0..=3);
    let parts = (
        any::<prop::sample::Index>(),
        steps,
        prop::bool::weighted(0.1),
    );
    parts.prop_map(|(shape, steps, is_doubled)| Plan {
        shape,
        steps,
        is_doubled,
    })
}

fn shape() -> impl Strategy<Value = Shape> {
    prop_oneof![
        3 => Just(Shape::HomeFirst),
        1 => Just(Shape::HomeSecond),
        4 => Just(Shape::HomeElsewhere),
        1 => Just(Shape::HomeDecides),
        1 => Just(Shape::Local),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        10 => (-AMOUNT_MAX..=AMOUNT_MAX).prop_map(Step::Add),
        3 => Just(Step::Claim),
        2 => Just(Step::ClaimLate),
        1 => Just(Step::FailGuard),
        1 => Just(Step::FailSql),
        1 => Just(Step::FailLate),
    ]
}
