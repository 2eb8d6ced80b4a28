//! A thousand seeds in every test run; `make sim` runs more of them.

use gavel_sim::simulation;

fn run(seeds: std::ops::Range<u64>) {
    let broken: Vec<String> = seeds
        .map(|seed| simulation::run(seed.into()))
        .filter(|report| !report.violations.is_empty())
        .map(|report| {
            let folder = std::path::Path::new(env!("CARGO_TARGET_TMPDIR"));
            let file = folder.join(format!("seed-{}.txt", report.seed));
            let (_, trace) = simulation::trace(report.seed.into());
            std::fs::write(&file, trace).expect("the trace is saved");
            format!(
                "seed {}: {:?}; its trace is {}, repeat it with `cargo run -p gavel-sim -- --seed {}`",
                report.seed,
                report.violations,
                file.display(),
                report.seed
            )
        })
        .collect();
    assert!(broken.is_empty(), "{broken:#?}");
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
fn a_seed_gives_the_same_bytes_twice() {
    for seed in 0..20 {
        let (first, second) = (
            simulation::trace(seed.into()),
            simulation::trace(seed.into()),
        );
        assert!(first == second, "seed {seed}");
        assert!(first.1.len() > 10_000, "seed {seed} has a trace");
        assert_eq!(
            first.0,
            simulation::run(seed.into()),
            "seed {seed}: a trace changes nothing"
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
