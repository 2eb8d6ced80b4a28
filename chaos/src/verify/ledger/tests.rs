//! Ledgers that are known to be bad, one for each thing that is looked for.

use gavel_protocol::ShardTag;

use super::*;

fn row(columns: &[&str]) -> Row {
    columns
        .iter()
        .map(|text| Some((*text).to_owned()))
        .collect()
}

/// Home is shard 3; decisions are home, batch, outcome and the shards named, branches batch and shard.
fn ledger(decisions: &[(&str, &str, &str, &str)], branches: &[(&str, &str)]) -> Ledger {
    let mut ledger = Ledger::default();
    for (home, batch, outcome, shards) in decisions {
        ledger.note_decision(home, row(&[batch, outcome, shards]));
    }
    let applied = branches
        .iter()
        .map(|(batch, tag)| ((*batch).to_owned(), (*tag).to_owned()));
    ledger.applied = applied.collect();
    ledger
}

fn found(ledger: &Ledger, known: &[&str]) -> Vec<String> {
    let known = known.iter().map(|batch| (*batch).to_owned()).collect();
    let violations = ledger.compare(&known).violations;
    assert!(
        violations
            .iter()
            .all(|each| each.invariant == Invariant::Atomicity)
    );
    violations.into_iter().map(|each| each.what).collect()
}

#[test]
fn a_whole_ledger_passes() {
    let whole = ledger(
        &[
            ("3", "both", "commit", "1,2"),
            ("3", "none", "abort", ""),
            // Home had it all to itself.
            ("1", "local", "commit", ""),
        ],
        &[("both", "1"), ("both", "2")],
    );
    assert_eq!(found(&whole, &[]), Vec::<String>::new());
    let compared = whole.compare(&BTreeSet::new());
    assert_eq!((compared.commits, compared.branches), (2, 2));
}

#[test]
fn a_branch_without_a_decision_is_found() {
    let orphan = ledger(&[("3", "other", "commit", "")], &[("b", "1")]);
    assert_eq!(
        found(&orphan, &[]),
        ["batch b is applied on shard 1, without a decision"]
    );
}

#[test]
fn a_branch_of_an_aborted_batch_is_found() {
    // Even if the abort's row names the shard.
    for shards in ["", "1,2"] {
        let applied = ledger(&[("3", "b", "abort", shards)], &[("b", "2")]);
        let what = "batch b is applied on shard 2, although it was aborted";
        assert_eq!(found(&applied, &[]), [what]);
    }
}

#[test]
fn a_branch_that_its_decision_does_not_name_is_found() {
    let unnamed = ledger(&[("3", "b", "commit", "1")], &[("b", "1"), ("b", "2")]);
    let what = "batch b is applied on shard 2, and its decision does not name that shard";
    assert_eq!(found(&unnamed, &[]), [what]);
    // A tag is compared whole.
    let prefix = ledger(&[("3", "b", "commit", "12")], &[("b", "12"), ("b", "1")]);
    assert_eq!(found(&prefix, &[]).len(), 1);
}

#[test]
fn a_commit_that_a_shard_does_not_show_is_found() {
    let half = ledger(&[("3", "b", "commit", "1,2")], &[("b", "1")]);
    assert_eq!(
        found(&half, &[]),
        ["batch b is committed, and not applied on shard 2"]
    );
    let none = ledger(&[("3", "b", "commit", "1,2")], &[]);
    assert_eq!(found(&none, &[]).len(), 2);
    // What another batch has applied there does not stand in for it.
    let others = ledger(
        &[("3", "b", "commit", "1"), ("3", "c", "commit", "2")],
        &[("b", "2"), ("c", "1")],
    );
    assert_eq!(found(&others, &[]).len(), 4);
}

#[test]
fn a_batch_that_two_homes_decided_is_found() {
    for second in ["commit", "abort"] {
        let twice = ledger(&[("1", "b", "commit", ""), ("3", "b", second, "")], &[]);
        assert_eq!(found(&twice, &[]), ["batch b is decided on shards 1 and 3"]);
    }
}

#[test]
fn only_what_was_broken_by_hand_is_left_out() {
    let broken = ledger(
        &[("3", "b", "abort", ""), ("3", "c", "commit", "1,2")],
        &[("b", "1"), ("c", "1")],
    );
    assert_eq!(found(&broken, &["b", "c"]), Vec::<String>::new());
    assert_eq!(found(&broken, &["b"]).len(), 1);
    assert_eq!(found(&broken, &["c"]).len(), 1);
    assert_eq!(found(&broken, &["someone else's"]).len(), 2);
}

#[test]
fn records_are_read_and_strange_ones_are_found() {
    let at = |tag, number| Txid::mint(1, ShardTag(tag), [number; 16]);
    let (committed, aborted, astray) = (at(1, 7), at(1, 8), at(2, 9));
    let mut ledger = Ledger::default();
    ledger.note_outcome("1", row(&[&committed.to_string(), "committed"]));
    ledger.note_outcome("1", row(&[&aborted.to_string(), "aborted"]));
    let good = BTreeMap::from([
        (committed, TxidOutcome::Committed),
        (aborted, TxidOutcome::Aborted),
    ]);
    assert_eq!(ledger.outcomes(), good);
    assert_eq!(ledger.strange_records(), []);
    ledger.note_outcome("1", row(&[&astray.to_string(), "committed"]));
    ledger.note_outcome("1", row(&["not a txid", "committed"]));
    ledger.note_outcome("2", row(&[&at(2, 1).to_string(), "perhaps"]));
    ledger.note_outcome("1", Row::new());
    assert_eq!(ledger.outcomes(), good, "nothing is concluded from these");
    let strange = ledger.strange_records();
    assert_eq!(strange.len(), 4, "{strange:?}");
    assert!(
        strange
            .iter()
            .all(|each| each.invariant == Invariant::Stability)
    );
    assert!(
        strange[0].what.contains("whose home is 2"),
        "{}",
        strange[0]
    );
}
