//! Every rule switched off and every planted bug is found: by exploring the small models, or by
//! the simulation, or by both. A checker that finds nothing here would prove nothing elsewhere.

use std::collections::BTreeSet;

use gavel_sim::model::{Configuration, Size, explore};
use gavel_sim::simulation::{self, Choice, Kinds};
use gavel_sim::{Hole, Invariant};

/// More seeds than any of the holes needs.
const SEEDS_MAX: u64 = 400;

/// Which invariants the small models find violated, if they find the hole.
fn found_by_models(hole: Hole) -> Option<Vec<Invariant>> {
    let configurations = Configuration::all(Size::Small, Some(hole)).into_iter();
    let mut found = configurations.filter_map(|each| explore(&each, 1).violation);
    found.next().map(|found| found.invariants)
}

/// Which invariants worlds of this kind find violated, if they find the hole.
fn found_by_seeds(hole: Hole, kind: Kinds) -> Option<Vec<Invariant>> {
    let run = |seed| {
        simulation::run(Choice {
            seed,
            hole: Some(hole),
            kind: Some(kind),
            batch_members: None,
        })
    };
    let mut reports = (0..SEEDS_MAX).map(run);
    let found = reports.find(|report| !report.violations.is_empty())?;
    println!("{}: seed {}", hole.as_str(), found.seed);
    Some(found.violations.into_keys().collect())
}

fn check(hole: Hole, found: Option<Vec<Invariant>>, expected: &[Invariant]) {
    let name = hole.as_str();
    let found = found.unwrap_or_else(|| panic!("{name} is not found"));
    println!("{name}: {found:?}");
    assert!(
        found.iter().any(|invariant| expected.contains(invariant)),
        "{name} violates {expected:?}, found was {found:?}"
    );
}

/// Found by the small models, as violations of these invariants.
fn found_in_models() -> Vec<(Hole, &'static [Invariant])> {
    use Invariant::{Calm, Detection, I1, I2, I3, I4, I5, I6, I8, I10};
    vec![
        (Hole::NoBranchRow, &[I5]),
        (Hole::UnequalSets, &[I3]),
        (Hole::HeadStartForSome, &[I3]),
        (Hole::BlindPipeline, &[I10]),
        (Hole::RowsLast, &[I1, I8]),
        (Hole::UnknownIsAborted, &[I1]),
        (Hole::NoBarrier, &[I4, I8]),
        (Hole::OldSnapshot, &[I1]),
        (Hole::NoTransactionRow, &[I4, I5]),
        (Hole::HomeByConfiguration, &[I2, I5]),
        (Hole::TellsInCompany, &[I10]),
        (Hole::AnyIncarnation, &[Detection]),
        (Hole::NoAuditor, &[Detection]),
        (Hole::NobodyScans, &[I6]),
        (Hole::ReadersPrepare, &[Calm]),
        (Hole::MissingIsDone, &[I4]),
        (Hole::TagIgnored, &[I3]),
        (Hole::CommitBeforeDecision, &[I8]),
        (Hole::ReadsWithoutWriting, &[I1]),
        (Hole::NewTxid, &[I5]),
        (Hole::ToldBeforeDecision, &[I4]),
        (Hole::WarningIgnored, &[I4]),
        (Hole::TouchesForeign, &[I6]),
        (Hole::SilenceIsYes, &[I3]),
    ]
}

/// Found by the simulation, in worlds of these kinds.
fn found_in_seeds() -> Vec<(Hole, Kinds, &'static [Invariant])> {
    use Invariant::{I1, I4, I5, I7, I10};
    vec![
        (Hole::NoneYetIsAborted, Kinds::Rough, &[I4]),
        (Hole::SharedSettings, Kinds::Rough, &[I10]),
        (Hole::Unpinned, Kinds::Standbys, &[I4]),
        (Hole::NoQuota, Kinds::HomeDown, &[I7]),
        (Hole::Overtaking, Kinds::OneLane, &[I7]),
        (Hole::DropUnverified, Kinds::Retention, &[I1]),
        (Hole::NoFloor, Kinds::Retention, &[I5]),
        (Hole::NobodyAttends, Kinds::Calm, &[I7]),
        (Hole::UnknownIsToldAborted, Kinds::Rough, &[I4]),
    ]
}

#[test]
fn the_models_find_what_they_can() {
    for (hole, expected) in found_in_models() {
        check(hole, found_by_models(hole), expected);
    }
}

#[test]
fn the_simulation_finds_the_others() {
    for (hole, kind, expected) in found_in_seeds() {
        check(hole, found_by_seeds(hole, kind), expected);
    }
}

#[test]
fn no_hole_is_forgotten() {
    let in_models = found_in_models().into_iter().map(|(hole, _)| hole);
    let in_seeds = found_in_seeds().into_iter().map(|(hole, ..)| hole);
    let looked_for: BTreeSet<Hole> = in_models.chain(in_seeds).collect();
    assert_eq!(looked_for, Hole::ALL.iter().copied().collect());
}
