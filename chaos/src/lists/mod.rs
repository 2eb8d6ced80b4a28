//! Lists on every shard, which transactions append to and read: what they saw of each other shows
//! the isolation that they had (I9).
//!
//! A list is a row. In the locked workload every read is `FOR UPDATE`, and the history must be
//! strictly serializable. In the plain one, reads take no lock, and the history must be what
//! `docs/protocol.md` promises: read committed.

mod check;

pub use check::{Isolation, Promise, check, promises};

/// What the lists are made of, on each shard; `role` may use them.
#[must_use]
pub fn schema(role: &str, keys: i64) -> String {
    format!(
        "CREATE TABLE list (key bigint PRIMARY KEY, elements bigint[] NOT NULL DEFAULT '{{}}');
         GRANT SELECT, UPDATE ON list TO {role};
         INSERT INTO list (key) SELECT key FROM generate_series(0, {keys} - 1) key;"
    )
}

/// Appends an element: element, key.
pub const APPEND: &str = "UPDATE list SET elements = elements || $1::bigint WHERE key = $2";
/// Reads a list: key. Nobody can change it until the reader has ended.
pub const READ_LOCKED: &str = "SELECT elements FROM list WHERE key = $1 FOR UPDATE";
/// Reads a list: key. Somebody may be changing it.
pub const READ_PLAIN: &str = "SELECT elements FROM list WHERE key = $1";
