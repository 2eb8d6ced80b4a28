//! The servers with their accounts.
//!
//! Every run begins in the same state: balances reset, marks and Gavel's own rows gone, a
//! checkpoint behind it. What must be true afterwards is in `audit`.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use gavel_migrations::IdentityClaim;
use gavel_protocol::ShardTag;
use local_postgres::{Cluster, Options, Server};

use crate::process::Processes;
use crate::scenario::INITIAL_BALANCE;
use crate::work::tag;

/// Gavel's installation name.
pub const DEPLOYMENT: &str = "bench";
/// The names of the shards; their tags are 1 to 4. A transaction's home is the first that it uses.
pub const SHARDS: [&str; 4] = ["one", "two", "three", "four"];
/// Server settings that differ from PostgreSQL's defaults, apart from those of addresses.
pub const SETTINGS: [(&str, &str); 3] = [
    ("max_connections", "400"),
    ("max_prepared_transactions", "600"),
    ("shared_buffers", "128MB"),
];
/// Those of short runs: no checkpoint falls into a run, because one is made before each.
pub const NO_CHECKPOINTS: [(&str, &str); 2] =
    [("checkpoint_timeout", "30min"), ("max_wal_size", "8GB")];

const DATABASE: &str = "bank";
const ROLE: &str = "gavel_app";
const SETTINGS_LIMIT: Duration = Duration::from_secs(10);

/// Who takes care of the servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Upkeep {
    /// The measurement, between runs.
    BetweenRuns,
    /// PostgreSQL, as by default: checkpoints and autovacuum whenever it sees fit.
    ByItself,
}

/// Four servers, a shard on each.
pub struct World {
    /// Accounts per shard.
    pub accounts: i64,
    upkeep: Upkeep,
    shards: Vec<Shard>,
    cluster: Cluster,
}

/// One shard.
#[derive(Debug)]
pub struct Shard {
    /// Its name.
    pub name: &'static str,
    /// Its number.
    pub tag: ShardTag,
    /// For whoever transfers money.
    pub url: String,
}

impl World {
    /// Starts the servers and makes the accounts.
    pub async fn start(accounts: i64, upkeep: Upkeep) -> anyhow::Result<Self> {
        let options = SHARDS.map(|name| server_options(name, upkeep));
        let cluster = Cluster::temporary_with(&options).context("cannot start the servers")?;
        let mut shards = Vec::new();
        for (index, server) in cluster.servers().iter().enumerate() {
            let (name, tag) = (SHARDS[index], tag(index));
            let url = create(server, accounts)?;
            let claim = IdentityClaim {
                deployment: DEPLOYMENT.to_owned(),
                shard: name.to_owned(),
                tag: tag.0,
                participant_role: Some(ROLE.to_owned()),
            };
            gavel_migrations::migrate(&server.url(DATABASE), &claim)
                .await
                .context("cannot migrate")?;
            shards.push(Shard { name, tag, url });
        }
        Ok(Self {
            accounts,
            upkeep,
            shards,
            cluster,
        })
    }

    /// How many shards there are.
    pub fn len(&self) -> usize {
        self.shards.len()
    }

    /// The first `count` shards.
    pub fn shards(&self, count: usize) -> &[Shard] {
        &self.shards[..count]
    }

    /// The servers of the first `count` shards.
    pub fn servers(&self, count: usize) -> &[Server] {
        &self.cluster.servers()[..count]
    }

    /// The servers' processes, and Gavel's.
    pub fn processes(&self, count: usize, gavel: Vec<(String, u32)>) -> Processes {
        let postmasters = self.servers(count).iter().filter_map(|server| {
            let pid = server.postmaster_pid()?;
            Some((format!("postgres {}", server.name()), pid))
        });
        Processes {
            gavel,
            postmasters: postmasters.collect(),
        }
    }

    /// Back to the beginning, on the first `count` shards.
    pub fn reset(&self, count: usize) -> anyhow::Result<()> {
        self.on_each(count, |server| {
            rows(server, &empty_and_refill())?;
            if self.upkeep == Upkeep::BetweenRuns {
                rows(server, "VACUUM ANALYZE account")?;
                rows(server, "CHECKPOINT")?;
            }
            Ok(())
        })?;
        Ok(())
    }

    /// Changes settings of all servers, and waits until new sessions have them.
    pub fn configure(&self, settings: &[(&str, &str)]) -> anyhow::Result<()> {
        self.alter(settings, |(name, value)| {
            (
                format!("ALTER SYSTEM SET {name} = '{value}'"),
                "IS NOT DISTINCT FROM",
                value,
            )
        })
    }

    /// Takes back what `configure` did.
    pub fn unconfigure(&self, settings: &[(&str, &str)]) -> anyhow::Result<()> {
        self.alter(settings, |(name, value)| {
            (
                format!("ALTER SYSTEM RESET {name}"),
                "IS DISTINCT FROM",
                value,
            )
        })
    }

