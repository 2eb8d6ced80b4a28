//! What the black-box tests share: real PostgreSQL servers with an account table each, checked
//! by direct SQL, never through Gavel.

use gavel_protocol::Limits;

pub mod bank;
pub mod crowd;
pub mod embedded;
pub mod fleet;
pub mod gamma;
pub mod history;
pub mod load;

/// How many members batches may have, in turn: the sizes that everything is tested with.
pub const BATCH_SIZES: [usize; 4] = [1, 2, 60, 500];

/// What `GAVEL_TEST_BATCH_MEMBERS` says about every deployment that a test starts without a size
/// of its own; `make test-batch-sizes` runs these tests at each of [`BATCH_SIZES`].
pub fn batch_members() -> Option<usize> {
    let text = std::env::var("GAVEL_TEST_BATCH_MEMBERS").ok()?;
    Some(text.parse().expect("GAVEL_TEST_BATCH_MEMBERS is a number"))
}

/// The default limits, with batches of this size whatever [`batch_members`] says.
pub fn with_batches_of(members_max: usize) -> Limits {
    Limits {
        batch_members_max: members_max,
        ..Limits::default()
    }
}

/// The limits with [`batch_members`], unless the test has chosen another size.
fn with_batch_members(mut limits: Limits) -> Limits {
    let is_chosen = limits.batch_members_max != Limits::default().batch_members_max;
    if let Some(members) = batch_members().filter(|_| !is_chosen) {
        limits.batch_members_max = members;
    }
    limits
}

/// The same for processes of their own, as environment.
fn batch_members_env() -> Option<(String, String)> {
    let name = "GAVEL__LIMITS__BATCH_MEMBERS_MAX".to_owned();
    batch_members().map(|members| (name, members.to_string()))
}
