//! Real servers, Gavel embedded with a coordinator for each size of batches, and one case on them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicI64, Ordering};

use gavel_chaos::bank::{MARK, UPDATE};
use gavel_coordinator::{Coordinator, Engine};
use gavel_protocol::outcome::Status;
use gavel_protocol::{
    BranchWork, Guard, Limits, Outcome, Principal, ShardTag, Statement, Transaction, Txid,
};
use gavel_tests::bank::DATABASE;
use gavel_tests::embedded::{Embedded, Home};
use gavel_tests::{BATCH_SIZES, batch_members};
use tokio_postgres::{NoTls, SimpleQueryMessage};

use crate::case::{Case, Member, SHARDS, Step};
use crate::model::{Rows, Told};

const TABLES: &str = "
    CREATE TABLE claim (key bigint PRIMARY KEY, txid uuid NOT NULL);
    CREATE TABLE late_claim (
        key bigint UNIQUE DEFERRABLE INITIALLY DEFERRED,
        txid uuid NOT NULL
    );
    CREATE TABLE orphan (
        account bigint REFERENCES account (id) DEFERRABLE INITIALLY DEFERRED
    );
    GRANT SELECT, INSERT ON claim, late_claim, orphan TO app;";
/// Above the accounts of the bank.
const FIRST_ROW: i64 = 1_000;
/// A row that no account has.
const NOBODY: i64 = -1;

/// Everything that all cases share.
pub(crate) struct Stage {
    gavel: Embedded,
    /// With the size of their batches.
    coordinators: Vec<(usize, Coordinator)>,
    /// A superuser's session on each shard.
    sessions: Vec<tokio_postgres::Client>,
    next_row: AtomicI64,
}

/// What a case came to.
pub(crate) struct Played {
    pub(crate) members_max: usize,
    /// Final answers, in the order of the members.
    pub(crate) told: Vec<Told>,
    pub(crate) txids: Vec<Txid>,
    /// How many batches had so many members.
    pub(crate) batches: BTreeMap<u64, u64>,
    first_row: i64,
}

impl Stage {
    pub(crate) async fn start() -> Self {
        let limits = Limits {
            // Two homes may wait for each other over both shards: such a wait should be short.
            lock_timeout_ms: 80,
            ..Limits::default()
        };
        let gavel = Embedded::start_with(Home::Dedicated, SHARDS, limits, |options| options).await;
        for server in gavel.cluster.servers() {
            server.sql(DATABASE, TABLES).expect("create the tables");
        }
        let mut sessions = Vec::new();
        for server in gavel.cluster.servers() {
            let connected = tokio_postgres::connect(&server.url(DATABASE), NoTls).await;
            let (session, connection) = connected.expect("connect");
            tokio::spawn(connection);
            sessions.push(session);
        }
        let sizes = batch_members().map_or_else(|| BATCH_SIZES.to_vec(), |size| vec![size]);
        let mut coordinators = Vec::new();
        for size in sizes {
            coordinators.push((size, gavel.coordinator_with_batches_of(size).await));
        }
        Self {
            gavel,
            coordinators,
            sessions,
            next_row: AtomicI64::new(FIRST_ROW),
        }
    }

    /// Submits all members at the same time, again and again until each has a final answer.
    pub(crate) async fn play(&self, case: &Case) -> Result<Played, String> {
        let first_row = self.open_accounts(case).await;
        let (members_max, coordinator) = case.size.get(&self.coordinators);
        let txids: Vec<Txid> = case
            .members
            .iter()
            .map(|member| {
                coordinator
                    .mint(Some(tag(member.shape.home())))
                    .expect("a shard")
            })
            .collect();
        let submits = case.members.iter().zip(&txids).map(|(member, txid)| {
            let transaction = transaction(member, *txid, first_row);
            self.submit(coordinator, *txid, transaction, member.is_doubled)
        });
        let told = futures::future::join_all(submits).await;
        Ok(Played {
            members_max: *members_max,
            told: told.into_iter().collect::<Result<_, _>>()?,
            batches: self.batches(&txids).await,
            txids,
            first_row,
        })
    }

