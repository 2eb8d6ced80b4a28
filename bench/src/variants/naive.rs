//! `2pc-naive`: what one writes first. A connection per client and shard, one statement after the
//! other, each awaited before the next, first on the one shard and then on the other. No log: a
//! client that dies leaves prepared transactions that nobody can resolve safely.

use anyhow::Context as _;
use async_trait::async_trait;
use futures::future::try_join_all;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, NoTls, Statement};
use uuid::Uuid;

use super::{Ended, Session, Variant};
use crate::load::{Entry, Transfer};
use crate::world::{MARK, UPDATE, World};

pub struct Naive {
    urls: Vec<String>,
}

impl Naive {
    pub fn new(world: &World) -> Self {
        let urls = world.shards().iter().map(|shard| shard.url.clone());
        Self {
            urls: urls.collect(),
        }
    }
}

#[async_trait]
impl Variant for Naive {
    async fn session(&self) -> anyhow::Result<Box<dyn Session>> {
        let shards = try_join_all(self.urls.iter().map(|url| OneShard::open(url))).await?;
        Ok(Box::new(NaiveSession { shards }))
    }

    async fn stop(self: Box<Self>) -> anyhow::Result<()> {
        Ok(())
    }
}

struct NaiveSession {
    shards: Vec<OneShard>,
}

#[async_trait]
impl Session for NaiveSession {
    async fn transfer(&mut self, transfer: &Transfer) -> anyhow::Result<Ended> {
        let txid = transfer.txid.uuid();
        for (index, (shard, entry)) in self.shards.iter().zip(transfer.entries).enumerate() {
            // Always in the order of the shards, so that no two transfers wait for each other.
            if !shard.work(txid, entry).await.unwrap_or(false) {
                for shard in &self.shards[..=index] {
                    shard.client.batch_execute("ROLLBACK").await?;
                }
                return Ok(Ended::Aborted);
            }
        }
        for (index, shard) in self.shards.iter().enumerate() {
            let prepare = format!("PREPARE TRANSACTION '{}'", gid(txid, index));
            shard.client.batch_execute(&prepare).await?;
        }
        for (index, shard) in self.shards.iter().enumerate() {
            let commit = format!("COMMIT PREPARED '{}'", gid(txid, index));
            shard.client.batch_execute(&commit).await?;
        }
        Ok(Ended::Committed)
    }
}

fn gid(txid: Uuid, index: usize) -> String {
    format!("naive:{txid}:{index}")
}

struct OneShard {
    client: Client,
    update: Statement,
    mark: Statement,
}

impl OneShard {
    async fn open(url: &str) -> anyhow::Result<Self> {
        let (client, connection) = tokio_postgres::connect(url, NoTls)
            .await
            .context("cannot connect")?;
        tokio::spawn(connection);
        // The same bound on lock waits that Gavel sets.
        client.batch_execute("SET lock_timeout = '1s'").await?;
        Ok(Self {
            update: client.prepare(UPDATE).await?,
            mark: client.prepare(MARK).await?,
            client,
        })
    }

    /// Leaves the transaction open; `false` if the account is not there.
    async fn work(&self, txid: Uuid, entry: Entry) -> Result<bool, tokio_postgres::Error> {
        let Entry { account, amount } = entry;
        self.client.batch_execute("BEGIN").await?;
        let update: [&(dyn ToSql + Sync); 2] = [&amount, &account];
        let rows = self.client.execute(&self.update, &update).await?;
        let mark: [&(dyn ToSql + Sync); 3] = [&txid, &account, &amount];
        self.client.execute(&self.mark, &mark).await?;
        Ok(rows == 1)
    }
}
