//! A small bank on every shard, and the books that prove or disprove atomicity.
//!
//! Every transfer changes a balance and leaves a mark on both of its shards. At rest a
//! transaction's marks are on all of its shards or on none (I1), and every balance equals its
//! initial value plus its marks (I5).

use std::collections::BTreeMap;

use gavel_protocol::{BranchWork, Guard, ShardTag, Statement, Transaction, Txid};
use local_postgres::Server;

/// The database on every server.
pub const DATABASE: &str = "app";
/// The login role of participants.
pub const ROLE: &str = "app";
/// Accounts per shard, with ids from 0.
pub const ACCOUNTS: i64 = 50;
/// What every account begins with.
pub const INITIAL_BALANCE: i64 = 1_000;

const SCHEMA: &str = "
    CREATE TABLE account (
        id bigint PRIMARY KEY,
        balance bigint NOT NULL CHECK (balance >= 0)
    );
    CREATE TABLE mark (
        txid uuid NOT NULL,
        account bigint NOT NULL,
        amount bigint NOT NULL
    );
    CREATE TABLE late (
        id bigint PRIMARY KEY,
        other bigint REFERENCES account (id) DEFERRABLE INITIALLY DEFERRED
    );
    GRANT SELECT, INSERT, UPDATE, DELETE ON account, mark, late TO app;";

/// Creates database, role, tables and accounts on a server; returns the participant's URL.
pub fn create(server: &Server) -> String {
    server
        .create_database(DATABASE)
        .expect("create the database");
    let password = server.create_login_role(ROLE).expect("create the role");
    create_tables(server);
    server.url_for(ROLE, &password, DATABASE)
}

/// Creates tables and accounts in a database that exists.
pub fn create_tables(server: &Server) {
    server.sql(DATABASE, SCHEMA).expect("create the tables");
    let accounts = format!(
        "INSERT INTO account SELECT id, {INITIAL_BALANCE} FROM generate_series(0, {ACCOUNTS} - 1) id"
    );
    server
        .sql(DATABASE, &accounts)
        .expect("create the accounts");
}

/// One side of a transfer: balance and mark.
pub fn entry(txid: Txid, account: i64, amount: i64) -> Vec<Statement> {
    let update = "UPDATE account SET balance = balance + $1 WHERE id = $2";
    let mark = "INSERT INTO mark VALUES ($1, $2, $3)";
    vec![
        Statement::new(update, [amount.to_string(), account.to_string()])
            .expecting(Guard::RowsExactly(1)),
        Statement::new(
            mark,
            [txid.to_string(), account.to_string(), amount.to_string()],
        ),
    ]
}

/// A transfer of `amount` between accounts on two shards.
pub fn transfer(
    txid: Txid,
    (payer_shard, payer): (ShardTag, i64),
    (payee_shard, payee): (ShardTag, i64),
    amount: i64,
) -> Transaction {
    Transaction::new(vec![
        BranchWork::write(payer_shard, entry(txid, payer, -amount)),
        BranchWork::write(payee_shard, entry(txid, payee, amount)),
    ])
}

/// What the servers say, read directly.
#[derive(Debug, Default)]
pub struct Books {
    /// Per txid, the indices of the servers that have a mark of it, one entry per mark.
    pub marks: BTreeMap<String, Vec<usize>>,
    /// The sum of all balances.
    pub money: i64,
    /// Balances that do not equal their initial value plus their marks.
    pub wrong_balances: Vec<(usize, i64)>,
    /// gids that are prepared, ours or not.
    pub prepared: Vec<String>,
    /// Rows of `gavel.damage`.
    pub damage: i64,
}

impl Books {
    /// Reads the books of all servers.
    pub fn read(servers: &[Server]) -> Self {
        let mut books = Self::default();
        for (index, server) in servers.iter().enumerate() {
            books.read_server(index, server);
        }
        books
    }

    fn read_server(&mut self, index: usize, server: &Server) {
        let query = |sql: &str| server.sql(DATABASE, sql).expect("read the books");
        for row in query("SELECT txid FROM mark") {
            self.marks.entry(text(&row, 0)).or_default().push(index);
        }
        self.money += number(
            &query("SELECT coalesce(sum(balance), 0) FROM account")[0],
            0,
        );
        let wrong = format!(
            "SELECT id FROM account WHERE balance <> {INITIAL_BALANCE} + \
             coalesce((SELECT sum(amount) FROM mark WHERE account = id), 0)"
        );
        self.wrong_balances
            .extend(query(&wrong).iter().map(|row| (index, number(row, 0))));
        let prepared = "SELECT gid FROM pg_prepared_xacts WHERE database = current_database()";
        self.prepared
            .extend(query(prepared).iter().map(|row| text(row, 0)));
        self.damage += number(&query("SELECT count(*) FROM gavel.damage")[0], 0);
    }

    /// Asserts I1, I5 and I6 for transfers between exactly two shards, and that no money was
    /// made or lost.
    pub fn assert_sound(&self, servers: usize) {
        assert_eq!(
            self.prepared,
            Vec::<String>::new(),
            "I6: something is still prepared"
        );
        for (txid, shards) in &self.marks {
            assert_eq!(shards.len(), 2, "I1, I5: {txid} has marks on {shards:?}");
            assert_ne!(
                shards[0], shards[1],
                "I1: {txid} has both marks on one shard"
            );
        }
        assert_eq!(
            self.wrong_balances,
            vec![],
            "I5: balances differ from their marks"
        );
        let expected = ACCOUNTS * INITIAL_BALANCE * i64::try_from(servers).expect("few servers");
        assert_eq!(self.money, expected, "I1: money was made or lost");
        assert_eq!(self.damage, 0, "damage was recorded");
    }

    /// Whether a transaction left its marks.
    pub fn has(&self, txid: Txid) -> bool {
        self.marks.contains_key(&txid.to_string())
    }
}

fn text(row: &[Option<String>], column: usize) -> String {
    row[column].clone().expect("not null")
}

fn number(row: &[Option<String>], column: usize) -> i64 {
    text(row, column).parse().expect("a number")
}
