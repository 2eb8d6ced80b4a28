//! Finding out who fails (R10): members run chunk by chunk, each behind a savepoint.
//!
//! A chunk that has a failing member is rolled back and run again without it, so that nobody sees
//! anything of it. There are at most `savepoints_max` tries, because each may cost a
//! subtransaction that writes (facts 19), and they end when their time is over.
//!
//! A failure says something only about a member that follows those who are executed in the end. Whoever
//! failed behind neighbours that then get no turn, or fail themselves, has stumbled over what
//! never was, and counts as not run.

use std::time::Instant;

use gavel_protocol::message::{Member, MemberFailure, MemberReport};
use gavel_protocol::outcome::StatementResult;

use super::{Culprit, judge_all};
use crate::pg::{Connection, Lost};
use crate::shard::Shard;

/// Members that share a savepoint: few enough that running them again is cheap, and many enough
/// that a batch needs few round trips.
const MEMBERS: usize = 16;

const FIRST: &[&str] = &["SAVEPOINT chunk"];
const NEXT: &[&str] = &["RELEASE chunk", "SAVEPOINT chunk"];
const AGAIN: &[&str] = &["ROLLBACK TO chunk"];

/// What became of a member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tried {
    /// It has run, and its work is part of the transaction.
    Executed(Vec<StatementResult>),
    /// It fails after those that were executed before it; nothing is left of its work.
    Failed(MemberFailure),
    /// There was no try left for it, or no time; or it failed behind somebody who is not executed.
    NotRun,
}

impl Tried {
    /// What is reported of the member, and what its statements returned.
    pub fn into_report(self) -> (MemberReport, Vec<StatementResult>) {
        match self {
            Self::Executed(results) => (MemberReport::Executed, results),
            Self::Failed(MemberFailure::Failed(reason)) => {
                (MemberReport::Failed(reason), Vec::new())
            }
            Self::Failed(MemberFailure::Refused(refusal)) => {
                (MemberReport::Refused(refusal), Vec::new())
            }
            Self::NotRun => (MemberReport::NotRun, Vec::new()),
        }
    }
}

struct Chunks<'a> {
    connection: &'a mut Connection,
    shard: &'a Shard,
    members: &'a [Member],
    until: Instant,
    tried: Vec<Tried>,
    tries_left: usize,
    /// What leads to the next try.
    begin: &'static [&'static str],
}

/// Runs the members in the open transaction, leaving out those who fail; one entry per member.
/// If anybody was run, the savepoint `chunk` is still there.
pub async fn run(
    connection: &mut Connection,
    shard: &Shard,
    members: &[Member],
    until: Instant,
) -> Result<Vec<Tried>, Lost> {
    let mut chunks = Chunks {
        connection,
        shard,
        members,
        until,
        tried: vec![Tried::NotRun; members.len()],
        tries_left: shard.limits.savepoints_max,
        begin: FIRST,
    };
    for first in (0..members.len()).step_by(MEMBERS) {
        let chunk = (first..members.len().min(first + MEMBERS)).collect();
        chunks.run_one(chunk).await?;
    }
    chunks.undo_last_try().await?;
    Ok(chunks.tried)
}

impl Chunks<'_> {
    /// Runs these members, again and again without the one that failed.
    async fn run_one(&mut self, mut chunk: Vec<usize>) -> Result<(), Lost> {
        // Whom of the chunk each of those who failed had seen.
        let mut failures: Vec<(usize, Vec<usize>)> = Vec::new();
        while !chunk.is_empty() && self.tries_left > 0 && Instant::now() < self.until {
            self.tries_left -= 1;
            let run: Vec<&Member> = chunk.iter().map(|at| &self.members[*at]).collect();
            let (begin, limits) = (self.begin, &self.shard.limits);
            let segments = self
                .connection
                .run(|pipeline| {
                    for step in begin {
                        pipeline.run(step, &[]);
                    }
                    for member in &run {
                        super::add(pipeline, &member.statements, limits);
                    }
                    pipeline.sync();
                })
                .await?;
            let segment = segments.into_iter().next().ok_or_else(ended)?;
            match judge_all(self.shard.tag(), begin.len(), &run, segment) {
                Ok(results) => {
                    self.begin = NEXT;
                    for (member, results) in chunk.drain(..).zip(results) {
                        self.tried[member] = Tried::Executed(results);
                    }
                }
                Err(Culprit { index, failure }) => {
                    self.begin = AGAIN;
                    let culprit = chunk.remove(index);
                    self.tried[culprit] = Tried::Failed(failure);
                    failures.push((culprit, chunk[..index].to_vec()));
                }
            }
        }
        for (culprit, seen) in failures {
            let is_executed = |at: &usize| matches!(self.tried[*at], Tried::Executed(_));
            if !seen.iter().all(is_executed) {
                self.tried[culprit] = Tried::NotRun;
            }
        }
        Ok(())
    }

    /// A try that failed last has left the work of those who ran before the failing member.
    async fn undo_last_try(&mut self) -> Result<(), Lost> {
        if self.begin != AGAIN {
            return Ok(());
        }
        let segments = self
            .connection
            .run(|pipeline| {
                pipeline.run(AGAIN[0], &[]).sync();
            })
            .await?;
        let segment = segments.into_iter().next().ok_or_else(ended)?;
        let undone = segment.into_result().map(drop);
        undone.map_err(|error| Lost(std::io::Error::other(error)))
    }
}

fn ended() -> Lost {
    Lost(std::io::ErrorKind::UnexpectedEof.into())
}
