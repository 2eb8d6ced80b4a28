//! I10 over real servers, with generated batches: whatever succeeds and fails beside it, each
//! member comes to what it would have come to alone, or after those before it that committed.
//!
//! A case is a crowd of transactions that are submitted at the same time, so that they share
//! batches as large as the case's size allows. Most have rows of their own; a few groups fight
//! for a balance or a key. The oracle (`model.rs`) looks for an order of each group's members that
//! explains every answer with its reason, and ends with the rows that the databases show.
//!
//! `PROPTEST_CASES=1000` runs more cases than every test run does; `GAVEL_TEST_BATCH_MEMBERS=60`
//! gives all of them that size.

mod case;
mod model;
mod stage;

use std::cell::RefCell;
use std::collections::BTreeMap;

use proptest::test_runner::{Config, TestCaseError, TestRunner};

use case::{Case, case};
use model::explain;
use stage::{Played, Stage};

const CASES: u32 = 64;
/// Every attempt at a smaller case that fails runs on the servers as well.
const SHRINK_ITERS_MAX: u32 = 40;

/// How many batches had so many members, by how many they might have.
type Sizes = BTreeMap<usize, BTreeMap<u64, u64>>;

#[test]
fn i10_each_member_comes_to_what_it_would_have_come_to_after_its_predecessors() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    let stage = runtime.block_on(Stage::start());
    let sizes: RefCell<Sizes> = RefCell::default();
    let mut config = Config {
        failure_persistence: None,
        max_shrink_iters: SHRINK_ITERS_MAX,
        ..Config::default()
    };
    if std::env::var_os("PROPTEST_CASES").is_none() {
        config.cases = CASES;
    }
    let cases = config.cases;
    let mut runner = TestRunner::new(config);
    let result = runner.run(&case(), |case| {
        let judged = runtime.block_on(play_and_judge(&stage, &case));
        let played = judged.map_err(TestCaseError::fail)?;
        let mut sizes = sizes.borrow_mut();
        let counts = sizes.entry(played.members_max).or_default();
        for (members, batches) in played.batches {
            *counts.entry(members).or_default() += batches;
        }
        Ok(())
    });
    result.unwrap_or_else(|found| panic!("{found}"));
    assert_eq!(runtime.block_on(stage.prepared()), [].into(), "I6");
    let sizes = sizes.into_inner();
    println!("{cases} cases; how many batches had how many members, by their most: {sizes:?}");
    assert_batches_were_shared(&sizes);
}

async fn play_and_judge(stage: &Stage, case: &Case) -> Result<Played, String> {
    let played = stage.play(case).await?;
    stage.check_recorded(case, &played).await?;
    let shown = stage.rows(case, &played).await;
    for (group, shown) in shown.iter().enumerate() {
        let members = || -> Vec<_> {
            let all = case.members.iter().zip(&played.told);
            all.filter(|(member, _)| member.group == group).collect()
        };
        let Some(expected) = explain(case, &played.told, group) else {
            let (initial, members) = (case.groups[group], members());
            return Err(format!(
                "I10: no order explains {members:#?} from {initial:?}"
            ));
        };
        if expected != *shown {
            let members = members();
            return Err(format!(
                "I4, I5: {shown:?} instead of {expected:?}: {members:#?}"
            ));
        }
    }
    Ok(played)
}

/// Members that travel alone show nothing about neighbours.
fn assert_batches_were_shared(sizes: &Sizes) {
    for (members_max, counts) in sizes {
        let largest = counts.keys().copied().max().unwrap_or_default();
        let wanted = u64::try_from(*members_max).expect("a size").min(5);
        assert!(largest >= wanted, "batches of {members_max}: {counts:?}");
        assert!(
            largest <= *members_max as u64,
            "batches of {members_max}: {counts:?}"
        );
    }
}
