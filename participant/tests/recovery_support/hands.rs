//! A plain session with a participant's rights, for doing by hand what a coordinator would have
//! done.

use gavel_protocol::{BatchId, Gid, ShardTag};
use tokio_postgres::{Client, Error, NoTls};

pub(crate) struct Hands(pub(crate) Client);

impl Hands {
    pub(crate) async fn connect(url: &str) -> Self {
        let (client, connection) = tokio_postgres::connect(url, NoTls).await.expect("connect");
        tokio::spawn(connection);
        Self(client)
    }

    pub(crate) async fn run(&self, sql: &str) -> Result<(), Error> {
        self.0.batch_execute(sql).await
    }

    /// R1's first statement of a branch, then PREPARE.
    pub(crate) async fn prepare(&self, gid: &Gid) -> Result<(), Error> {
        self.run("BEGIN").await?;
        let (home, incarnation) = (i32::from(gid.home.0), i64::from(gid.home_incarnation.0));
        let name = gid.to_string();
        self.0
            .query(
                "SELECT gavel.open_branch($1, $2, $3, $4, 1)",
                &[&gid.batch.uuid(), &name, &home, &incarnation],
            )
            .await?;
        self.run(&format!("PREPARE TRANSACTION '{name}'")).await
    }

    /// Home's first statement of a deciding transaction (R4), for a batch without members.
    pub(crate) async fn open_decision(
        &self,
        batch: BatchId,
        prepared: &[ShardTag],
    ) -> Result<(), Error> {
        let shards: Vec<i32> = prepared.iter().map(|tag| i32::from(tag.0)).collect();
        self.0
            .query(
                "SELECT gavel.open_decision($1, 1, $2, '{}', '{}', '{}', '{}', 'alice')",
                &[&batch.uuid(), &shards],
            )
            .await
            .map(drop)
    }
}

/// SQLSTATE of a refusal.
pub(crate) fn sqlstate<T: std::fmt::Debug>(result: Result<T, Error>) -> String {
    let error = result.expect_err("refused");
    error.code().expect("by PostgreSQL").code().to_owned()
}