    /// The final answer; the same one twice, if it is submitted twice at the same time.
    async fn submit(
        &self,
        coordinator: &Coordinator,
        txid: Txid,
        transaction: Transaction,
        is_doubled: bool,
    ) -> Result<Told, String> {
        let submit = || async {
            let submit = self
                .gavel
                .submit_until_final(coordinator, txid, transaction.clone());
            as_told(submit.await)
        };
        if !is_doubled {
            return submit().await;
        }
        match tokio::join!(submit(), submit()) {
            (first, second) if first == second => first,
            (first, second) => Err(format!("I2: {txid} was told {first:?} and {second:?}")),
        }
    }

    async fn open_accounts(&self, case: &Case) -> i64 {
        let count = i64::try_from(case.groups.len()).expect("few");
        let first = self.next_row.fetch_add(count, Ordering::Relaxed);
        for shard in 0..SHARDS {
            let rows = case.groups.iter().zip(first..);
            let rows: Vec<String> = rows
                .map(|(balances, row)| format!("({row}, {})", balances[shard]))
                .collect();
            let insert = format!("INSERT INTO account VALUES {}", rows.join(", "));
            self.sql(shard, &insert).await;
        }
        first
    }

    /// How many recorded batches had so many members.
    async fn batches(&self, txids: &[Txid]) -> BTreeMap<u64, u64> {
        let mut batches = BTreeMap::new();
        for shard in 0..=SHARDS {
            let sql = format!(
                "SELECT count(*) FROM gavel.transaction WHERE txid IN ({}) GROUP BY batch",
                quoted(txids)
            );
            for row in self.sql(shard, &sql).await {
                *batches
                    .entry(row[0].parse().expect("a number"))
                    .or_default() += 1;
            }
        }
        batches
    }

    // ---- what the databases show ----

    /// Compares the answers with what is recorded, and with the marks on the shards.
    pub(crate) async fn check_recorded(&self, case: &Case, played: &Played) -> Result<(), String> {
        let (_, coordinator) = case.size.get(&self.coordinators);
        let mut marks = Vec::new();
        for shard in 0..SHARDS {
            marks.push(self.marks(shard, played).await);
        }
        let me = || Some(Principal::local());
        let statuses = played
            .txids
            .iter()
            .map(|txid| coordinator.status(*txid, me()));
        let statuses = futures::future::join_all(statuses).await.into_iter();
        let answers = played.txids.iter().zip(&played.told).zip(statuses);
        for (member, ((txid, told), status)) in case.members.iter().zip(answers) {
            let recorded = match status {
                Ok(Status::Committed) => Told::Committed,
                Ok(Status::Aborted(reason)) => Told::Aborted(reason),
                other => {
                    return Err(format!(
                        "I2: {txid} was told {told:?}, its status is {other:?}"
                    ));
                }
            };
            if recorded != *told {
                return Err(format!(
                    "I2: {txid} was told {told:?}, recorded is {recorded:?}"
                ));
            }
            for (shard, marks) in marks.iter().enumerate() {
                let is_here = *told == Told::Committed && member.shape.works_on(shard);
                let found = marks.get(&txid.to_string()).copied().unwrap_or_default();
                if found != u64::from(is_here) {
                    return Err(format!(
                        "I1, I4: {txid} ({told:?}) has {found} marks on {shard}"
                    ));
                }
            }
        }
        Ok(())
    }

    async fn marks(&self, shard: usize, played: &Played) -> BTreeMap<String, u64> {
        let sql = format!(
            "SELECT txid, count(*) FROM mark WHERE txid IN ({}) GROUP BY txid",
            quoted(&played.txids)
        );
        let rows = self.sql(shard, &sql).await.into_iter();
        rows.map(|row| (row[0].clone(), row[1].parse().expect("a number")))
            .collect()
    }

