//! Running a branch in which somebody fails (R10): chunk by chunk, each behind a savepoint.
//!
//! A chunk that has a failing member is rolled back and run again without it, so that nobody sees
//! anything of it. There are at most `savepoints_max` tries (each may cost a subtransaction that
//! writes, facts 19), and they take at most half of the vote's time; who did not get a turn
//! travels in a later batch.

use std::time::{Duration, Instant};

use gavel_protocol::message::{Member, MemberReport, NoVote};
use gavel_protocol::outcome::StatementResult;

use super::{Branch, Executed, Undone, begin, lost_session, no_vote, only, report, xid};
use crate::failure;
use crate::work::{self, Culprit};

/// Members that share a savepoint: few enough that running them again is cheap, and many enough
/// that a batch needs few round trips.
const MEMBERS: usize = 16;

const FIRST: &[&str] = &["SAVEPOINT chunk"];
const NEXT: &[&str] = &["RELEASE chunk", "SAVEPOINT chunk"];
const AGAIN: &[&str] = &["ROLLBACK TO chunk"];

/// How far a branch has come.
struct Progress {
    reports: Vec<MemberReport>,
    results: Vec<Vec<StatementResult>>,
    tries_left: usize,
    until: Instant,
    /// What leads to the next try.
    begin: &'static [&'static str],
}

impl Branch<'_> {
    pub(super) async fn execute_in_chunks(&mut self) -> Result<Executed, Undone> {
        let (shard, prepare) = (self.shard, self.prepare);
        let segments = self
            .connection
            .run(|pipeline| {
                pipeline.run("ROLLBACK", &[]).sync();
                begin(pipeline, shard, prepare);
                pipeline.sync();
            })
            .await?;
        let opened = segments.into_iter().nth(1).ok_or_else(lost_session)?;
        if let Some(error) = opened.error.clone() {
            return Err(self.preamble_failed(error).await);
        }
        let count = prepare.members.len();
        let mut progress = Progress {
            reports: vec![MemberReport::NotRun; count],
            results: vec![Vec::new(); count],
            tries_left: shard.limits.savepoints_max,
            until: self.started + Duration::from_millis(shard.limits.prepare_timeout_ms / 2),
            begin: FIRST,
        };
        for first in (0..count).step_by(MEMBERS) {
            let chunk = (first..count.min(first + MEMBERS)).collect();
            self.execute_chunk(chunk, &mut progress).await?;
        }
        self.undo_last_try(&progress).await?;
        let Progress {
            reports, results, ..
        } = progress;
        if reports.contains(&MemberReport::Executed) {
            let xid = xid(&opened);
            return Ok(Executed {
                xid,
                reports,
                results,
            });
        }
        self.rollback().await;
        Err(Undone::Answer(no_vote(NoVote::NoneExecuted { reports })))
    }

    /// Runs these members, again and again without the one that failed.
    async fn execute_chunk(
        &mut self,
        mut members: Vec<usize>,
        progress: &mut Progress,
    ) -> Result<(), Undone> {
        let shard = self.shard;
        while !members.is_empty() {
            if progress.tries_left == 0 || Instant::now() >= progress.until {
                return Ok(());
            }
            progress.tries_left -= 1;
            let run: Vec<&Member> = members
                .iter()
                .map(|member| &self.prepare.members[*member])
                .collect();
            let segments = self
                .connection
                .run(|pipeline| {
                    for step in progress.begin {
                        pipeline.run(step, &[]);
                    }
                    for member in &run {
                        work::add(pipeline, &member.statements, &shard.limits);
                    }
                    pipeline.sync();
                })
                .await?;
            let preamble = progress.begin.len();
            match work::judge_all(shard.tag(), preamble, &run, only(segments)?) {
                Ok(results) => {
                    progress.begin = NEXT;
                    for (member, results) in members.drain(..).zip(results) {
                        progress.reports[member] = MemberReport::Executed;
                        progress.results[member] = results;
                    }
                }
                Err(Culprit { index, failure }) => {
                    progress.begin = AGAIN;
                    progress.reports[members.remove(index)] = report(failure);
                }
            }
        }
        Ok(())
    }

    /// A try that failed last has left the work of those who ran before the failing member.
    async fn undo_last_try(&mut self, progress: &Progress) -> Result<(), Undone> {
        if progress.begin != AGAIN {
            return Ok(());
        }
        let segments = self
            .connection
            .run(|pipeline| {
                pipeline.run(AGAIN[0], &[]).sync();
            })
            .await?;
        only(segments)?.into_result().map(drop).map_err(|error| {
            let failure = failure::classify(&error, self.place());
            Undone::Answer(no_vote(NoVote::NoCulprit(failure)))
        })
    }
}
