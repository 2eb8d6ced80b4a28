//! Random stories: several batches at once, some with the same transactions, over fake shards.
//! Messages are lost before and after delivery, delayed, doubled; resolvers and scans interfere;
//! members fail in every way. Then faults stop, and the whole must be as promised.

mod runs;
mod shards;

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use runs::World;
use shards::{Branch, Nature, Row, Shards, Tape, Who};

const WHO_MAX: Who = 6;

fn shard() -> impl Strategy<Value = ShardTag> {
    prop::sample::select(vec![A, B, READER, HOME])
}

fn nature() -> impl Strategy<Value = Nature> {
    prop_oneof![
        4 => Just(Nature::Fine),
        1 => shard().prop_map(Nature::Fails),
        1 => shard().prop_map(Nature::Deferred),
        2 => (shard(), 0..WHO_MAX).prop_map(|(on, other)| Nature::FailsAfter(on, other)),
        2 => (shard(), 0..WHO_MAX).prop_map(|(on, other)| Nature::Needs(on, other)),
    ]
}

fn members() -> impl Strategy<Value = Vec<Who>> {
    prop::sample::subsequence((0..WHO_MAX).collect::<Vec<_>>(), 1..=WHO_MAX).prop_shuffle()
}

#[derive(Debug, Clone)]
struct Story {
    natures: Vec<Nature>,
    prepared: Vec<ShardTag>,
    read_only: Vec<ShardTag>,
    submissions: Vec<Vec<Who>>,
    home_first: bool,
    choices: Vec<u8>,
}

impl Story {
    fn play(&self) -> World {
        let mut world = World::new(
            Shards::new(self.natures.clone()),
            self.prepared.clone(),
            self.read_only.clone(),
            self.submissions.clone(),
            self.home_first,
            Tape::new(self.choices.clone()),
        );
        world.run();
        world
    }

    /// Whether a transaction's own nature keeps it from committing.
    fn must_fail(&self, who: Who) -> bool {
        match self.natures[who] {
            Nature::Fine | Nature::FailsAfter(..) | Nature::Needs(..) => false,
            Nature::Fails(on) | Nature::Deferred(on) => self.takes_part(on),
        }
    }

    fn takes_part(&self, shard: ShardTag) -> bool {
        shard == HOME || self.prepared.contains(&shard) || self.read_only.contains(&shard)
    }
}

fn story(choices_max: usize) -> impl Strategy<Value = Story> {
    (
        prop::collection::vec(nature(), WHO_MAX),
        prop::sample::subsequence(vec![A, B], 0..=2),
        prop::sample::subsequence(vec![READER], 0..=1),
        prop::collection::vec(members(), 1..=3),
        any::<bool>(),
        prop::collection::vec(any::<u8>(), 0..=choices_max),
    )
        .prop_map(
            |(natures, prepared, read_only, submissions, home_first, choices)| Story {
                natures,
                prepared,
                read_only,
                submissions,
                home_first,
                choices,
            },
        )
}

/// I1 and I6: at rest, a batch is applied on all of its shards or on none, and none is prepared.
fn check_branches(world: &World) {
    for ((batch, shard), branch) in &world.shards.branches {
        let Branch::Applied { executed: applied } = branch else {
            panic!("I6: {batch} is still prepared on {shard}");
        };
        let Some(Row::Commit { executed, .. }) = world.shards.register.get(batch) else {
            panic!("I1: {batch} is applied on {shard}, but not committed");
        };
        assert_eq!(applied, executed, "I1: {batch} on {shard}");
    }
    for (batch, row) in &world.shards.register {
        let Row::Commit { prepared, .. } = row else {
            continue;
        };
        for shard in prepared {
            let key = (*batch, *shard);
            assert!(world.shards.branches.contains_key(&key), "I1: {key:?}");
        }
    }
}

/// I5: a transaction is in one committed batch at most, and its row says so.
fn check_exactly_once(world: &World) {
    let mut committed = BTreeSet::new();
    for row in world.shards.register.values() {
        let Row::Commit { executed, .. } = row else {
            continue;
        };
        for who in executed {
            assert!(committed.insert(*who), "I5: {who} has committed twice");
        }
    }
    for who in 0..WHO_MAX {
        let row = world.shards.transactions.get(&who);
        let is_recorded = row == Some(&Recorded::Committed);
        assert_eq!(is_recorded, committed.contains(&who), "I5: {who}");
    }
}

