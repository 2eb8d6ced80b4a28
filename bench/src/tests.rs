//! Every variant that needs no other executable makes transfers in every scenario, on real
//! servers; `measure` fails if the audit disagrees with what clients were told.

use std::path::PathBuf;
use std::time::Duration;

use crate::load::Timing;
use crate::measure::{Case, Plan, Sample, measure};
use crate::scenario::{Pace, Place, Scenario, Styles};
use crate::variants::{Kind, Layout};
use crate::work::READ_ACCOUNTS;
use crate::world::{Upkeep, World};

const SHORT: Timing = Timing {
    warm_up: Duration::ZERO,
    window: Duration::from_millis(50),
};

async fn run(world: &World, scenario: Scenario, kind: Kind) -> Sample {
    let plan = Plan {
        scenarios: vec![scenario],
        clients: None,
        variants: None,
        repetitions: 1,
        timing: SHORT,
        quick: true,
        executable: PathBuf::new(),
    };
    let case = Case {
        scenario,
        kind,
        clients: 4,
        rate: (scenario.pace() == Pace::OpenLoop).then_some(100.0),
        layout: Layout {
            connections: if scenario.styles() == Styles::Interactive {
                0
            } else {
                4
            },
            // Behind each other in one exchange they would wait for each other.
            group: if scenario == Scenario::Hot { 1 } else { 4 },
            sessions: if scenario.styles() == Styles::Declared {
                0
            } else {
                4
            },
        },
    };
    measure(world, &plan, case, SHORT).await.unwrap()
}

fn check(scenario: Scenario, kind: Kind, sample: &Sample) {
    let is_gavel = matches!(kind, Kind::Embedded | Kind::Serve | Kind::Fleet);
    assert_eq!(sample.batch_mean.is_some(), is_gavel, "{scenario} {kind}");
    // The client got the results that it asked for.
    let rows = sample.rows_per_transfer();
    if scenario == Scenario::Wide && kind.place() == Place::Spread {
        // Ranges may reach beyond the last account.
        let most = 2.0 * (4.0 + READ_ACCOUNTS as f64);
        assert!(rows > 0.8 * most && rows <= most, "{kind}: {sample:?}");
    }
    if !matches!(scenario, Scenario::GuardFailures | Scenario::SqlFailures) {
        assert_eq!(sample.failures, 0, "{scenario} {kind}");
    }
}

async fn every_scenario(kinds: &[Kind]) {
    let world = World::start(200, Upkeep::ByItself).await.unwrap();
    for scenario in Scenario::ALL {
        world.configure(scenario.settings()).unwrap();
        for kind in kinds.iter().filter(|kind| scenario.suits(**kind)) {
            check(scenario, *kind, &run(&world, scenario, *kind).await);
        }
        world.unconfigure(scenario.settings()).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn hand_written_variants_run_every_scenario() {
    every_scenario(&[
        Kind::LocalNaive,
        Kind::LocalPipelined,
        Kind::Naive,
        Kind::Best,
    ])
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn gavel_runs_every_scenario() {
    every_scenario(&[Kind::Embedded]).await;
}
