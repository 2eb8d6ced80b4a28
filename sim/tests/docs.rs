//! What `docs/invariants.md` points at is there.

use std::path::Path;

use gavel_sim::Hole;

const DOCS: &str = include_str!("../../docs/invariants.md");

/// What stands in `text` between `before` and `after`.
fn all_between<'a>(
    text: &'a str,
    before: &'a str,
    after: &'a str,
) -> impl Iterator<Item = &'a str> {
    let parts = text.split(before).skip(1);
    parts.filter_map(move |part| part.split_once(after).map(|(inner, _)| inner))
}

#[test]
fn every_invariant_is_documented_with_its_guards() {
    for invariant in 1..=10 {
        let heading = format!("\n## I{invariant} ");
        let (_, text) = DOCS.split_once(&heading).expect(&heading);
        let text = text.split("\n## ").next().unwrap_or_default();
        for guard in ["- Kept by: ", "- Judged by: ", "- Attacked by: "] {
            assert!(text.contains(guard), "I{invariant}: {guard}");
        }
    }
}

#[test]
fn what_the_invariants_link_to_exists() {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs");
    for link in all_between(DOCS, "](", ")") {
        let file = link.split('#').next().unwrap_or_default();
        assert!(docs.join(file).exists(), "{link}");
    }
}

#[test]
fn what_attacks_the_invariants_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let is_patch = |name: &str| {
        let mut folders = ["tests/rules-off", "chaos/holes"].iter();
        folders.any(|folder| root.join(folder).join(format!("{name}.patch")).exists())
    };
    let docs = format!("{DOCS}\n");
    let attacks = all_between(&docs, "- Attacked by: ", "\n\n");
    for name in attacks.flat_map(|attacks| attacks.split('`').skip(1).step_by(2)) {
        let is_hole = Hole::ALL.iter().any(|hole| hole.as_str() == name);
        assert!(is_hole || is_patch(name), "{name}");
    }
}
