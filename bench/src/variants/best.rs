//! `2pc-best`: the best that we know how to write by hand without a log.
//!
//! BEGIN, the work and PREPARE go to each shard in one pipeline, to both shards at once; guards
//! are read from the answers, and decide between COMMIT PREPARED and ROLLBACK PREPARED, again on
//! both shards at once. Few connections per shard are shared by all clients: transactions queue
//! for them, and a connection takes up to `group` of them in one exchange, each with a Sync of its
//! own. Half of the connections are kept for phase two: work that waits for the rows of a prepared
//! transaction must not stand before the COMMIT PREPARED that frees them.
//!
//! It keeps no log, so a client that dies leaves prepared transactions that nobody can resolve
//! safely: it is a yardstick, not an alternative.

use std::sync::Arc;

use anyhow::{Context as _, bail};
use async_trait::async_trait;
use futures::future::try_join_all;
use gavel_participant::pg::{Connection, Pipeline, Segment, Target};
use gavel_protocol::Limits;
use serde::{Deserialize, Serialize};
use tokio::sync::{Mutex, mpsc, oneshot};

use super::{Ended, Session, Variant};
use crate::load::{Entry, Transfer};
use crate::world::{MARK, UPDATE, World};

/// How connections are used. The best one is looked for at every number of clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layout {
    /// Connections per shard, half of them for phase two.
    pub connections: usize,
    /// Transactions in one exchange, at most.
    pub group: usize,
}

impl Layout {
    /// What is worth trying with so many clients.
    pub fn candidates(clients: usize) -> Vec<Self> {
        let useful = [4, 8, 16, 32]
            .into_iter()
            .filter(|n| *n <= 4.max(4 * clients));
        let groups = if clients > 1 { &[1, 8][..] } else { &[1] };
        useful
            .flat_map(|connections| {
                groups.iter().map(move |group| Self {
                    connections,
                    group: *group,
                })
            })
            .collect()
    }
}

pub struct Best {
    shards: Arc<[Lines]>,
}

impl Best {
    pub async fn start(world: &World, layout: Layout) -> anyhow::Result<Self> {
        let opening = world
            .shards()
            .iter()
            .map(|shard| Lines::open(&shard.url, layout));
        Ok(Self {
            shards: try_join_all(opening).await?.into(),
        })
    }
}

#[async_trait]
impl Variant for Best {
    async fn session(&self) -> anyhow::Result<Box<dyn Session>> {
        Ok(Box::new(BestSession {
            shards: self.shards.clone(),
        }))
    }

    async fn stop(self: Box<Self>) -> anyhow::Result<()> {
        Ok(())
    }
}

struct BestSession {
    shards: Arc<[Lines]>,
}

