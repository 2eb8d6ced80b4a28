//! Hand-written two-phase commit, statement by statement, on one connection per shard.
//!
//! There is no log: a client that dies between PREPARE and COMMIT PREPARED leaves what nobody can
//! resolve safely.

use anyhow::{Context as _, bail, ensure};
use deadpool::unmanaged::Pool;
use futures::future::try_join_all;
use gavel_participant::pg::{Connection, Segment, ServerError, Target};
use gavel_protocol::Limits;

use super::Ended;
use crate::work::{Branch, Step, Work};
use crate::world::Shard;

/// One connection per shard.
pub struct Connections(Vec<Connection>);

/// Why a transaction did nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// A guard, or an SQL error of its own making.
    Own,
    /// Others were in its way.
    Passing,
}

impl From<Fault> for Ended {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Own => Self::Failed,
            Fault::Passing => Self::Refused,
        }
    }
}

/// Whether the two shards are talked to at once where that is possible.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Habit {
    /// One after the other, and BEGIN is awaited.
    OneByOne,
    /// BEGIN travels with the first statement; all prepares go out at once, and all commits.
    AtOnce,
}

/// Opens `count` of them, to be lent to whoever comes.
pub async fn pool(shards: &[Shard], count: usize) -> anyhow::Result<Pool<Connections>> {
    // A server forks for each.
    const OPENED_AT_ONCE: usize = 16;
    let mut opened = Vec::with_capacity(count);
    while opened.len() < count {
        let some = (count - opened.len()).min(OPENED_AT_ONCE);
        opened.extend(try_join_all((0..some).map(|_| Connections::open(shards))).await?);
    }
    Ok(Pool::from(opened))
}

impl Connections {
    async fn open(shards: &[Shard]) -> anyhow::Result<Self> {
        let opening = shards.iter().map(|shard| connect(&shard.url));
        Ok(Self(try_join_all(opening).await?))
    }

    /// Runs one transaction.
    pub async fn run(&mut self, work: &Work, habit: Habit) -> anyhow::Result<Ended> {
        let mut rows = 0;
        for (index, branch) in work.branches.iter().enumerate() {
            // Always in the order of the shards, so that no two transfers wait for each other.
            match self.work(branch, habit).await? {
                Ok(more) => rows += more,
                Err(fault) => {
                    let begun = work.branches[..=index].iter();
                    let rollbacks = begun.map(|branch| (branch.shard, "ROLLBACK".to_owned()));
                    self.control(rollbacks.collect(), habit).await?;
                    return Ok(fault.into());
                }
            }
        }
        let verbs: &[&str] = match work.branches.len() {
            1 => &["COMMIT"],
            _ => &["PREPARE TRANSACTION", "COMMIT PREPARED"],
        };
        for verb in verbs {
            let statements = work.branches.iter().map(|Branch { shard, .. }| {
                let gid = format!(" 'hand:{}:{shard}'", work.txid);
                let gid = if work.branches.len() == 1 { "" } else { &gid };
                (*shard, format!("{verb}{gid}"))
            });
            self.control(statements.collect(), habit).await?;
        }
        Ok(Ended::Committed { rows })
    }

    /// Leaves the transaction open, and gives the number of rows that came back.
    async fn work(&mut self, branch: &Branch, habit: Habit) -> anyhow::Result<Result<u64, Fault>> {
        let connection = &mut self.0[branch.shard];
        if habit == Habit::OneByOne {
            one(connection, |pipeline| {
                pipeline.simple("BEGIN");
            })
            .await?;
        }
        let mut rows = 0;
        for (index, step) in branch.steps.iter().enumerate() {
            let begins = index == 0 && habit == Habit::AtOnce;
            let segment = one(connection, |pipeline| {
                if begins {
                    pipeline.run("BEGIN", &[]);
                }
                pipeline.run(step.sql, &step.params).sync();
            })
            .await?;
            match read(&segment, step, usize::from(begins))? {
                Ok(more) => rows += more,
                Err(fault) => return Ok(Err(fault)),
            }
        }
        Ok(Ok(rows))
    }

    /// Runs statements that control transactions, and must not fail: what they leave if they do
    /// is nobody's to resolve.
    async fn control(
        &mut self,
        statements: Vec<(usize, String)>,
        habit: Habit,
    ) -> anyhow::Result<()> {
        if habit == Habit::OneByOne {
            for (shard, sql) in statements {
                control(&mut self.0[shard], &sql).await?;
            }
            return Ok(());
        }
        let each = self.0.iter_mut().enumerate();
        let running = each.filter_map(|(index, connection)| {
            let (_, sql) = statements.iter().find(|(shard, _)| *shard == index)?;
            Some(control(connection, sql))
        });
        try_join_all(running).await?;
        Ok(())
    }
}

/// Opens a connection with the bounds on waits that Gavel sets; only that to connect is longer,
/// because hundreds are opened here in a row.
pub async fn connect(url: &str) -> anyhow::Result<Connection> {
    let limits = Limits {
        connect_timeout_ms: 30_000,
        ..Limits::default()
    };
    let target = Target::from_url(url, &limits)?;
    target.connect().await.context("cannot connect")
}

/// Rows in the answer to one step, which stands behind `before` others.
pub fn read(segment: &Segment, step: &Step, before: usize) -> anyhow::Result<Result<u64, Fault>> {
    if let Some(error) = &segment.error {
        return Ok(Err(blame(error)?));
    }
    let reply = segment
        .replies
        .get(before)
        .context("an answer is missing")?;
    Ok(match step.expects_rows {
        Some(expected) if expected != reply.row_count() => Err(Fault::Own),
        Some(_) | None => Ok(reply.rows.len() as u64),
    })
}

/// Whose fault an error is.
pub fn blame(error: &ServerError) -> anyhow::Result<Fault> {
    match error.sqlstate.get(..2) {
        // Data exceptions and violated constraints.
        Some("22" | "23") => Ok(Fault::Own),
        // Deadlocks, lock timeouts, cancelled statements.
        Some("40" | "55" | "57") => Ok(Fault::Passing),
        Some(_) | None => bail!("a statement failed: {error}"),
    }
}

async fn control(connection: &mut Connection, sql: &str) -> anyhow::Result<()> {
    let segment = one(connection, |pipeline| {
        pipeline.simple(sql);
    })
    .await?;
    if let Some(error) = segment.error {
        bail!("{sql} failed: {error}");
    }
    ensure!(
        sql.starts_with(segment.last_tag()),
        "{sql} became {}",
        segment.last_tag()
    );
    Ok(())
}

async fn one(
    connection: &mut Connection,
    build: impl FnOnce(&mut gavel_participant::pg::Pipeline<'_>),
) -> anyhow::Result<Segment> {
    let mut segments = connection.run(build).await?;
    segments.pop().context("no answer")
}
