//! The recovery table, carried out: by several resolvers at once, with looks that have grown old
//! by the time they are acted on.

use gavel_protocol::message::FinishKind;
use gavel_protocol::recovery::{Action, HomeSays, ShardShows, action};
use proptest::collection::vec;
use proptest::prelude::*;

/// The decision at home.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Decision {
    Commit,
    CommitWithout,
    Abort,
}

/// One branch, where it is, and its batch's decision.
#[derive(Debug, Clone, PartialEq, Eq)]
struct World {
    decision: Option<Decision>,
    shard: ShardShows,
}

impl World {
    fn home(&self) -> HomeSays {
        match self.decision {
            None => HomeSays::NoRow,
            Some(Decision::Commit) => HomeSays::CommitNamesShard,
            Some(Decision::CommitWithout) => HomeSays::CommitOmitsShard,
            Some(Decision::Abort) => HomeSays::Abort,
        }
    }

    /// What PostgreSQL makes of an action. COMMIT PREPARED and ROLLBACK PREPARED of what is not
    /// prepared, and an abort where a row is already, change nothing.
    fn apply(&mut self, action: Action) {
        match action.finish() {
            Some(FinishKind::Commit) if self.shard == ShardShows::Prepared => {
                self.shard = ShardShows::BranchRow;
            }
            Some(FinishKind::Rollback) if self.shard == ShardShows::Prepared => {
                self.shard = ShardShows::Nothing;
            }
            Some(_) => {}
            None if action == Action::ForceAbort => {
                self.decision.get_or_insert(Decision::Abort);
            }
            None => {}
        }
    }

    /// I1: what the shard shows is what was decided, or nothing is over yet.
    fn assert_atomic(&self) {
        if self.shard == ShardShows::BranchRow {
            assert_eq!(self.decision, Some(Decision::Commit), "{self:?}");
        }
        if self.shard == ShardShows::Nothing {
            assert_ne!(self.decision, Some(Decision::Commit), "{self:?}");
        }
    }
}

/// Who does what next. A resolver reads its shard before it asks home.
#[derive(Debug, Clone, Copy)]
enum Step {
    Decide(Decision),
    LookAtShard { resolver: usize, busy: bool },
    AskHome { resolver: usize, lost: bool },
    Act { resolver: usize },
}

const RESOLVERS: usize = 3;

fn decision() -> impl Strategy<Value = Decision> {
    proptest::sample::select(&[Decision::Commit, Decision::CommitWithout, Decision::Abort][..])
}

fn step() -> impl Strategy<Value = Step> {
    let busy = || prop::bool::weighted(0.1);
    prop_oneof![
        1 => decision().prop_map(Step::Decide),
        3 => (0..RESOLVERS, busy())
            .prop_map(|(resolver, busy)| Step::LookAtShard { resolver, busy }),
        3 => (0..RESOLVERS, busy())
            .prop_map(|(resolver, lost)| Step::AskHome { resolver, lost }),
        3 => (0..RESOLVERS).prop_map(|resolver| Step::Act { resolver }),
    ]
}

/// What one resolver has read.
#[derive(Debug, Clone, Copy, Default)]
struct Looked {
    shard: Option<ShardShows>,
    home: Option<HomeSays>,
}

impl Looked {
    fn action(self) -> Option<Action> {
        Some(action(self.home?, self.shard?))
    }
}

fn take(step: Step, world: &mut World, resolvers: &mut [Looked; RESOLVERS]) {
    match step {
        // A register: whoever comes first.
        Step::Decide(decision) => drop(world.decision.get_or_insert(decision)),
        Step::LookAtShard { resolver, busy } => {
            let shard = if busy { ShardShows::Busy } else { world.shard };
            let shard = Some(shard);
            resolvers[resolver] = Looked { shard, home: None };
        }
        Step::AskHome { resolver, lost } => {
            let home = if lost {
                HomeSays::Unreachable
            } else {
                world.home()
            };
            resolvers[resolver].home = Some(home);
        }
        Step::Act { resolver } => {
            if let Some(action) = resolvers[resolver].action() {
                assert!(
                    !matches!(action, Action::Damage(_)),
                    "{resolvers:?} {world:?}"
                );
                world.apply(action);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn i1_many_resolvers_come_to_one_end(steps in vec(step(), 0..40)) {
        let mut world = World { decision: None, shard: ShardShows::Prepared };
        let mut resolvers = [Looked::default(); RESOLVERS];
        for step in steps {
            let before = world.clone();
            take(step, &mut world, &mut resolvers);
            world.assert_atomic();
            if before.decision.is_some() {
                prop_assert_eq!(before.decision, world.decision, "I2: it never changes");
            }
        }
        for _ in 0..2 {
            world.apply(action(world.home(), world.shard));
        }
        world.assert_atomic();
        prop_assert_eq!(action(world.home(), world.shard), Action::Rest);
    }

    #[test]
    fn doing_it_twice_changes_nothing(
        decided in prop::option::of(decision()),
        shard in prop::sample::select(
            &[ShardShows::Prepared, ShardShows::BranchRow, ShardShows::Nothing][..]
        ),
        heard in prop::bool::ANY,
    ) {
        let world = World { decision: decided, shard };
        let home = if heard { world.home() } else { HomeSays::Unreachable };
        let what = action(home, shard);
        let mut once = world.clone();
        once.apply(what);
        let mut twice = once.clone();
        twice.apply(what);
        prop_assert_eq!(&once, &twice);
        if !heard {
            prop_assert_eq!(&once, &world, "what was not learned changes nothing");
        }
    }
}