#[async_trait]
impl Session for BestSession {
    async fn transfer(&mut self, transfer: &Transfer) -> anyhow::Result<Ended> {
        let gids: [String; 2] = [0, 1].map(|index| format!("best:{}:{index}", transfer.txid));
        let work = |index: usize| Job::Work {
            gid: gids[index].clone(),
            txid: transfer.txid.to_string(),
            entry: transfer.entries[index],
        };
        let (a, b) = tokio::try_join!(
            self.shards[0].work.run(work(0)),
            self.shards[1].work.run(work(1)),
        )?;
        let votes = [Vote::read(&a), Vote::read(&b)];
        let commit = votes == [Vote::Yes, Vote::Yes];
        let verb = if commit { "COMMIT" } else { "ROLLBACK" };
        let ending = (0..votes.len())
            .filter(|index| votes[*index] != Vote::Nothing)
            .map(|index| {
                let job = Job::Finish(format!("{verb} PREPARED '{}'", gids[index]));
                self.shards[index].finish.run(job)
            });
        for segment in try_join_all(ending).await? {
            if let Some(error) = segment.error {
                bail!("phase two failed: {error}");
            }
        }
        Ok(if commit {
            Ended::Committed
        } else {
            Ended::Aborted
        })
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Vote {
    Yes,
    /// Prepared, but the guard does not hold.
    No,
    /// Not prepared.
    Nothing,
}

impl Vote {
    fn read(segment: &Segment) -> Self {
        // BEGIN, UPDATE, INSERT, PREPARE.
        match segment.replies.get(1) {
            Some(update) if segment.is_prepared() && update.row_count() == 1 => Self::Yes,
            Some(_) if segment.is_prepared() => Self::No,
            Some(_) | None => Self::Nothing,
        }
    }
}

/// The connections of one shard.
struct Lines {
    work: Line,
    finish: Line,
}

impl Lines {
    async fn open(url: &str, layout: Layout) -> anyhow::Result<Self> {
        let half = (layout.connections / 2).max(1);
        Ok(Self {
            work: Line::open(url, half, layout.group).await?,
            finish: Line::open(url, half, layout.group).await?,
        })
    }
}

/// Something to be done on whichever connection is free.
#[derive(Debug, Clone)]
enum Job {
    Work {
        gid: String,
        txid: String,
        entry: Entry,
    },
    Finish(String),
}

impl Job {
    fn add(&self, pipeline: &mut Pipeline<'_>) {
        match self {
            Self::Finish(sql) => {
                pipeline.simple(sql);
            }
            Self::Work { gid, txid, entry } => {
                let (account, amount) = (entry.account.to_string(), entry.amount.to_string());
                pipeline.run("BEGIN", &[]);
                pipeline.run(UPDATE, &[Some(amount.clone()), Some(account.clone())]);
                pipeline.run(MARK, &[Some(txid.clone()), Some(account), Some(amount)]);
                pipeline.run_once(&format!("PREPARE TRANSACTION '{gid}'"));
                pipeline.sync();
            }
        }
    }
}

type Order = (Job, oneshot::Sender<Segment>);

/// A queue, and the connections that work on it.
struct Line {
    queue: mpsc::UnboundedSender<Order>,
}

impl Line {
    async fn open(url: &str, connections: usize, group: usize) -> anyhow::Result<Self> {
        let target = Target::from_url(url, &Limits::default())?;
        let (queue, orders) = mpsc::unbounded_channel();
        let orders = Arc::new(Mutex::new(orders));
        for _ in 0..connections {
            let connection = target.connect().await.context("cannot connect")?;
            tokio::spawn(work_off(connection, orders.clone(), group));
        }
        Ok(Self { queue })
    }

    async fn run(&self, job: Job) -> anyhow::Result<Segment> {
        let (answer, answered) = oneshot::channel();
        self.queue
            .send((job, answer))
            .ok()
            .context("no connection is left")?;
        answered.await.context("the connection was lost")
    }
}

/// Ends when the queue is closed, or with the connection.
async fn work_off(
    mut connection: Connection,
    orders: Arc<Mutex<mpsc::UnboundedReceiver<Order>>>,
    group: usize,
) {
    let mut taken = Vec::new();
    while orders.lock().await.recv_many(&mut taken, group).await > 0 {
        while !taken.is_empty() {
            if exchange(&mut connection, &mut taken).await.is_err() {
                return;
            }
        }
    }
}

/// Sends what was taken. After a failure the transaction is still open, and the orders behind it
/// have done nothing: they stay, for the next exchange.
async fn exchange(connection: &mut Connection, taken: &mut Vec<Order>) -> anyhow::Result<()> {
    let segments = connection
        .run(|pipeline| taken.iter().for_each(|(job, _)| job.add(pipeline)))
        .await?;
    let failed = segments
        .iter()
        .zip(taken.iter())
        .position(|(segment, (job, _))| matches!(job, Job::Work { .. }) && segment.error.is_some());
    if failed.is_some() {
        connection
            .run(|pipeline| {
                pipeline.simple("ROLLBACK");
            })
            .await?;
    }
    let ended = failed.map_or(taken.len(), |failed| failed + 1);
    for ((_, answer), segment) in taken.drain(..ended).zip(segments) {
        // A client that is gone needs no answer.
        let _gone = answer.send(segment);
    }
    Ok(())
}