    fn alter<'a>(
        &self,
        settings: &[(&'a str, &'a str)],
        change: impl Fn((&'a str, &'a str)) -> (String, &'static str, &'a str) + Sync,
    ) -> anyhow::Result<()> {
        if settings.is_empty() {
            return Ok(());
        }
        self.on_each(SHARDS.len(), |server| {
            let mut questions = Vec::new();
            for (name, value) in settings {
                let (statement, compared, value) = change((name, value));
                server.sql(DATABASE, &statement)?;
                questions.push(format!(
                    "SELECT setting {compared} '{value}' FROM pg_settings WHERE name = '{name}'"
                ));
            }
            server.sql(DATABASE, "SELECT pg_reload_conf()")?;
            // The postmaster reads its files when it has time.
            let deadline = Instant::now() + SETTINGS_LIMIT;
            for question in questions {
                while text(server, &question)? != "t" {
                    ensure!(Instant::now() < deadline, "settings do not change");
                    thread::sleep(Duration::from_millis(10));
                }
            }
            Ok(())
        })?;
        Ok(())
    }

    /// Does the same on each of the first `count` servers, at once.
    pub fn on_each<T: Send>(
        &self,
        count: usize,
        act: impl Fn(&Server) -> anyhow::Result<T> + Sync,
    ) -> anyhow::Result<Vec<T>> {
        let act = &act;
        thread::scope(|scope| {
            let workers: Vec<_> = self
                .servers(count)
                .iter()
                .map(|server| scope.spawn(move || act(server)))
                .collect();
            let ended = workers.into_iter().map(|worker| worker.join());
            ended
                .map(|ended| ended.expect("asking a server does not panic"))
                .collect()
        })
    }

    /// Transactions per batch since the last reset; `None` if Gavel has decided nothing.
    pub fn batch_mean(&self, count: usize) -> anyhow::Result<Option<f64>> {
        const COUNT: &str = "SELECT (SELECT count(*) FROM gavel.decision), \
             (SELECT count(*) FROM gavel.transaction)";
        let (mut batches, mut transactions) = (0, 0);
        for [decisions, outcomes] in self.on_each(count, |server| numbers(server, COUNT))? {
            batches += decisions;
            transactions += outcomes;
        }
        Ok((batches > 0).then(|| transactions as f64 / batches as f64))
    }
}

/// Only tables that have something in them are truncated: an empty partition costs new files too.
fn empty_and_refill() -> String {
    format!(
        "DO $$ DECLARE filled text; BEGIN
             SELECT string_agg(relid::regclass::text, ', ') INTO filled
             FROM (SELECT 'mark'::regclass AS relid
                   UNION ALL SELECT relid FROM pg_partition_tree('gavel.decision')
                   UNION ALL SELECT relid FROM pg_partition_tree('gavel.transaction')
                   UNION ALL SELECT relid FROM pg_partition_tree('gavel.branch')) AS tables
             WHERE pg_relation_size(relid) > 0;
             IF filled IS NOT NULL THEN EXECUTE 'TRUNCATE ' || filled; END IF;
         END $$;
         UPDATE account SET balance = {INITIAL_BALANCE} WHERE balance <> {INITIAL_BALANCE}"
    )
}

fn server_options(name: &str, upkeep: Upkeep) -> Options {
    let options = Options::for_tests(name);
    let between_runs: &[(&str, &str)] = match upkeep {
        Upkeep::BetweenRuns => &NO_CHECKPOINTS,
        Upkeep::ByItself => &[],
    };
    SETTINGS
        .iter()
        .chain(between_runs)
        .fold(options, |options, (name, value)| {
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
             CREATE TABLE mark (txid uuid NOT NULL, mask integer NOT NULL,
                                account bigint NOT NULL, amount bigint NOT NULL);
             GRANT SELECT, INSERT, UPDATE ON account, mark TO {ROLE};
             INSERT INTO account SELECT id, {INITIAL_BALANCE} FROM generate_series(1, {accounts}) id"
        ),
    )?;
    Ok(server.url_for(ROLE, &password, DATABASE))
}

/// All rows, as text.
pub fn rows(server: &Server, query: &str) -> anyhow::Result<Vec<Vec<Option<String>>>> {
    Ok(server.sql(DATABASE, query)?)
}

/// One value, as text.
pub fn text(server: &Server, query: &str) -> anyhow::Result<String> {
    let rows = rows(server, query)?;
    let value = rows.first().and_then(|row| row.first()?.clone());
    value.with_context(|| format!("no answer to {query}"))
}

/// One row of numbers.
pub fn numbers<const N: usize>(server: &Server, query: &str) -> anyhow::Result<[i64; N]> {
    let rows = rows(server, query)?;
    let row = rows.into_iter().next().unwrap_or_default();
    let parsed: Option<Vec<i64>> = row
        .iter()
        .map(|value| value.as_ref()?.parse().ok())
        .collect();
    parsed
        .and_then(|numbers| numbers.try_into().ok())
        .with_context(|| format!("no numbers for {query}"))
}
