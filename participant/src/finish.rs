//! COMMIT PREPARED and ROLLBACK PREPARED, in bulk, on connections reserved for it.
//!
//! Whoever calls this has the decision. Each statement stands alone with a Sync of its own
//! (facts 8), and all are sent together. "Does not exist" is never success by itself (facts 10):
//! the branch row says whether the branch was applied (R1).
//!
//! If this process dies at any await, the branches that were not finished are still prepared,
//! and the scan finishes them.

use std::collections::HashSet;

use gavel_protocol::BatchId;
use gavel_protocol::message::{Finish, FinishKind, Finished};

use crate::crash_point;
use crate::pg::{Connection, Lost, Segment, ServerError, text};
use crate::shard::Shard;

const APPLIED: &str = "SELECT batch FROM gavel.applied_branches($1)";
const BARRIER: &str = "SELECT pg_logical_emit_message(true, 'gavel', 'barrier')";
const RECORD_DAMAGE: &str = "SELECT gavel.record_damage($1, $2, $3, $4)";

/// Finishes the branches; one answer per entry, in order.
pub async fn finish(shard: &Shard, branches: &[Finish]) -> Vec<Finished> {
    if branches.is_empty() {
        return Vec::new();
    }
    crash_point!("participant.finish.received");
    let mut connection = match shard.finish.get().await {
        Ok(connection) => connection,
        Err(error) => return all_unknown(branches, &format!("no connection: {error}")),
    };
    let finished = match try_finish(&mut connection, branches).await {
        Ok(finished) => finished,
        Err(lost) => all_unknown(branches, &format!("the connection was lost: {}", lost.0)),
    };
    crash_point!("participant.finish.answering");
    for (branch, finished) in branches.iter().zip(&finished) {
        if *finished == Finished::Done {
            shard.slots.note_finished(branch.gid.home);
        }
    }
    finished
}

async fn try_finish(
    connection: &mut Connection,
    branches: &[Finish],
) -> Result<Vec<Finished>, Lost> {
    let segments = connection
        .run(|pipeline| {
            for Finish { gid, kind } in branches {
                pipeline.simple(&match kind {
                    FinishKind::Commit => format!("COMMIT PREPARED '{gid}'"),
                    FinishKind::Rollback => format!("ROLLBACK PREPARED '{gid}'"),
                });
            }
        })
        .await?;
    crash_point!("participant.finish.finished");
    let mut finished: Vec<Option<Finished>> = branches
        .iter()
        .zip(&segments)
        .map(|(branch, segment)| read(branch, segment))
        .collect();
    // A session that ended early leaves fewer segments than branches.
    finished.resize(branches.len(), Some(gone()));
    let missing: Vec<&Finish> = branches
        .iter()
        .zip(&finished)
        .filter(|(_, finished)| finished.is_none())
        .map(|(branch, _)| branch)
        .collect();
    let mut verdicts = explain_missing(connection, &missing).await?.into_iter();
    Ok(finished
        .into_iter()
        .map(|each| each.or_else(|| verdicts.next()).unwrap_or_else(gone))
        .collect())
}

/// The answer as far as the tag or the error tells; `None` for "does not exist".
fn read(branch: &Finish, segment: &Segment) -> Option<Finished> {
    let expected = match branch.kind {
        FinishKind::Commit => "COMMIT PREPARED",
        FinishKind::Rollback => "ROLLBACK PREPARED",
    };
    if segment.may_not_be_replicated() {
        return Some(Finished::Unknown {
            detail: "perhaps not replicated (01000)".to_owned(),
        });
    }
    match &segment.error {
        None if segment.last_tag() == expected => Some(Finished::Done),
        None => {
            let detail = format!("unexpected tag `{}`", segment.last_tag());
            Some(Finished::Unknown { detail })
        }
        Some(error) => match error.sqlstate.as_str() {
            "42704" => None,
            "55000" => Some(Finished::Busy),
            _ => Some(refused(branch, error)),
        },
    }
}

fn refused(branch: &Finish, error: &ServerError) -> Finished {
    if matches!(error.sqlstate.as_str(), "42501" | "0A000") {
        // Another role or database prepared it: a person must act.
        tracing::error!(gid = %branch.gid, %error, "cannot finish a branch that is ours by name");
    }
    Finished::Unknown {
        detail: error.to_string(),
    }
}

/// R1: tells "applied before" from "never was" by the branch rows, read behind a barrier.
async fn explain_missing(
    connection: &mut Connection,
    missing: &[&Finish],
) -> Result<Vec<Finished>, Lost> {
    if missing.is_empty() {
        return Ok(Vec::new());
    }
    let batches = text::array(missing.iter().map(|branch| branch.gid.batch));
    let segments = connection
        .run(|pipeline| {
            // The barrier goes first as well: what it waits for may be the row itself.
            pipeline.run(BARRIER, &[]).sync();
            pipeline.run(APPLIED, &[batches]).sync();
            pipeline.run(BARRIER, &[]).sync();
        })
        .await?;
    let [before, applied, after] = &segments[..] else {
        return Ok(vec![gone(); missing.len()]);
    };
    let unproven = [before, applied, after]
        .iter()
        .any(|segment| segment.error.is_some() || segment.may_not_be_replicated());
    if unproven {
        let detail = "the branch rows could not be read".to_owned();
        return Ok(vec![Finished::Unknown { detail }; missing.len()]);
    }
    let rows = applied.replies.iter().flat_map(|reply| &reply.rows);
    let applied: HashSet<BatchId> = rows
        .filter_map(|row| row.first()?.as_deref()?.parse().ok())
        .collect();
    let mut verdicts = Vec::with_capacity(missing.len());
    for branch in missing {
        let verdict = match (branch.kind, applied.contains(&branch.gid.batch)) {
            (FinishKind::Commit, true) | (FinishKind::Rollback, false) => Finished::Done,
            (FinishKind::Commit, false) => {
                let detail = "decided commit, but the branch is neither prepared nor applied";
                damage(connection, branch, "commit_lost", detail).await?
            }
            (FinishKind::Rollback, true) => {
                let detail = "decided abort, but the branch has been applied";
                damage(connection, branch, "abort_applied", detail).await?
            }
        };
        verdicts.push(verdict);
    }
    Ok(verdicts)
}

/// The shard contradicts the decision: raised, recorded, and never called success.
async fn damage(
    connection: &mut Connection,
    branch: &Finish,
    kind: &str,
    detail: &str,
) -> Result<Finished, Lost> {
    tracing::error!(gid = %branch.gid, kind, "DAMAGE: {detail}");
    let gid = &branch.gid;
    let params = [
        text::scalar(gid.batch),
        text::scalar(gid),
        text::scalar(kind),
        text::scalar(detail),
    ];
    connection
        .run(|pipeline| {
            pipeline.run(RECORD_DAMAGE, &params).sync();
        })
        .await?;
    Ok(Finished::Damaged {
        detail: detail.to_owned(),
    })
}

fn gone() -> Finished {
    Finished::Unknown {
        detail: "PostgreSQL ended the session".to_owned(),
    }
}

fn all_unknown(branches: &[Finish], detail: &str) -> Vec<Finished> {
    vec![
        Finished::Unknown {
            detail: detail.to_owned()
        };
        branches.len()
    ]
}
