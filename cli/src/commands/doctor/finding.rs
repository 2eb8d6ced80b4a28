//! One thing that is wrong.

use std::fmt;

use serde_json::{Value, json};

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Severity {
    /// Good to know.
    Note,
    /// It will become critical, or would be if something else went wrong.
    Warning,
    /// Transactions are refused or wait, or what was promised does not hold.
    Critical,
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Finding {
    pub(super) severity: Severity,
    /// A shard, a service or a file.
    pub(super) place: String,
    /// Stable, for programs.
    pub(super) code: &'static str,
    /// What was found.
    pub(super) what: String,
    /// What comes of it.
    pub(super) why: &'static str,
    /// What to do, as a command where there is one.
    pub(super) fix: String,
}

impl Finding {
    pub(super) fn to_json(&self) -> Value {
        json!({
            "severity": self.severity.name(),
            "place": self.place,
            "code": self.code,
            "what": self.what,
            "why": self.why,
            "fix": self.fix,
        })
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (severity, place, code) = (self.severity.name(), &self.place, self.code);
        write!(f, "{severity} {place} {code}: {}", self.what)?;
        if !self.why.is_empty() {
            write!(f, "\n  why: {}", self.why)?;
        }
        write!(f, "\n  fix: {}", self.fix)
    }
}

impl Severity {
    fn name(self) -> &'static str {
        match self {
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }
}

/// `value` measured against two bounds, both inclusive.
pub(super) fn graded<T: PartialOrd>(value: T, warning: T, critical: T) -> Option<Severity> {
    if value >= critical {
        Some(Severity::Critical)
    } else if value >= warning {
        Some(Severity::Warning)
    } else {
        None
    }
}
