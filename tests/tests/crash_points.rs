//! Every crash point, killed with SIGKILL in the middle of a load, at coordinator and
//! participants, for both placements of home. After each kill the process is started again, and
//! the books are read by direct SQL.
//!
//! The run ends with a table of how often each point was hit and how often it killed: a kill
//! that missed its step proves nothing and fails the test.

use std::time::Duration;

use gavel_devkit::Role;
use gavel_tests::bank::assert_sound;
use gavel_tests::fleet::{Fleet, RESOLVED_WITHIN};
use gavel_tests::load::{Counts, Load, assert_told_the_truth};

const HOME: Role = Role::Participant(0);
const OTHER: Role = Role::Participant(1);
const DECISIONS: Role = Role::Participant(2);
const COORDINATOR: Role = Role::Coordinator(0);
const HIT_WITHIN: Duration = Duration::from_secs(30);

/// A process, the point at which it dies, and what must die before for the point to be reached.
struct Case {
    role: Role,
    point: &'static str,
    first: Option<(Role, &'static str)>,
}

const fn case(role: Role, point: &'static str) -> Case {
    Case {
        role,
        point,
        first: None,
    }
}

const fn after(role: Role, point: &'static str, dies: Role, at: &'static str) -> Case {
    Case {
        role,
        point,
        first: Some((dies, at)),
    }
}

/// All of them; `home` is the participant that decides.
fn cases(home: Role) -> impl Iterator<Item = Case> {
    let home_first = if home == HOME {
        home_first_deaths()
    } else {
        // Nobody fails on a shard that only decides, so it is never first.
        Vec::new()
    };
    let deaths = [first_deaths(home), home_first, second_deaths(home)];
    deaths.into_iter().flatten()
}

/// S2 and S3 on the branch, S4 at home, S5 and S6 at the coordinator.
fn first_deaths(home: Role) -> Vec<Case> {
    vec![
        case(OTHER, "participant.prepare.received@3"),
        case(OTHER, "participant.prepare.executed@3"),
        case(OTHER, "participant.prepare.prepared@3"),
        case(OTHER, "participant.prepare.answering@3"),
        case(OTHER, "participant.session.opened@2"),
        case(home, "participant.head_start.received@3"),
        case(home, "participant.head_start.executed@3"),
        case(home, "participant.decide.received@3"),
        case(home, "participant.decide.executed@3"),
        case(home, "participant.decide.committed@3"),
        case(home, "participant.decide.answering@3"),
        case(OTHER, "participant.finish.received@3"),
        case(OTHER, "participant.finish.finished@3"),
        case(OTHER, "participant.finish.answering@3"),
        case(COORDINATOR, "coordinator.prepare.sending@3"),
        case(COORDINATOR, "coordinator.prepare.answered@3"),
        case(COORDINATOR, "coordinator.head_start.sending@3"),
        case(COORDINATOR, "coordinator.head_start.answered@3"),
        case(COORDINATOR, "coordinator.decide.sending@3"),
        case(COORDINATOR, "coordinator.decide.answered@3"),
        case(COORDINATOR, "coordinator.answer.telling@3"),
        case(COORDINATOR, "coordinator.finish.sending@3"),
        case(COORDINATOR, "coordinator.finish.answered@3"),
        case(COORDINATOR, "coordinator.record.sending@2"),
        case(COORDINATOR, "coordinator.record.answered@2"),
        case(COORDINATOR, "coordinator.interactive.entered@2"),
    ]
}

/// Home has worked before the branches, and none of them has been asked.
fn home_first_deaths() -> Vec<Case> {
    vec![
        case(HOME, "participant.head_start.first@2"),
        case(COORDINATOR, "coordinator.head_start.first@2"),
    ]
}

/// Recovery itself.
fn second_deaths(home: Role) -> Vec<Case> {
    vec![
        // The decide's answer is lost, so the coordinator must ask the register.
        after(
            COORDINATOR,
            "coordinator.register.sending",
            home,
            "participant.decide.committed@3",
        ),
        after(
            COORDINATOR,
            "coordinator.register.answered",
            home,
            "participant.decide.committed@3",
        ),
        // The coordinator dies, so the participants resolve; they die while they do.
        after(
            OTHER,
            "participant.scan.asking",
            COORDINATOR,
            "coordinator.decide.sending@3",
        ),
        after(
            OTHER,
            "participant.scan.answered",
            COORDINATOR,
            "coordinator.decide.sending@3",
        ),
        after(
            OTHER,
            "participant.scan.finishing",
            COORDINATOR,
            "coordinator.decide.answered@3",
        ),
        after(
            OTHER,
            "participant.scan.finished",
            COORDINATOR,
            "coordinator.decide.answered@3",
        ),
        after(
            home,
            "participant.resolve.forcing",
            COORDINATOR,
            "coordinator.decide.sending@3",
        ),
        after(
            home,
            "participant.resolve.forced",
            COORDINATOR,
            "coordinator.decide.sending@3",
        ),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn crash_points_with_home_on_one_of_the_shards() {
    run_all(HOME, None).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn crash_points_with_a_dedicated_home() {
    run_all(DECISIONS, Some("decisions")).await;
}

async fn run_all(home: Role, home_name: Option<&'static str>) {
    let fleet = Fleet::start();
    let mut total = Counts::default();
    let mut slowest = Duration::ZERO;
    let only = std::env::var("CRASH_POINT").unwrap_or_default();
    for case in cases(home).filter(|case| case.point.contains(&only)) {
        let (counts, resolved) = run(&fleet, &case, home_name).await;
        total.committed += counts.committed;
        total.aborted += counts.aborted;
        total.refused += counts.refused;
        total.in_doubt += counts.in_doubt;
        slowest = slowest.max(resolved);
        println!("{:36} {counts:?}, at rest after {resolved:.1?}", case.point);
    }
    println!("\n{:36} {:>8} {:>8}", "crash point", "hits", "kills");
    for (point, (hits, kills)) in fleet.hits() {
        println!("{point:36} {hits:>8} {kills:>8}");
    }
    println!("\ntold: {total:?}; slowest to rest: {slowest:.1?}");
    assert!(
        total.committed > 0,
        "nothing was committed between the kills: {total:?}"
    );
}

async fn run(fleet: &Fleet, case: &Case, home: Option<&'static str>) -> (Counts, Duration) {
    let kills = |point: &str| {
        let name = point.split('@').next().unwrap_or(point).to_owned();
        fleet.hits().get(&name).map_or(0, |(_, kills)| *kills)
    };
    let kills_before = kills(case.point);
    fleet.arm(case.role, case.point);
    if let Some((role, point)) = case.first {
        fleet.arm(role, point);
    }
    fleet
        .dev
        .wait_ready(HIT_WITHIN)
        .expect("everybody is ready with points armed");
    // What must die first may be reached by either coordinator's batches; the point itself
    // only by this one's.
    let gavel = match (case.role, case.first) {
        (Role::Coordinator(index), Some(_)) => fleet.client_of(index).await,
        _ => fleet.client().await,
    };
    let load = Load::start(&gavel, 6, fleet.data_shards(), home);
    if let Some((role, point)) = case.first {
        wait_exit(fleet, role, point).await;
        if !matches!(role, Role::Coordinator(_)) {
            // A coordinator that asks the register needs a home to ask.
            fleet.dev.spawn(role, &[]).expect("start it again");
        }
    }
    wait_exit(fleet, case.role, case.point).await;
    assert_eq!(
        kills(case.point),
        kills_before + 1,
        "the fault missed its step: {}",
        case.point
    );
    fleet.dev.restart(case.role).expect("start it again");
    if let Some((role, _)) = case.first {
        fleet.dev.restart(role).expect("start it again");
    }
    let told = load.stop().await;
    let resolved = fleet.wait_resolved(RESOLVED_WITHIN).await;
    fleet.dev.wait_ready(HIT_WITHIN).expect("everybody is back");
    let books = fleet.books();
    assert_sound(&books, 3);
    (assert_told_the_truth(&gavel, &told, &books).await, resolved)
}

async fn wait_exit(fleet: &Fleet, role: Role, point: &str) {
    let waited = tokio::task::block_in_place(|| fleet.dev.wait_exit(role, HIT_WITHIN));
    waited.unwrap_or_else(|error| panic!("{point} was not reached: {error}"));
}
