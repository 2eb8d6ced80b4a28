//! What a client asks for: statements with parameters for named shards, each with an optional
//! guard.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::limits::Limits;
use crate::names::ShardTag;
use crate::sql::{self, StatementKind};

/// A condition on the number of rows that a statement affected or returned. A guard that fails
/// aborts the transaction before PREPARE or COMMIT can run (R3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Guard {
    /// Exactly this many rows.
    RowsExactly(u64),
    /// This many rows or more.
    RowsAtLeast(u64),
}

impl Guard {
    /// Whether `rows` satisfies the guard.
    pub fn holds(self, rows: u64) -> bool {
        match self {
            Self::RowsExactly(expected) => rows == expected,
            Self::RowsAtLeast(expected) => rows >= expected,
        }
    }
}

/// One SQL statement with its parameters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statement {
    /// The text, with `$1`, `$2`, … for parameters.
    pub sql: Arc<str>,
    /// Parameters in PostgreSQL's text format; the server infers their types. `None` is NULL.
    pub params: Vec<Option<String>>,
    /// A condition on the number of rows.
    pub guard: Option<Guard>,
}

impl Statement {
    /// A statement without a guard. Parameters are given in PostgreSQL's text format.
    pub fn new<P: Into<String>>(sql: &str, params: impl IntoIterator<Item = P>) -> Self {
        let params = params.into_iter().map(|param| Some(param.into())).collect();
        Self {
            sql: sql.into(),
            params,
            guard: None,
        }
    }

    /// The same statement, guarded.
    pub fn expecting(mut self, guard: Guard) -> Self {
        self.guard = Some(guard);
        self
    }
}

/// Whether a branch may write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Access {
    /// The branch is prepared, or is home's own work.
    ReadWrite,
    /// Declared read-only (R18): runs in `BEGIN READ ONLY` and ends at the vote.
    ReadOnly,
}

/// A transaction's work on one shard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BranchWork {
    /// Where.
    pub shard: ShardTag,
    /// Whether it may write.
    pub access: Access,
    /// What, in order.
    pub statements: Arc<[Statement]>,
}

impl BranchWork {
    /// Work that may write.
    pub fn write(shard: ShardTag, statements: Vec<Statement>) -> Self {
        Self {
            shard,
            access: Access::ReadWrite,
            statements: statements.into(),
        }
    }

    /// Work that only reads.
    pub fn read(shard: ShardTag, statements: Vec<Statement>) -> Self {
        Self {
            shard,
            access: Access::ReadOnly,
            statements: statements.into(),
        }
    }
}

/// The isolation level of every branch, on its own shard. None of them makes a transaction
/// globally serializable (facts 21); rows read with `FOR SHARE` or `FOR UPDATE` are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Isolation {
    /// PostgreSQL's default, and the only level that shares a batch.
    #[default]
    ReadCommitted = 0,
    /// One snapshot per shard.
    RepeatableRead = 1,
    /// Serializable on each shard.
    Serializable = 2,
}

impl Isolation {
    /// The level as SQL spells it.
    pub fn as_sql(self) -> &'static str {
        match self {
            Self::ReadCommitted => "READ COMMITTED",
            Self::RepeatableRead => "REPEATABLE READ",
            Self::Serializable => "SERIALIZABLE",
        }
    }
}

/// When the client is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ack {
    /// Every shard shows the writes.
    #[default]
    Applied,
    /// The decision is durable; phase two may still run.
    Decided,
}

/// A declared transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transaction {
    /// The isolation level on every shard.
    pub isolation: Isolation,
    /// The work, one entry per shard, sorted by shard.
    pub branches: Vec<BranchWork>,
}

/// Why a transaction was refused before anything ran.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidTransaction {
    /// There is nothing to do.
    #[error("a transaction needs at least one statement")]
    Empty,
    /// One shard is named twice.
    #[error("shard {0} is named twice: put its statements into one branch")]
    DuplicateShard(ShardTag),
    /// A branch has no statement.
    #[error("the branch on shard {0} has no statement")]
    EmptyBranch(ShardTag),
    /// Too many shards.
    #[error("{found} shards in one transaction, {max} at most")]
    TooManyShards {
        /// How many there were.
        found: usize,
        /// `shards_per_transaction_max`.
        max: usize,
    },
    /// Too many statements.
    #[error("{found} statements in one transaction, {max} at most")]
    TooManyStatements {
        /// How many there were.
        found: usize,
        /// `statements_per_transaction_max`.
        max: usize,
    },
    /// A statement or its parameters are too long.
    #[error("statement {statement} on shard {shard} has {found} bytes, {max} at most")]
    StatementTooLong {
        /// Where.
        shard: ShardTag,
        /// Which, counted from 0.
        statement: usize,
        /// Bytes of text and parameters.
        found: usize,
        /// `statement_bytes_max`.
        max: usize,
    },
    /// Too many parameters.
    #[error("statement {statement} on shard {shard} has {found} parameters, {max} at most")]
    TooManyParameters {
        /// Where.
        shard: ShardTag,
        /// Which, counted from 0.
        statement: usize,
        /// How many there were.
        found: usize,
        /// `params_per_statement_max`.
        max: usize,
    },
    /// A NUL byte, which PostgreSQL's text format cannot carry.
    #[error("statement {statement} on shard {shard} contains a NUL byte")]
    NulByte {
        /// Where.
        shard: ShardTag,
        /// Which, counted from 0.
        statement: usize,
    },
    /// The statement is empty, or controls transactions itself.
    #[error("statement {statement} on shard {shard}: {cause}")]
    Sql {
        /// Where.
        shard: ShardTag,
        /// Which, counted from 0.
        statement: usize,
        /// What is wrong with it.
        cause: sql::RefusedSql,
    },
}

