//! A small bank on every shard, and the books that prove or disprove atomicity.
//!
//! Every transfer changes a balance and leaves a mark on both of its shards. At rest a
//! transaction's marks are on all of its shards or on none (I1), and every balance equals its
//! initial value plus its marks (I5).

use std::borrow::Borrow;

pub use gavel_chaos::bank::UPDATE;
use gavel_chaos::bank::{Bank, MARK};
use gavel_protocol::{BranchWork, Guard, ShardTag, Statement, Transaction, Txid};
use local_postgres::Server;

pub use gavel_chaos::bank::{Books, DATABASE};

/// The login role of participants.
pub const ROLE: &str = "app";
/// Accounts per shard, with ids from 0.
pub const ACCOUNTS: i64 = 50;
/// What every account begins with.
pub const INITIAL_BALANCE: i64 = 1_000;

const BANK: Bank = Bank {
    accounts: ACCOUNTS,
    initial_balance: INITIAL_BALANCE,
};

/// A table whose constraint fails at PREPARE or COMMIT only.
const LATE: &str = "
    CREATE TABLE late (
        id bigint PRIMARY KEY,
        other bigint REFERENCES account (id) DEFERRABLE INITIALLY DEFERRED
    );
    GRANT SELECT, INSERT, UPDATE, DELETE ON late TO app;";

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
    let schema = BANK.schema(ROLE) + LATE;
    server.sql(DATABASE, &schema).expect("create the tables");
}

/// One side of a transfer: balance and mark.
pub fn entry(txid: Txid, account: i64, amount: i64) -> Vec<Statement> {
    vec![
        Statement::new(UPDATE, [amount.to_string(), account.to_string()])
            .expecting(Guard::RowsExactly(1)),
        Statement::new(
            MARK,
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

/// The books of all servers, read directly.
pub fn read_books(servers: &[impl Borrow<Server>]) -> Books {
    Books::read(servers, BANK).expect("read the books")
}

/// Asserts I1, I5 and I6 for transfers between exactly two shards, and that no money was made or
/// lost.
pub fn assert_sound(books: &Books, servers: usize) {
    let violations = books.violations(BANK.money(servers), &[]);
    assert!(violations.is_empty(), "{violations:#?}");
    for (txid, marks) in &books.marks {
        let shards: Vec<usize> = marks.iter().map(|mark| mark.shard).collect();
        assert_eq!(shards.len(), 2, "I1, I5: {txid} has marks on {shards:?}");
        assert_ne!(
            shards[0], shards[1],
            "I1: {txid} has both marks on one shard"
        );
    }
}
