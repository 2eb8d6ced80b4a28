//! A small bank on every shard, and the books that prove or disprove atomicity.
//!
//! Every transfer changes a balance and leaves a mark on each of its shards. At rest a
//! transaction's marks are on all of its shards or on none (I1), and every balance equals its
//! initial value plus its marks (I5). Books are read by direct SQL, never through Gavel.

mod books;
mod judge;

pub use books::{Books, Mark};
pub use judge::{Recorded, Statement, TxidOutcome, judge, strangers};

/// The database on every server.
pub const DATABASE: &str = "app";

/// Changes a balance: amount, account.
pub const UPDATE: &str = "UPDATE account SET balance = balance + $1 WHERE id = $2";
/// Leaves a mark: txid, account, amount.
pub const MARK: &str = "INSERT INTO mark VALUES ($1, $2, $3)";

/// What the bank is made of, on each shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bank {
    /// Accounts per shard, with ids from 0.
    pub accounts: i64,
    /// What every account begins with.
    pub initial_balance: i64,
}

impl Bank {
    /// The SQL that makes tables and accounts; `role` may use them.
    #[must_use]
    pub fn schema(&self, role: &str) -> String {
        let Self {
            accounts,
            initial_balance,
        } = self;
        format!(
            "CREATE TABLE account (
                id bigint PRIMARY KEY,
                balance bigint NOT NULL CHECK (balance >= 0)
            );
            CREATE TABLE mark (
                txid uuid NOT NULL,
                account bigint NOT NULL,
                amount bigint NOT NULL
            );
            GRANT SELECT, INSERT, UPDATE, DELETE ON account, mark TO {role};
            INSERT INTO account SELECT id, {initial_balance} FROM generate_series(0, {accounts} - 1) id;"
        )
    }

    /// All the money on `shards` shards.
    #[must_use]
    pub fn money(&self, shards: usize) -> i64 {
        self.accounts * self.initial_balance * i64::try_from(shards).unwrap_or(i64::MAX)
    }
}
