//! Exit codes, documented in `gavel --help`.

use std::process::ExitCode;

use gavel_client::{Outcome, Status};

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Done; for a transaction: committed.
    Ok = 0,
    /// Failed.
    Failure = 1,
    /// Wrong usage or configuration. clap uses the same.
    Usage = 2,
    /// Aborted, for good.
    Aborted = 3,
    /// Refused; nothing was done.
    Refused = 4,
    /// Not known yet.
    InDoubt = 5,
    /// A branch and its decision disagree.
    Damage = 6,
}

impl Exit {
    /// The exit of a command that tells an outcome.
    pub fn of_outcome(outcome: &Outcome) -> Self {
        match outcome {
            Outcome::Committed(_) => Self::Ok,
            Outcome::Aborted { .. } => Self::Aborted,
            Outcome::Refused { .. } => Self::Refused,
            Outcome::InDoubt { .. } => Self::InDoubt,
        }
    }

    /// The exit of a command that tells a status. Nothing recorded yet may still commit.
    pub fn of_status(status: &Status) -> Self {
        match status {
            Status::Committed => Self::Ok,
            Status::Aborted(_) => Self::Aborted,
            Status::NoneYet | Status::TooOld => Self::InDoubt,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}