impl Transaction {
    /// A transaction at the default isolation level. Branches are sorted by shard, so that the
    /// same work always has the same hash.
    pub fn new(mut branches: Vec<BranchWork>) -> Self {
        branches.sort_by_key(|branch| branch.shard);
        Self {
            isolation: Isolation::default(),
            branches,
        }
    }

    /// Checks everything that can be checked without a database.
    pub fn validate(&self, limits: &Limits) -> Result<(), InvalidTransaction> {
        if self.branches.is_empty() {
            return Err(InvalidTransaction::Empty);
        }
        self.validate_shards(limits)?;
        for branch in &self.branches {
            for (index, statement) in branch.statements.iter().enumerate() {
                validate_statement(branch.shard, index, statement, limits)?;
            }
        }
        Ok(())
    }

    fn validate_shards(&self, limits: &Limits) -> Result<(), InvalidTransaction> {
        let (found, max) = (self.branches.len(), limits.shards_per_transaction_max);
        if found > max {
            return Err(InvalidTransaction::TooManyShards { found, max });
        }
        for pair in self.branches.windows(2) {
            if pair[0].shard == pair[1].shard {
                return Err(InvalidTransaction::DuplicateShard(pair[0].shard));
            }
        }
        if let Some(branch) = self
            .branches
            .iter()
            .find(|branch| branch.statements.is_empty())
        {
            return Err(InvalidTransaction::EmptyBranch(branch.shard));
        }
        let found = self
            .branches
            .iter()
            .map(|branch| branch.statements.len())
            .sum();
        let max = limits.statements_per_transaction_max;
        if found > max {
            return Err(InvalidTransaction::TooManyStatements { found, max });
        }
        Ok(())
    }

    /// Whether this transaction may share a batch (R11): default isolation, and nothing but
    /// plain queries, which cannot leave a setting behind for a neighbour.
    pub fn is_batch_safe(&self) -> bool {
        self.isolation == Isolation::ReadCommitted
            && self
                .branches
                .iter()
                .flat_map(|branch| branch.statements.iter())
                .all(|statement| {
                    matches!(sql::classify(&statement.sql), Ok(StatementKind::BatchSafe))
                })
    }

    /// The work on `shard`, if there is any.
    pub fn branch(&self, shard: ShardTag) -> Option<&BranchWork> {
        self.branches.iter().find(|branch| branch.shard == shard)
    }
}

/// Checks one statement for the given place.
pub fn validate_statement(
    shard: ShardTag,
    index: usize,
    statement: &Statement,
    limits: &Limits,
) -> Result<(), InvalidTransaction> {
    let params = statement.params.iter().flatten();
    let found = statement.sql.len() + params.clone().map(String::len).sum::<usize>();
    if found > limits.statement_bytes_max {
        let max = limits.statement_bytes_max;
        return Err(InvalidTransaction::StatementTooLong {
            shard,
            statement: index,
            found,
            max,
        });
    }
    let found = statement.params.len();
    if found > limits.params_per_statement_max {
        let max = limits.params_per_statement_max;
        return Err(InvalidTransaction::TooManyParameters {
            shard,
            statement: index,
            found,
            max,
        });
    }
    if statement.sql.contains('\0') || params.clone().any(|param| param.contains('\0')) {
        return Err(InvalidTransaction::NulByte {
            shard,
            statement: index,
        });
    }
    sql::classify(&statement.sql)
        .map(drop)
        .map_err(|cause| InvalidTransaction::Sql {
            shard,
            statement: index,
            cause,
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(sql: &str) -> Vec<Statement> {
        vec![Statement::new(sql, Vec::<String>::new())]
    }

    #[test]
    fn bad_input_is_named() {
        let limits = Limits::default();
        let check = |branches| Transaction::new(branches).validate(&limits);
        let (a, b) = (ShardTag(1), ShardTag(2));
        assert_eq!(check(vec![]), Err(InvalidTransaction::Empty));
        assert_eq!(
            check(vec![BranchWork::write(a, vec![])]),
            Err(InvalidTransaction::EmptyBranch(a))
        );
        let twice = vec![
            BranchWork::write(a, one("select 1")),
            BranchWork::write(b, one("select 1")),
            BranchWork::write(a, one("select 1")),
        ];
        assert_eq!(check(twice), Err(InvalidTransaction::DuplicateShard(a)));
        assert!(matches!(
            check(vec![BranchWork::write(a, one("commit"))]),
            Err(InvalidTransaction::Sql { .. })
        ));
        assert!(matches!(
            check(vec![BranchWork::write(a, one("select '\0'"))]),
            Err(InvalidTransaction::NulByte { .. })
        ));
        assert_eq!(check(vec![BranchWork::write(a, one("select 1"))]), Ok(()));
    }

    #[test]
    fn r11_settings_and_isolation_travel_alone() {
        let plain = Transaction::new(vec![BranchWork::write(ShardTag(1), one("select 1"))]);
        assert!(plain.is_batch_safe());
        let setting = vec![BranchWork::write(
            ShardTag(1),
            one("set local work_mem = '1MB'"),
        )];
        assert!(!Transaction::new(setting).is_batch_safe());
        let serializable = Transaction {
            isolation: Isolation::Serializable,
            ..plain
        };
        assert!(!serializable.is_batch_safe());
    }
}
