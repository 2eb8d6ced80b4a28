//! What a client wants done: one transaction, as statements per shard.
//!
//! All variants run the same texts; only how they make them atomic differs.

use std::collections::BTreeMap;

use gavel_protocol::id::RandomBytes;
use gavel_protocol::{ShardTag, Txid};

/// Moves money on one shard; changes exactly one row if the account exists and has the funds.
pub const UPDATE: &str =
    "UPDATE account SET balance = balance + $1 WHERE id = $2 AND balance + $1 >= 0";
/// Leaves the transfer's mark on one shard: txid, bit mask of the transfer's shards, account,
/// amount.
pub const MARK: &str = "INSERT INTO mark VALUES ($1, $2, $3, $4)";
/// The same with the new balance as its result.
pub const UPDATE_RETURNING: &str = "UPDATE account SET balance = balance + $1 \
     WHERE id = $2 AND balance + $1 >= 0 RETURNING balance";
/// The same with the mark's txid as its result.
pub const MARK_RETURNING: &str = "INSERT INTO mark VALUES ($1, $2, $3, $4) RETURNING txid";
/// Reads a few accounts.
pub const READ: &str = "SELECT id, balance FROM account WHERE id BETWEEN $1 AND $2";

/// How many accounts [`READ`] covers.
pub const READ_ACCOUNTS: i64 = 10;

/// One transaction.
#[derive(Debug, Clone)]
pub struct Work {
    /// Its id, on every mark; a new one for every try.
    pub txid: Txid,
    /// What it does, in the order of the shards: at most one branch per shard.
    pub branches: Vec<Branch>,
    /// Whether anything in it must fail.
    pub healthy: bool,
    /// How the client runs it.
    pub style: Style,
}

/// How a client runs its transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// Everything is said at once.
    Declared,
    /// Every statement is awaited before the next one is sent.
    Interactive,
}

/// The part of a transaction on one shard.
#[derive(Debug, Clone)]
pub struct Branch {
    /// The shard, counted from 0.
    pub shard: usize,
    /// Its statements.
    pub steps: Vec<Step>,
}

/// One statement.
#[derive(Debug, Clone)]
pub struct Step {
    /// One of the texts above.
    pub sql: &'static str,
    /// In PostgreSQL's text format.
    pub params: Vec<Option<String>>,
    /// With any other number of rows, the whole transaction must not happen.
    pub expects_rows: Option<u64>,
}

/// What is added to an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// On which shard, counted from 0.
    pub shard: usize,
    /// Whose balance changes.
    pub account: i64,
    /// By how much.
    pub amount: i64,
}

/// What a transfer is made of, apart from its entries.
#[derive(Debug, Clone, Copy)]
pub struct Form {
    /// Five statements per shard that return rows, instead of two that do not.
    pub wide: bool,
    /// The shard on which a mark violates its table's constraint.
    pub broken_mark: Option<usize>,
    /// Whether anything in it must fail.
    pub healthy: bool,
    /// How the client runs it.
    pub style: Style,
}

impl Work {
    /// A transfer. The amounts of the entries cancel out.
    pub fn transfer(entries: &[Entry], form: Form, unix_ms: u64, random: RandomBytes) -> Self {
        let mut by_shard = BTreeMap::<usize, Vec<Entry>>::new();
        for entry in entries {
            by_shard.entry(entry.shard).or_default().push(*entry);
        }
        let home = by_shard.keys().next().copied().unwrap_or(0);
        let mask: u32 = by_shard.keys().map(|shard| 1 << shard).sum();
        let txid = Txid::mint(unix_ms, tag(home), random);
        let branches = by_shard.into_iter().map(|(shard, mut entries)| {
            // One order of locks within a shard, so that no two transfers deadlock there.
            entries.sort_by_key(|entry| entry.account);
            let marked = (form.broken_mark != Some(shard)).then(|| txid.to_string());
            let steps = match form.wide {
                true => wide_steps(&entries, marked.as_deref(), mask),
                false => steps(&entries, marked.as_deref(), mask),
            };
            Branch { shard, steps }
        });
        Self {
            txid,
            branches: branches.collect(),
            healthy: form.healthy,
            style: form.style,
        }
    }
}

/// The tag of the shard at this place in the list.
pub fn tag(shard: usize) -> ShardTag {
    ShardTag(u16::try_from(shard + 1).expect("a handful of shards"))
}

fn steps(entries: &[Entry], txid: Option<&str>, mask: u32) -> Vec<Step> {
    let pairs = entries.iter().flat_map(|entry| {
        [
            Step::guarded(UPDATE, update_params(entry)),
            Step::plain(MARK, mark_params(entry, txid, mask)),
        ]
    });
    pairs.collect()
}

fn wide_steps(entries: &[Entry], txid: Option<&str>, mask: u32) -> Vec<Step> {
    let updates = entries
        .iter()
        .map(|entry| Step::guarded(UPDATE_RETURNING, update_params(entry)));
    let marks = entries
        .iter()
        .map(|entry| Step::plain(MARK_RETURNING, mark_params(entry, txid, mask)));
    let first = entries.first().map_or(1, |entry| entry.account);
    let range = [first, first + READ_ACCOUNTS - 1];
    let read = Step::plain(READ, range.map(|id| Some(id.to_string())).to_vec());
    updates.chain([read]).chain(marks).collect()
}

fn update_params(entry: &Entry) -> Vec<Option<String>> {
    vec![
        Some(entry.amount.to_string()),
        Some(entry.account.to_string()),
    ]
}

fn mark_params(entry: &Entry, txid: Option<&str>, mask: u32) -> Vec<Option<String>> {
    vec![
        txid.map(str::to_owned),
        Some(mask.to_string()),
        Some(entry.account.to_string()),
        Some(entry.amount.to_string()),
    ]
}

impl Step {
    fn plain(sql: &'static str, params: Vec<Option<String>>) -> Self {
        Self {
            sql,
            params,
            expects_rows: None,
        }
    }

    fn guarded(sql: &'static str, params: Vec<Option<String>>) -> Self {
        Self {
            expects_rows: Some(1),
            ..Self::plain(sql, params)
        }
    }
}
