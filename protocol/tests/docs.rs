//! What `docs/protocol.md` says is what the core does.

use std::fmt::Write;

use gavel_protocol::recovery::{DamageKind, TABLE};

const DOCS: &str = include_str!("../../docs/protocol.md");

fn names<T: std::fmt::Debug>(values: &[T]) -> String {
    let each: Vec<String> = values.iter().map(|value| format!("{value:?}")).collect();
    each.join(", ")
}

#[test]
fn the_documented_recovery_table_is_the_real_one() {
    let mut expected =
        "\n| case | home says | this shard shows | action |\n|---|---|---|---|\n".to_owned();
    for row in TABLE {
        let (home, shard) = (names(row.home), names(row.shard));
        let (label, action) = (row.label, row.action);
        writeln!(expected, "| {label} | {home} | {shard} | {action:?} |").expect("a string");
    }
    let (_, rest) = DOCS
        .split_once("<!-- recovery table: begin -->")
        .expect("the table begins");
    let (documented, _) = rest
        .split_once("<!-- recovery table: end -->")
        .expect("the table ends");
    assert_eq!(
        documented, expected,
        "docs/protocol.md should say:{expected}"
    );
}

#[test]
fn every_rule_is_documented_with_its_tests() {
    for rule in 1..=18 {
        let heading = format!("\n### R{rule} ");
        let (_, text) = DOCS.split_once(&heading).expect(&heading);
        let text = text.split("\n### ").next().unwrap_or_default();
        assert!(text.contains("Code: "), "R{rule}");
        assert!(text.contains(&format!("Tests: `r{rule}_`")), "R{rule}");
    }
}

#[test]
fn kinds_of_damage_are_spelled_as_operators_know_them() {
    let operations = include_str!("../../docs/operations.md");
    for (kind, spelling) in [
        (DamageKind::LostBranch, "commit_lost"),
        (DamageKind::AppliedButAborted, "abort_applied"),
        (DamageKind::AppliedButUndecided, "undecided_applied"),
        (DamageKind::AppliedButUnnamed, "unnamed_applied"),
    ] {
        assert_eq!(kind.as_str(), spelling, "it is stored in gavel.damage");
        assert!(operations.contains(&format!("| `{spelling}` |")));
    }
}
