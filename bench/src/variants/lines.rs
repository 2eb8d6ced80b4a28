//! Few connections per shard, shared by all clients.
//!
//! Transactions queue for them, and a connection takes up to `group` of them in one exchange, each
//! with a Sync of its own. Half of the connections are kept for phase two: work that waits for the
//! rows of a prepared transaction must not stand before the COMMIT PREPARED that frees them.

use std::sync::Arc;

use anyhow::Context as _;
use futures::future::try_join_all;
use gavel_participant::pg::{Connection, Pipeline, Segment};
use serde::{Deserialize, Serialize};
use tokio::sync::{Mutex, mpsc, oneshot};

use super::by_hand::connect;
use crate::scenario::Styles;
use crate::work::Step;

/// How connections are used. The best one is looked for at every number of clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layout {
    /// Connections per shard for declared transactions, half of them for phase two.
    pub connections: usize,
    /// Transactions in one exchange, at most.
    pub group: usize,
    /// Connections per shard for interactive transactions.
    pub sessions: usize,
}

/// How many layouts are tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Search {
    /// All that are worth trying.
    Wide,
    /// Those that have been the best somewhere.
    Narrow,
    /// Two.
    Quick,
}

/// Beside shared connections, in `mixed`.
const SESSIONS_BESIDE: usize = 32;

impl Layout {
    /// What is worth trying with so many clients.
    pub fn candidates(styles: Styles, clients: usize, search: Search) -> Vec<Self> {
        let (counts, groups): (&[usize], &[usize]) = match search {
            Search::Wide => (&[4, 8, 16, 32], &[1, 8]),
            Search::Narrow => (&[8, 16, 32], &[1]),
            Search::Quick => (&[8, 32], &[1]),
        };
        let smallest = counts[0].max(4);
        let useful = |most: usize| {
            counts
                .iter()
                .copied()
                .filter(move |count| *count <= most.max(smallest))
        };
        if styles == Styles::Interactive {
            // Each carries one transaction at a time.
            let more = [64].into_iter().filter(|count| *count <= clients);
            return useful(clients)
                .chain(more)
                .map(|sessions| Self {
                    connections: 0,
                    group: 1,
                    sessions,
                })
                .collect();
        }
        let sessions = match styles {
            Styles::Mixed => SESSIONS_BESIDE,
            Styles::Declared | Styles::Interactive => 0,
        };
        let groups = if clients > 1 { groups } else { &[1] };
        useful(4 * clients)
            .flat_map(|connections| {
                groups.iter().map(move |group| Self {
                    connections,
                    group: *group,
                    sessions,
                })
            })
            .collect()
    }
}

/// The connections of one shard.
pub struct Lines {
    pub work: Line,
    pub finish: Line,
}

impl Lines {
    pub async fn open(url: &str, layout: Layout) -> anyhow::Result<Self> {
        let half = layout.connections / 2;
        Ok(Self {
            work: Line::open(url, half, layout.group).await?,
            finish: Line::open(url, half, layout.group).await?,
        })
    }
}

/// Something to be done on whichever connection is free.
#[derive(Debug, Clone)]
pub enum Job {
    /// BEGIN, the steps, and a statement that ends them.
    Work { steps: Vec<Step>, ending: String },
    /// COMMIT PREPARED or ROLLBACK PREPARED.
    Finish(String),
}

impl Job {
    fn add(&self, pipeline: &mut Pipeline<'_>) {
        match self {
            Self::Finish(sql) => {
                pipeline.simple(sql);
            }
            Self::Work { steps, ending } => {
                pipeline.run("BEGIN", &[]);
                for step in steps {
                    pipeline.run(step.sql, &step.params);
                }
                pipeline.run_once(ending).sync();
            }
        }
    }
}

type Order = (Job, oneshot::Sender<Segment>);

/// A queue, and the connections that work on it.
pub struct Line {
    queue: mpsc::UnboundedSender<Order>,
}

impl Line {
    async fn open(url: &str, connections: usize, group: usize) -> anyhow::Result<Self> {
        let (queue, orders) = mpsc::unbounded_channel();
        let orders = Arc::new(Mutex::new(orders));
        for connection in try_join_all((0..connections).map(|_| connect(url))).await? {
            tokio::spawn(work_off(connection, orders.clone(), group));
        }
        Ok(Self { queue })
    }

    pub async fn run(&self, job: Job) -> anyhow::Result<Segment> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_always_something_to_try_and_never_more_than_clients_could_use() {
        for styles in [Styles::Declared, Styles::Interactive, Styles::Mixed] {
            for search in [Search::Wide, Search::Narrow, Search::Quick] {
                for clients in [1, 8, 1024] {
                    let candidates = Layout::candidates(styles, clients, search);
                    assert!(!candidates.is_empty());
                    let most = candidates
                        .iter()
                        .map(|each| each.connections + each.sessions);
                    assert!(most.max().unwrap() <= SESSIONS_BESIDE + 64);
                }
            }
        }
        assert_eq!(
            Layout::candidates(Styles::Declared, 1, Search::Wide).len(),
            1
        );
    }
}
