//! Transactions through Gavel's client library: the same code embedded and over gRPC.

use anyhow::bail;
use gavel_client::{
    Ack, BeginError, CallError, Gavel, Guard, Isolation, Outcome, Param, StatementError,
};

use super::Ended;
use crate::work::{Step, Style, Work};
use crate::world::SHARDS;

/// Runs one transaction.
pub async fn run(gavel: &Gavel, work: &Work) -> anyhow::Result<Ended> {
    match work.style {
        Style::Declared => declared(gavel, work).await,
        Style::Interactive => interactive(gavel, work).await,
    }
}

async fn declared(gavel: &Gavel, work: &Work) -> anyhow::Result<Ended> {
    let mut transaction = gavel.transaction().txid(work.txid).ack(Ack::Applied);
    for branch in &work.branches {
        transaction = transaction.on(SHARDS[branch.shard]);
        for step in &branch.steps {
            transaction = transaction.execute(step.sql, params(step));
            if let Some(rows) = step.expects_rows {
                transaction = transaction.expect_rows(rows);
            }
        }
    }
    ended(&transaction.submit().await?)
}

async fn interactive(gavel: &Gavel, work: &Work) -> anyhow::Result<Ended> {
    let home = work.branches.first().map_or(0, |branch| branch.shard);
    let begun = gavel.begin_at(SHARDS[home], Isolation::default()).await;
    let mut transaction = match begun {
        Ok(transaction) => transaction,
        Err(BeginError::Call(CallError::Refused(why))) if why.is_retryable() => {
            return Ok(Ended::Refused);
        }
        Err(error) => return Err(error.into()),
    };
    let mut all = 0;
    for branch in &work.branches {
        let shard = SHARDS[branch.shard];
        for step in &branch.steps {
            let ran = match step.expects_rows {
                Some(rows) => {
                    let guard = Guard::RowsExactly(rows);
                    transaction
                        .execute_expecting(shard, step.sql, params(step), guard)
                        .await
                }
                None => transaction.query(shard, step.sql, params(step)).await,
            };
            match ran {
                Ok(rows) => all += rows.len() as u64,
                Err(StatementError::Refused(_)) => {
                    transaction.rollback().await?;
                    return Ok(Ended::Refused);
                }
                Err(StatementError::Ended(outcome)) => return ended(&outcome),
                Err(error @ StatementError::SessionLost { .. }) => return Err(error.into()),
                Err(error @ StatementError::UnknownShard(_)) => return Err(error.into()),
            }
        }
    }
    Ok(match ended(&transaction.commit_with(Ack::Applied).await)? {
        Ended::Committed { .. } => Ended::Committed { rows: all },
        other @ (Ended::Late | Ended::Failed | Ended::Refused) => other,
    })
}

fn params(step: &Step) -> Vec<Param> {
    let each = step.params.iter();
    each.map(|param| param.as_deref().map_or(Param::NULL, Param::text))
        .collect()
}

fn ended(outcome: &Outcome) -> anyhow::Result<Ended> {
    match outcome {
        Outcome::Committed(committed) if committed.applied => {
            let each = committed.results().iter().flat_map(|(_, results)| results);
            Ok(Ended::Committed {
                rows: each.map(|rows| rows.len() as u64).sum(),
            })
        }
        // Overload: the coordinator has answered when its time was over.
        Outcome::Committed(_) => Ok(Ended::Late),
        Outcome::Aborted { .. } => Ok(Ended::Failed),
        Outcome::Refused { .. } => Ok(Ended::Refused),
        Outcome::InDoubt { .. } => bail!("{outcome}"),
    }
}
