//! The databases as they are, past Gavel and past the API: plain SQL as superuser.

use std::time::Duration;

use anyhow::Context as _;
use gavel_protocol::Gid;
use sqlx::PgPool;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};

/// For a machine that is busy with other things, and a server that is just recovering.
const CONNECTION_WAIT: Duration = Duration::from_secs(20);

/// All shards.
#[derive(Debug)]
pub(super) struct Direct {
    shards: Vec<DirectShard>,
}

#[derive(Debug)]
pub(super) struct DirectShard {
    pub(super) name: String,
    pub(super) pool: PgPool,
    pub(super) tag: u16,
}

/// A prepared branch, and what its home has decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Branch {
    pub(super) gid: Gid,
    /// Where it is prepared, counted from 0.
    pub(super) shard: usize,
    /// `commit`, `abort`, or nothing yet.
    pub(super) decision: Option<String>,
}

impl Branch {
    pub(super) fn is_decided(&self) -> bool {
        self.decision.is_some()
    }

    /// The end of the batch id, enough to tell branches apart on a screen.
    pub(super) fn label(&self) -> String {
        let batch = self.gid.batch.to_string();
        batch[batch.len() - 8..].to_owned()
    }
}

impl Direct {
    pub(super) fn new(shards: &[gavel_devkit::Shard]) -> anyhow::Result<Self> {
        let shards = shards.iter().map(|shard| {
            let options: PgConnectOptions = shard.superuser_url.parse()?;
            let pool = PgPoolOptions::new()
                .acquire_timeout(CONNECTION_WAIT)
                .connect_lazy_with(options.application_name("gavel-demo-direct"));
            Ok(DirectShard {
                name: shard.name.clone(),
                pool,
                tag: shard.tag,
            })
        });
        Ok(Self {
            shards: shards.collect::<anyhow::Result<_>>()?,
        })
    }

    pub(super) fn shards(&self) -> &[DirectShard] {
        &self.shards
    }

    /// Everything on all accounts, in minor units.
    pub(super) async fn money(&self) -> anyhow::Result<i128> {
        let mut money = 0;
        for shard in &self.shards {
            let sum: String =
                sqlx::query_scalar("SELECT coalesce(sum(balance), 0)::text FROM accounts")
                    .fetch_one(&shard.pool)
                    .await?;
            money += sum.parse::<i128>()?;
        }
        Ok(money)
    }

    /// What is prepared on one shard.
    pub(super) async fn prepared(&self, shard: usize) -> Result<Vec<Gid>, sqlx::Error> {
        let gids: Vec<String> = sqlx::query_scalar(
            "SELECT gid FROM pg_prepared_xacts WHERE database = current_database()",
        )
        .fetch_all(&self.shards[shard].pool)
        .await?;
        Ok(gids.iter().filter_map(|gid| gid.parse().ok()).collect())
    }

    /// What is prepared on one shard, with the decisions of the homes.
    pub(super) async fn branches(&self, shard: usize) -> anyhow::Result<Vec<Branch>> {
        let mut branches = Vec::new();
        for gid in self.prepared(shard).await? {
            let decision = self.decision(&gid).await?;
            branches.push(Branch {
                gid,
                shard,
                decision,
            });
        }
        branches.sort_by(|a, b| a.gid.cmp(&b.gid));
        Ok(branches)
    }

    /// What the home has decided.
    pub(super) async fn decision(&self, gid: &Gid) -> anyhow::Result<Option<String>> {
        let decision = sqlx::query_scalar("SELECT outcome FROM gavel.decision WHERE batch = $1")
            .bind(gid.batch.uuid())
            .fetch_optional(&self.home(gid)?.pool)
            .await?;
        Ok(decision)
    }

    /// Whether the branch's own row is there: it comes with COMMIT PREPARED and only with it.
    pub(super) async fn is_applied(&self, branch: &Branch) -> anyhow::Result<bool> {
        let applied =
            sqlx::query_scalar("SELECT EXISTS (SELECT FROM gavel.branch WHERE batch = $1)")
                .bind(branch.gid.batch.uuid())
                .fetch_one(&self.shards[branch.shard].pool)
                .await?;
        Ok(applied)
    }

    /// Sessions of the participant that are inside a transaction which is not prepared yet.
    pub(super) async fn open_transactions(&self, shard: usize) -> anyhow::Result<i64> {
        let count = sqlx::query_scalar(
            "SELECT count(*) FROM pg_stat_activity \
             WHERE datname = current_database() AND backend_xid IS NOT NULL \
               AND application_name NOT LIKE 'gavel-demo%'",
        )
        .fetch_one(&self.shards[shard].pool)
        .await?;
        Ok(count)
    }

    pub(super) fn home(&self, gid: &Gid) -> anyhow::Result<&DirectShard> {
        let home = self.shards.iter().find(|shard| shard.tag == gid.home.0);
        home.context("a branch names a home that is no shard")
    }

    pub(super) async fn close(&self) {
        for shard in &self.shards {
            shard.pool.close().await;
        }
    }
}
