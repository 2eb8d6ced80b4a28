//! What somebody's transactions may do: on which shards, with which statements.

use std::borrow::Borrow;
use std::collections::BTreeSet;
use std::sync::Arc;

use gavel_protocol::{ShardName, Statement};

/// A choice out of many things.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Permitted<T> {
    /// Everything, what is added later included.
    All,
    /// These.
    Only(Arc<BTreeSet<T>>),
}

impl<T: Ord> Permitted<T> {
    fn includes<Q: Ord + ?Sized>(&self, one: &Q) -> bool
    where
        T: Borrow<Q>,
    {
        match self {
            Self::All => true,
            Self::Only(these) => these.contains(one),
        }
    }
}

impl<T: Ord> FromIterator<T> for Permitted<T> {
    fn from_iter<I: IntoIterator<Item = T>>(these: I) -> Self {
        Self::Only(Arc::new(these.into_iter().collect()))
    }
}

/// What somebody's transactions may do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Permissions {
    /// Where statements may run. What is recorded about a transaction may be kept on any shard.
    pub shards: Permitted<ShardName>,
    /// The texts of the statements that may run, without white space at their ends.
    ///
    /// Texts and not names: the same program runs with and without this list, and what it says is
    /// what the database is told.
    pub statements: Permitted<String>,
}

impl Permissions {
    /// No restriction.
    pub const ALL: Self = Self {
        shards: Permitted::All,
        statements: Permitted::All,
    };

    pub(super) fn is_all(&self) -> bool {
        *self == Self::ALL
    }

    /// What is wrong with statements on a shard.
    pub(super) fn refusal<'a>(
        &self,
        shard: &ShardName,
        statements: impl IntoIterator<Item = &'a Statement>,
    ) -> Option<String> {
        if !self.shards.includes(shard) {
            return Some(format!(
                "statements on shard `{shard}` are not permitted to this principal"
            ));
        }
        let mut texts = statements.into_iter().map(|statement| statement.sql.trim());
        // Its text may hold what must not be in a log.
        let place = texts.position(|text| !self.statements.includes(text))?;
        Some(format!(
            "statement {place} on shard `{shard}` is none of those that are permitted to this \
             principal; their texts must be the same, and values parameters"
        ))
    }
}
