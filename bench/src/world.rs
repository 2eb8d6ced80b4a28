//! The servers with their accounts, and the audit after every run.
//!
//! Every run begins in the same state: balances reset, marks and Gavel's own rows gone, a
//! checkpoint behind it. Afterwards SQL, run directly on the servers, must find that nothing is
//! prepared, no money was made or lost, every balance equals its marks, and both shards have the
//! same marks, one per committed transfer.

use anyhow::{Context as _, ensure};
use gavel_migrations::IdentityClaim;
use local_postgres::{Cluster, Options, Server};

/// Gavel's installation name.
pub const DEPLOYMENT: &str = "bench";
/// The names of the shards; their tags are 1 and 2. The first is home.
pub const SHARDS: [&str; 2] = ["one", "two"];
/// Moves money on one shard; must change exactly one row. All variants run this text.
pub const UPDATE: &str = "UPDATE account SET balance = balance + $1 WHERE id = $2";
/// Leaves the transfer's mark on one shard. All variants run this text.
pub const MARK: &str = "INSERT INTO mark VALUES ($1, $2, $3)";
/// Server settings that differ from PostgreSQL's defaults, apart from those of addresses.
pub const SETTINGS: [(&str, &str); 5] = [
    ("max_connections", "400"),
    ("max_prepared_transactions", "300"),
    ("shared_buffers", "128MB"),
    // No checkpoint falls into a run: one is made before each.
    ("checkpoint_timeout", "30min"),
    ("max_wal_size", "8GB"),
];

const DATABASE: &str = "bank";
const ROLE: &str = "gavel_app";
const INITIAL_BALANCE: i64 = 1_000_000;

/// Two servers, a shard on each.
pub struct World {
    /// Accounts per shard.
    pub accounts: i64,
    shards: Vec<Shard>,
    cluster: Cluster,
}

/// One shard.
pub struct Shard {
    /// Its name.
    pub name: &'static str,
    /// Its number.
    pub tag: u16,
    /// For whoever transfers money.
    pub url: String,
}

impl World {
    /// Starts the servers and makes the accounts.
    pub async fn start(accounts: i64) -> anyhow::Result<Self> {
        let options = SHARDS.map(server_options);
        let cluster = Cluster::temporary_with(&options).context("cannot start the servers")?;
        let mut shards = Vec::new();
        for (index, server) in cluster.servers().iter().enumerate() {
            let (name, tag) = (SHARDS[index], u16::try_from(index + 1)?);
            let url = create(server, accounts)?;
            let claim = IdentityClaim {
                deployment: DEPLOYMENT.to_owned(),
                shard: name.to_owned(),
                tag,
                participant_role: Some(ROLE.to_owned()),
            };
            gavel_migrations::migrate(&server.url(DATABASE), &claim)
                .await
                .context("cannot migrate")?;
            shards.push(Shard { name, tag, url });
        }
        Ok(Self {
            accounts,
            shards,
            cluster,
        })
    }

    /// The shards, home first.
    pub fn shards(&self) -> &[Shard] {
        &self.shards
    }

    /// The servers, in the same order.
    pub fn servers(&self) -> &[Server] {
        self.cluster.servers()
    }

    /// Back to the beginning.
    pub fn reset(&self) -> anyhow::Result<()> {
        for server in self.servers() {
            for statement in [
                "TRUNCATE mark, gavel.decision, gavel.transaction, gavel.branch",
                &format!("UPDATE account SET balance = {INITIAL_BALANCE}"),
                "VACUUM ANALYZE account",
                "CHECKPOINT",
            ] {
                server.sql(DATABASE, statement)?;
            }
        }
        Ok(())
    }

    /// Counts the money after `committed` transfers.
    pub fn audit(&self, committed: u64) -> anyhow::Result<()> {
        let wanted = self.accounts * INITIAL_BALANCE * i64::try_from(SHARDS.len())?;
        let mut money = 0;
        let mut marks = Vec::new();
        for server in self.servers() {
            let prepared = number(server, "SELECT count(*) FROM pg_prepared_xacts")?;
            ensure!(prepared == 0, "{prepared} transactions are still prepared");
            let damage = number(server, "SELECT count(*) FROM gavel.damage")?;
            ensure!(damage == 0, "gavel recorded damage");
            let wrong = number(server, &wrong_balances())?;
            ensure!(wrong == 0, "{wrong} balances differ from their marks");
            money += number(server, "SELECT sum(balance)::bigint FROM account")?;
            marks.push(text(server, MARKS)?);
        }
        ensure!(money == wanted, "there is {money} instead of {wanted}");
        ensure!(
            marks[0] == marks[1],
            "the shards do not have the same marks: {marks:?}"
        );
        let counted = format!("{committed} ");
        ensure!(
            marks[0].starts_with(&counted),
            "{committed} transfers were committed, but marks are {marks:?}"
        );
        Ok(())
    }

    /// Transactions per batch since the last reset; `None` if Gavel has decided nothing.
    pub fn batch_mean(&self) -> anyhow::Result<Option<f64>> {
        let home = &self.servers()[0];
        let batches = number(home, "SELECT count(*) FROM gavel.decision")?;
        let transactions = number(home, "SELECT count(*) FROM gavel.transaction")?;
        Ok((batches > 0).then(|| transactions as f64 / batches as f64))
    }
}

/// Count and a sum over all txids: two shards with the same marks agree on both.
const MARKS: &str = "SELECT count(*) || ' ' || \
     coalesce(sum(hashtextextended(txid::text, 0)::numeric), 0) FROM mark";

fn wrong_balances() -> String {
    format!(
        "SELECT count(*) FROM account LEFT JOIN \
         (SELECT account, sum(amount) AS moved FROM mark GROUP BY account) AS m ON m.account = id \
         WHERE balance <> {INITIAL_BALANCE} + coalesce(moved, 0)"
    )
}

fn server_options(name: &str) -> Options {
    let options = Options::new(name);
    SETTINGS.iter().fold(options, |options, (name, value)| {
        options.setting(name, value)
    })
}

fn create(server: &Server, accounts: i64) -> anyhow::Result<String> {
    server.create_database(DATABASE)?;
    let password = server.create_login_role(ROLE)?;
    server.sql(
        DATABASE,
        &format!(
            "CREATE TABLE account (id bigint PRIMARY KEY,
                                   balance bigint NOT NULL CHECK (balance >= 0));
             CREATE TABLE mark (txid uuid NOT NULL, account bigint NOT NULL, amount bigint NOT NULL);
             GRANT SELECT, INSERT, UPDATE ON account, mark TO {ROLE};
             INSERT INTO account SELECT id, {INITIAL_BALANCE} FROM generate_series(1, {accounts}) id"
        ),
    )?;
    Ok(server.url_for(ROLE, &password, DATABASE))
}

/// One value, as text.
pub fn text(server: &Server, query: &str) -> anyhow::Result<String> {
    let rows = server.sql(DATABASE, query)?;
    let value = rows.first().and_then(|row| row.first()?.clone());
    value.with_context(|| format!("no answer to {query}"))
}

fn number(server: &Server, query: &str) -> anyhow::Result<i64> {
    Ok(text(server, query)?.parse()?)
}