/// Every submission heard one answer (and each was checked when it was told), I2: none of them
/// contradicts what is recorded in the end.
fn check_answers(story: &Story, world: &World) {
    for who in 0..WHO_MAX {
        let submissions = story.submissions.iter();
        let submitted = submissions.filter(|members| members.contains(&who)).count();
        let heard = world.heard.get(&who).map_or(&[][..], Vec::as_slice);
        assert_eq!(heard.len(), submitted, "{who} heard {heard:?}");
        let row = world.shards.transactions.get(&who);
        for (batch, verdict) in heard {
            let stays = match verdict {
                Verdict::Committed => row == Some(&Recorded::Committed),
                Verdict::Aborted(reason) => row == Some(&Recorded::Aborted(reason.clone())),
                Verdict::Recorded(record) => row == Some(record),
                Verdict::Refused(_) => true,
                Verdict::InDoubt(_) => false,
            };
            assert!(stays, "I2: {who} heard {verdict:?} of {batch}, now {row:?}");
        }
    }
}

/// I10: a failure is a transaction's own, or the work of a neighbour that has committed; and who
/// needs another's work commits only after it.
fn check_independence(story: &Story, world: &World) {
    let has_committed = |who: Who| {
        let row = world.shards.transactions.get(&who);
        row == Some(&Recorded::Committed)
    };
    for (who, record) in &world.shards.transactions {
        let nature = story.natures[*who];
        let expected = match (record, nature) {
            (Recorded::Committed, Nature::Needs(on, other)) => {
                !story.takes_part(on) || has_committed(other)
            }
            (Recorded::Committed, _) => !story.must_fail(*who),
            (Recorded::Aborted(_), Nature::FailsAfter(_, other)) => has_committed(other),
            (Recorded::Aborted(_), Nature::Needs(on, _)) => story.takes_part(on),
            (Recorded::Aborted(_), _) => story.must_fail(*who),
            (Recorded::OtherContent | Recorded::OtherPrincipal, _) => false,
        };
        assert!(expected, "I10: {who} is {nature:?}, and is {record:?}");
    }
}

/// I10: some order of all transactions explains every outcome: each comes to what it would have
/// come to after those before it that committed. For stories in which no two batches of
/// strangers overlap: here are no row locks that would keep these in one order.
fn check_some_order(story: &Story, world: &World) {
    let record = |who: Who| world.shards.transactions.get(&who);
    // Who must come before whom.
    let mut edges: BTreeSet<(Who, Who)> = BTreeSet::new();
    for who in 0..WHO_MAX {
        let has_committed = record(who) == Some(&Recorded::Committed);
        let (other, saw) = match story.natures[who] {
            Nature::FailsAfter(on, other) if story.takes_part(on) => (other, !has_committed),
            Nature::Needs(on, other) if story.takes_part(on) => (other, has_committed),
            _ => continue,
        };
        let other_counts = record(other) == Some(&Recorded::Committed) && other != who;
        if record(who).is_some() && other_counts {
            edges.insert(if saw { (other, who) } else { (who, other) });
        }
    }
    let mut left: BTreeSet<Who> = (0..WHO_MAX).collect();
    while !left.is_empty() {
        let is_first = |who: &&Who| {
            let mut others = left.iter();
            !others.any(|other| edges.contains(&(*other, **who)))
        };
        let first = left.iter().find(is_first).copied();
        let first = first.unwrap_or_else(|| panic!("I10: no order explains {edges:?}: {world:?}"));
        left.remove(&first);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2500))]

    #[test]
    fn i1_to_i10_hold_whatever_happens(story in story(160)) {
        let world = story.play();
        check_branches(&world);
        check_exactly_once(&world);
        check_answers(&story, &world);
        check_independence(&story, &world);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn i7_without_faults_everybody_ends_as_its_nature_is(story in story(0)) {
        let story = Story { submissions: story.submissions[..1].to_vec(), ..story };
        let world = story.play();
        for who in &story.submissions[0] {
            let row = world.shards.transactions.get(who);
            match story.natures[*who] {
                Nature::FailsAfter(..) | Nature::Needs(..) => prop_assert!(row.is_some()),
                _ if story.must_fail(*who) => {
                    prop_assert_eq!(row, Some(&Recorded::Aborted(guard())));
                }
                _ => prop_assert_eq!(row, Some(&Recorded::Committed)),
            }
        }
        check_independence(&story, &world);
        check_some_order(&story, &world);
    }
}
