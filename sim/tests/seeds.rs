//! A thousand seeds in every test run; `make sim` runs more of them.

use gavel_sim::simulation::{self, Choice, Kinds, Report};

fn run(seeds: std::ops::Range<u64>) {
    run_all(seeds.map(Choice::from));
}

/// Worlds with a crowd, whose batches have this size at most.
fn run_bursts(batch_members: usize, seeds: std::ops::Range<u64>) {
    let choices = seeds.map(|seed| Choice {
        seed,
        hole: None,
        kind: Some(Kinds::Burst),
        batch_members: Some(batch_members),
    });
    let reports = run_all(choices);
    let full = |report: &&Report| report.largest_batch == batch_members;
    let (full, all) = (reports.iter().filter(full).count(), reports.len());
    assert!(full * 2 >= all, "a batch was full in {full} of {all} seeds");
}

fn run_all(choices: impl Iterator<Item = Choice>) -> Vec<Report> {
    let reports: Vec<(Choice, Report)> = choices
        .map(|choice| (choice, simulation::run(choice)))
        .collect();
    let broken = reports
        .iter()
        .filter(|(_, report)| !report.violations.is_empty());
    let broken: Vec<String> = broken
        .map(|(choice, report)| {
            let folder = std::path::Path::new(env!("CARGO_TARGET_TMPDIR"));
            let file = folder.join(format!("seed-{}.txt", report.seed));
            let (_, trace) = simulation::trace(*choice);
            std::fs::write(&file, trace).expect("the trace is saved");
            let (violations, trace) = (&report.violations, file.display());
            format!("{violations:?}; its trace is {trace}, and `gavel-sim` repeats {choice:?}")
        })
        .collect();
    assert!(broken.is_empty(), "{broken:#?}");
    reports.into_iter().map(|(_, report)| report).collect()
}

#[test]
fn i1_to_i10_hold_in_seeds_0_to_124() {
    run(0..125);
}

#[test]
fn i1_to_i10_hold_in_seeds_125_to_249() {
    run(125..250);
}

#[test]
fn i1_to_i10_hold_in_seeds_250_to_374() {
    run(250..375);
}

#[test]
fn i1_to_i10_hold_in_seeds_375_to_499() {
    run(375..500);
}

#[test]
fn i1_to_i10_hold_in_seeds_500_to_624() {
    run(500..625);
}

#[test]
fn i1_to_i10_hold_in_seeds_625_to_749() {
    run(625..750);
}

#[test]
fn i1_to_i10_hold_in_seeds_750_to_874() {
    run(750..875);
}

#[test]
fn i1_to_i10_hold_in_seeds_875_to_999() {
    run(875..1000);
}

#[test]
fn i1_to_i10_hold_with_batches_of_1() {
    run_bursts(1, 0..60);
}

#[test]
fn i1_to_i10_hold_with_batches_of_2() {
    run_bursts(2, 0..60);
}

#[test]
fn i1_to_i10_hold_with_batches_of_60() {
    run_bursts(60, 0..60);
}

#[test]
fn i1_to_i10_hold_with_batches_of_500() {
    run_bursts(500, 0..30);
}

#[test]
fn a_seed_gives_the_same_bytes_twice() {
    let burst = Choice {
        kind: Some(Kinds::Burst),
        batch_members: Some(60),
        ..Choice::from(0)
    };
    for choice in (0..20).map(Choice::from).chain([burst]) {
        let (first, second) = (simulation::trace(choice), simulation::trace(choice));
        assert!(first == second, "{choice:?}");
        assert!(first.1.len() > 10_000, "{choice:?} has a trace");
        assert_eq!(
            first.0,
            simulation::run(choice),
            "{choice:?}: a trace changes nothing"
        );
    }
}

#[test]
fn a_seed_settles_hundreds_of_transactions() {
    const SEEDS: u64 = 100;
    let reports = (0..SEEDS).map(|seed| simulation::run(seed.into()));
    let settled: u64 = reports.map(|report| report.transactions).sum();
    assert!(settled >= 200 * SEEDS, "{settled} in {SEEDS} seeds");
}
