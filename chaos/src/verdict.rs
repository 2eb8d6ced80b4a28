//! Violations of the numbered invariants, and verdicts on them.

use std::fmt;

use serde::Serialize;

/// The invariants of `docs/invariants.md`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub enum Invariant {
    /// I1: on all of its shards or on none.
    #[serde(rename = "I1")]
    Atomicity,
    /// I2: an outcome never changes.
    #[serde(rename = "I2")]
    Stability,
    /// I3: a commit has a yes vote from every prepared branch.
    #[serde(rename = "I3")]
    Unanimity,
    /// I4: what was told is so.
    #[serde(rename = "I4")]
    Durability,
    /// I5: effects are applied once.
    #[serde(rename = "I5")]
    ExactlyOnce,
    /// I6: nothing of ours stays prepared, nothing foreign is touched.
    #[serde(rename = "I6")]
    NoOrphans,
    /// I7: without faults every transaction commits.
    #[serde(rename = "I7")]
    Progress,
    /// I8: no COMMIT PREPARED before the decision.
    #[serde(rename = "I8")]
    WriteOrder,
    /// I9: isolation as documented.
    #[serde(rename = "I9")]
    Isolation,
    /// I10: neighbours in a batch do not matter.
    #[serde(rename = "I10")]
    Independence,
}

impl Invariant {
    /// All of them, in order.
    pub const ALL: [Self; 10] = [
        Self::Atomicity,
        Self::Stability,
        Self::Unanimity,
        Self::Durability,
        Self::ExactlyOnce,
        Self::NoOrphans,
        Self::Progress,
        Self::WriteOrder,
        Self::Isolation,
        Self::Independence,
    ];

    /// Its name in the documentation.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Atomicity => "atomicity",
            Self::Stability => "stability",
            Self::Unanimity => "unanimity",
            Self::Durability => "durability",
            Self::ExactlyOnce => "exactly once",
            Self::NoOrphans => "no orphans",
            Self::Progress => "progress",
            Self::WriteOrder => "write order",
            Self::Isolation => "isolation as documented",
            Self::Independence => "independence",
        }
    }
}

impl fmt::Display for Invariant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = Self::ALL.iter().position(|each| each == self);
        write!(f, "I{}", number.map_or(0, |index| index + 1))
    }
}

/// Something that must not be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Violation {
    /// What is broken.
    pub invariant: Invariant,
    /// The evidence.
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { invariant, what } = self;
        write!(f, "{invariant} ({}): {what}", invariant.name())
    }
}

/// What became of one invariant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// Which.
    pub invariant: Invariant,
    /// What was compared, in numbers; empty if nothing was.
    pub evidence: String,
    /// What should have been compared as well and was not; empty if nothing.
    pub lacking: String,
    /// What was found wrong.
    pub violations: Vec<Violation>,
}

impl Verdict {
    /// Whether it was checked, and holds.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.violations.is_empty() && !self.evidence.is_empty() && self.lacking.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn invariants_have_the_numbers_of_the_documentation() {
        let names: Vec<String> = Invariant::ALL.iter().map(ToString::to_string).collect();
        assert_eq!(
            names.join(" "),
            "I1 I2 I3 I4 I5 I6 I7 I8 I9 I10",
            "the order of ALL"
        );
        for invariant in Invariant::ALL {
            let json = serde_json::to_value(invariant).expect("JSON");
            assert_eq!(json, invariant.to_string());
        }
        let nothing = Verdict {
            invariant: Invariant::Atomicity,
            evidence: String::new(),
            lacking: String::new(),
            violations: Vec::new(),
        };
        assert!(!nothing.holds(), "what was not compared does not hold");
        let half = Verdict {
            evidence: "half of it".to_owned(),
            lacking: "the other half".to_owned(),
            ..nothing
        };
        assert!(!half.holds(), "nor what was compared in part");
    }
}