    /// The rows of every group.
    pub(crate) async fn rows(&self, case: &Case, played: &Played) -> Vec<Rows> {
        let mut all = vec![Rows::new([0; SHARDS]); case.groups.len()];
        let last = played.first_row + i64::try_from(all.len()).expect("few") - 1;
        for shard in 0..SHARDS {
            let sql = format!(
                "SELECT id, balance,
                    (SELECT count(*) FROM claim WHERE key = id),
                    (SELECT count(*) FROM late_claim WHERE key = id)
                 FROM account WHERE id BETWEEN {} AND {last} ORDER BY id",
                played.first_row
            );
            for (rows, found) in all.iter_mut().zip(self.sql(shard, &sql).await) {
                rows.balances[shard] = found[1].parse().expect("a number");
                rows.claims[shard] = found[2].parse().expect("a number");
                rows.late_claims[shard] = found[3].parse().expect("a number");
            }
        }
        all
    }

    /// I6: after all cases nothing is prepared.
    pub(crate) async fn prepared(&self) -> BTreeSet<String> {
        let mut gids = BTreeSet::new();
        for shard in 0..SHARDS {
            let rows = self.sql(shard, "SELECT gid FROM pg_prepared_xacts").await;
            gids.extend(rows.into_iter().flatten());
        }
        gids
    }

    async fn sql(&self, shard: usize, sql: &str) -> Vec<Vec<String>> {
        let messages = self.sessions[shard].simple_query(sql).await.expect("SQL");
        let rows = messages.into_iter().filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => Some(row),
            _ => None,
        });
        let columns = |row: tokio_postgres::SimpleQueryRow| {
            let columns = (0..row.len()).filter_map(|at| row.get(at).map(str::to_owned));
            columns.collect()
        };
        rows.map(columns).collect()
    }
}

fn tag(shard: usize) -> ShardTag {
    ShardTag(u16::try_from(shard + 1).expect("few shards"))
}

fn quoted(txids: &[Txid]) -> String {
    let each = txids.iter().map(|txid| format!("'{txid}'"));
    each.collect::<Vec<_>>().join(", ")
}

fn as_told(outcome: Outcome) -> Result<Told, String> {
    match outcome {
        Outcome::Committed { .. } => Ok(Told::Committed),
        Outcome::Aborted(reason) => Ok(Told::Aborted(reason)),
        other => Err(format!("I7: no final answer without faults: {other:?}")),
    }
}

fn transaction(member: &Member, txid: Txid, first_row: i64) -> Transaction {
    let row = first_row + i64::try_from(member.group).expect("few groups");
    let shards = (0..SHARDS).filter(|shard| member.shape.works_on(*shard));
    let branches = shards.map(|shard| {
        let mut statements: Vec<Statement> = member
            .steps_on(shard)
            .map(|step| statement(step, txid, row))
            .collect();
        let mark = [txid.to_string(), row.to_string(), "0".to_owned()];
        statements.push(Statement::new(MARK, mark));
        BranchWork::write(tag(shard), statements)
    });
    Transaction::new(branches.collect())
}

fn statement(step: Step, txid: Txid, row: i64) -> Statement {
    const ADD: &str =
        "UPDATE account SET balance = balance + $1 WHERE id = $2 AND balance + $1 >= 0";
    let claim = [row.to_string(), txid.to_string()];
    match step {
        Step::Add(amount) => Statement::new(ADD, [amount.to_string(), row.to_string()])
            .expecting(Guard::RowsExactly(1)),
        Step::Claim => Statement::new("INSERT INTO claim VALUES ($1, $2)", claim),
        Step::ClaimLate => Statement::new("INSERT INTO late_claim VALUES ($1, $2)", claim),
        Step::FailGuard => Statement::new(UPDATE, ["1".to_owned(), NOBODY.to_string()])
            .expecting(Guard::RowsExactly(1)),
        Step::FailSql => Statement::new("SELECT 1 / 0", [""; 0]),
        Step::FailLate => Statement::new("INSERT INTO orphan VALUES ($1)", [NOBODY.to_string()]),
    }
}
