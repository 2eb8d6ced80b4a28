//! What the servers say about the bank.

use std::borrow::Borrow;
use std::collections::BTreeMap;

use gavel_protocol::Txid;
use local_postgres::Server;

use super::{Bank, DATABASE};
use crate::verdict::{Invariant, Violation};

/// One mark: a transaction was here.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mark {
    /// Index of the server.
    pub shard: usize,
    /// The account.
    pub account: i64,
    /// What was added to its balance.
    pub amount: i64,
}

/// What the servers say, read directly.
#[derive(Debug, Clone, Default)]
pub struct Books {
    /// The marks by txid, sorted.
    pub marks: BTreeMap<String, Vec<Mark>>,
    /// The sum of all balances.
    pub money: i64,
    /// Balances that do not equal their initial value plus their marks: server and account.
    pub wrong_balances: Vec<(usize, i64)>,
    /// Balances below zero: server and account.
    pub negative_balances: Vec<(usize, i64)>,
    /// gids that are prepared, ours or not.
    pub prepared: Vec<String>,
    /// Rows of `gavel.damage`: batch and kind.
    pub damage: Vec<String>,
}

impl Books {
    /// Reads the books of all servers.
    ///
    /// # Errors
    /// A server cannot be asked.
    pub fn read(
        servers: &[impl Borrow<Server>],
        bank: Bank,
    ) -> Result<Self, local_postgres::Error> {
        let mut books = Self::default();
        for (shard, server) in servers.iter().enumerate() {
            books.read_server(shard, server.borrow(), bank)?;
        }
        books.marks.values_mut().for_each(|marks| marks.sort());
        Ok(books)
    }

    fn read_server(
        &mut self,
        shard: usize,
        server: &Server,
        bank: Bank,
    ) -> Result<(), local_postgres::Error> {
        let query = |sql: &str| server.sql(DATABASE, sql);
        for row in query("SELECT txid, account, amount FROM mark")? {
            let mark = Mark {
                shard,
                account: number(&row, 1),
                amount: number(&row, 2),
            };
            self.marks.entry(text(&row, 0)).or_default().push(mark);
        }
        let initial = bank.initial_balance;
        let balances = "SELECT a.id, a.balance, coalesce(sum(m.amount), 0)
                        FROM account a LEFT JOIN mark m ON m.account = a.id GROUP BY a.id";
        for row in query(balances)? {
            let (account, balance, marks) = (number(&row, 0), number(&row, 1), number(&row, 2));
            self.money += balance;
            if balance != initial + marks {
                self.wrong_balances.push((shard, account));
            }
            if balance < 0 {
                self.negative_balances.push((shard, account));
            }
        }
        let prepared = "SELECT gid FROM pg_prepared_xacts WHERE database = current_database()";
        self.prepared
            .extend(query(prepared)?.iter().map(|row| text(row, 0)));
        let damage = "SELECT batch || ' ' || kind FROM gavel.damage";
        self.damage
            .extend(query(damage)?.iter().map(|row| text(row, 0)));
        Ok(())
    }

    /// Whether a transaction left marks.
    #[must_use]
    pub fn has(&self, txid: Txid) -> bool {
        self.marks.contains_key(&txid.to_string())
    }

    /// What is wrong with the books by themselves, if all the money is `money` and nobody's
    /// prepared transaction but those in `foreign` may be left.
    #[must_use]
    pub fn violations(&self, money: i64, foreign: &[String]) -> Vec<Violation> {
        let mut found = Vec::new();
        let mut broken = |invariant, what: String| found.push(Violation { invariant, what });
        for (shard, account) in &self.wrong_balances {
            let what = format!("account {account} of shard {shard} differs from its marks");
            broken(Invariant::ExactlyOnce, what);
        }
        for (shard, account) in &self.negative_balances {
            let what = format!("account {account} of shard {shard} is below zero");
            broken(Invariant::Atomicity, what);
        }
        if self.money != money {
            let what = format!("there is {} instead of {money}", self.money);
            broken(Invariant::Atomicity, what);
        }
        for gid in self.prepared.iter().filter(|gid| !foreign.contains(gid)) {
            broken(Invariant::NoOrphans, format!("{gid} is still prepared"));
        }
        for gid in foreign.iter().filter(|gid| !self.prepared.contains(gid)) {
            broken(
                Invariant::NoOrphans,
                format!("{gid} is not ours and is gone"),
            );
        }
        for damage in &self.damage {
            broken(
                Invariant::Atomicity,
                format!("damage was recorded: {damage}"),
            );
        }
        found
    }
}

fn text(row: &[Option<String>], column: usize) -> String {
    row[column].clone().unwrap_or_default()
}

fn number(row: &[Option<String>], column: usize) -> i64 {
    // The queries above select numbers that are not null.
    text(row, column).parse().unwrap_or(i64::MIN)
}
