//! `2pc-best` and `local-pipelined`: the best that we know how to write by hand without a log.
//!
//! BEGIN, the work and PREPARE go to each shard in one pipeline, to all shards at once; guards
//! are read from the answers, and decide between COMMIT PREPARED and ROLLBACK PREPARED, again on
//! all shards at once. With one shard there is nothing to prepare, and COMMIT ends the pipeline:
//! it is sent before any answer is read, so a guard that fails cannot stop it. Such a run fails.
//!
//! Interactive transactions run on connections of their own, lent for the whole transaction.
//!
//! It keeps no log, so a client that dies leaves prepared transactions that nobody can resolve
//! safely: it is a yardstick, not an alternative.

use anyhow::{Context as _, bail};
use async_trait::async_trait;
use deadpool::unmanaged::Pool;
use futures::future::try_join_all;
use gavel_participant::pg::Segment;

use super::by_hand::{self, Connections, Fault, Habit, blame};
use super::lines::{Job, Lines};
use super::{Ended, Setting, Variant};
use crate::work::{Branch, Style, Work};

pub struct Best {
    shards: Vec<Lines>,
    sessions: Pool<Connections>,
}

impl Best {
    pub async fn start(setting: Setting<'_>) -> anyhow::Result<Self> {
        let layout = setting.layout;
        let lines = setting
            .shards
            .iter()
            .map(|shard| Lines::open(&shard.url, layout));
        Ok(Self {
            shards: try_join_all(lines).await?,
            sessions: by_hand::pool(setting.shards, layout.sessions).await?,
        })
    }

    async fn on_one_shard(&self, branch: &Branch) -> anyhow::Result<Ended> {
        let work = Job::Work {
            steps: branch.steps.clone(),
            ending: "COMMIT".to_owned(),
        };
        let segment = self.shards[branch.shard].work.run(work).await?;
        match judge(&segment, branch)? {
            Vote::Yes { rows } if segment.is_committed() => Ok(Ended::Committed { rows }),
            Vote::Yes { .. } => bail!("COMMIT became {}", segment.last_tag()),
            Vote::No => bail!("COMMIT was sent before a guard could be judged"),
            Vote::Nothing(fault) => Ok(fault.into()),
        }
    }

    async fn on_several(&self, work: &Work) -> anyhow::Result<Ended> {
        let gid = |branch: &Branch| format!("'best:{}:{}'", work.txid, branch.shard);
        let preparing = work.branches.iter().map(|branch| {
            let job = Job::Work {
                steps: branch.steps.clone(),
                ending: format!("PREPARE TRANSACTION {}", gid(branch)),
            };
            self.shards[branch.shard].work.run(job)
        });
        let segments = try_join_all(preparing).await?;
        let mut votes = Vec::with_capacity(segments.len());
        for (segment, branch) in segments.iter().zip(&work.branches) {
            votes.push(judge(segment, branch)?);
            if segment.error.is_none() && !segment.is_prepared() {
                bail!("PREPARE TRANSACTION became {}", segment.last_tag());
            }
        }
        let all = Vote::all(&votes);
        let verb = if all.is_ok() { "COMMIT" } else { "ROLLBACK" };
        let prepared = votes
            .iter()
            .zip(&work.branches)
            .filter(|(vote, _)| !matches!(vote, Vote::Nothing(_)));
        let ending = prepared.map(|(_, branch)| {
            let job = Job::Finish(format!("{verb} PREPARED {}", gid(branch)));
            self.shards[branch.shard].finish.run(job)
        });
        for segment in try_join_all(ending).await? {
            if let Some(error) = segment.error {
                bail!("phase two failed: {error}");
            }
        }
        Ok(all.map_or_else(Ended::from, |rows| Ended::Committed { rows }))
    }
}

#[async_trait]
impl Variant for Best {
    async fn run(&self, work: &Work) -> anyhow::Result<Ended> {
        match (work.style, work.branches.as_slice()) {
            (Style::Interactive, _) => {
                let mut connections = self.sessions.get().await.context("no connection")?;
                connections.run(work, Habit::AtOnce).await
            }
            (Style::Declared, [branch]) => self.on_one_shard(branch).await,
            (Style::Declared, _) => self.on_several(work).await,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Vote {
    /// Done, and all guards hold.
    Yes { rows: u64 },
    /// Done, but a guard does not hold.
    No,
    /// Not done.
    Nothing(Fault),
}

impl Vote {
    /// Rows of all, or the fault of one; its own comes first.
    fn all(votes: &[Self]) -> Result<u64, Fault> {
        let mut all = Ok(0);
        for vote in votes {
            all = match (all, *vote) {
                (Err(Fault::Own), _) | (_, Self::No | Self::Nothing(Fault::Own)) => Err(Fault::Own),
                (Err(Fault::Passing), _) | (_, Self::Nothing(Fault::Passing)) => {
                    Err(Fault::Passing)
                }
                (Ok(rows), Self::Yes { rows: more }) => Ok(rows + more),
            };
        }
        all
    }
}

/// The segment's answers are those to BEGIN, the steps, and what ends them.
fn judge(segment: &Segment, branch: &Branch) -> anyhow::Result<Vote> {
    if let Some(error) = &segment.error {
        return Ok(Vote::Nothing(blame(error)?));
    }
    let mut all = 0;
    for (step, before) in branch.steps.iter().zip(1..) {
        match by_hand::read(segment, step, before)? {
            Ok(rows) => all += rows,
            Err(_) => return Ok(Vote::No),
        }
    }
    Ok(Vote::Yes { rows: all })
}
