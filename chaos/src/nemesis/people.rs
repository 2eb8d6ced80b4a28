//! People with psql.
//!
//! What they break is a transaction of its own that shares no batch and no row with others, so that
//! everybody else's books can still be judged.

use std::time::{Duration, Instant};

use gavel_client::{Gavel, Outcome, params};
use gavel_protocol::{Isolation, Txid};

use super::aim::{nobody, struck};
use super::{Strikes, Struck};
use crate::arena::DATA_SHARDS;
use crate::bank::DATABASE;
use crate::error::ChaosError;
use crate::proxy::{Caught, Step};
use crate::verdict::{Invariant, Violation};

/// How soon damage must be reported. Whoever finishes the branch meets it at once.
const REPORTED_WITHIN: Duration = Duration::from_secs(10);
const LOOK_EVERY: Duration = Duration::from_millis(50);

impl Strikes {
    /// Ends a prepared branch against its decision, and waits for the report.
    pub(super) async fn by_hand(&mut self, step: Step) -> Result<Struck, ChaosError> {
        let gavel = self.arena.client(&[0, 1]).await?;
        let names: Vec<String> = (0..DATA_SHARDS)
            .map(|shard| self.arena.shard(shard).to_owned())
            .collect();
        let home = self.arena.shard(DATA_SHARDS).to_owned();
        let (began, begun) = tokio::sync::oneshot::channel();
        let committing = tokio::spawn(async move { victim(&gavel, &home, &names, began).await });
        let Ok(txid) = begun.await else {
            return Ok(Err("no session was to be had".to_owned()));
        };
        let Some(caught) = self.catch_own(txid, step).await else {
            return Ok(nobody(step));
        };
        let (batch, what) = (caught.passage.batch.clone(), struck("by hand", &caught));
        let shard = if step == Step::FinishSent {
            caught.passage.shard
        } else {
            0
        };
        if !self.end_by_hand(shard, step, &caught).await? {
            return Ok(Err("its branch was gone before".to_owned()));
        }
        self.arena.people.lock().damaged.insert(batch.clone());
        if step == Step::DecideSent {
            // Nothing was decided, so the register will say abort.
            caught.cut();
        } else {
            caught.release();
        }
        let outcome = committing.await.map_err(ChaosError::Panicked)?;
        self.judge_outcome(step, &batch, outcome.as_ref());
        self.await_report(shard, &batch).await?;
        Ok(Ok(what))
    }

    /// Commits the branch that is to be aborted, or rolls the one back that is to be committed.
    async fn end_by_hand(
        &self,
        shard: usize,
        step: Step,
        caught: &Caught,
    ) -> Result<bool, ChaosError> {
        let batch = caught.passage.batch.clone();
        let verb = if step == Step::DecideSent {
            "COMMIT"
        } else {
            "ROLLBACK"
        };
        self.on_server(shard, move |server| {
            let find = format!("SELECT gid FROM pg_prepared_xacts WHERE gid LIKE '%:{batch}:%'");
            let found = server.sql(DATABASE, &find)?;
            let Some(gid) = found.first().and_then(|row| row[0].clone()) else {
                return Ok(false);
            };
            server.sql(DATABASE, &format!("{verb} PREPARED '{gid}'"))?;
            Ok(true)
        })
        .await
    }

    /// Damage is not success: nobody may hear that all shards show it.
    fn judge_outcome(&mut self, step: Step, batch: &str, outcome: Option<&Outcome>) {
        let lie = match outcome {
            Some(Outcome::Committed(committed)) => committed.applied || step == Step::DecideSent,
            _ => false,
        };
        if lie {
            self.seen.violations.push(Violation {
                invariant: Invariant::Durability,
                what: format!("batch {batch} was ended by hand at {step}, and told as {outcome:?}"),
            });
        }
    }

    async fn await_report(&mut self, shard: usize, batch: &str) -> Result<(), ChaosError> {
        let deadline = Instant::now() + REPORTED_WITHIN;
        loop {
            let sql = format!("SELECT kind FROM gavel.damage WHERE batch = '{batch}'");
            let found = self
                .on_server(shard, move |server| Ok(server.sql(DATABASE, &sql)?))
                .await?;
            if let Some(kind) = found.first().and_then(|row| row[0].clone()) {
                let evidence = format!("damage by hand reported as {kind}");
                self.seen.evidence.push((Invariant::Atomicity, evidence));
                return Ok(());
            }
            if Instant::now() > deadline {
                // The judgement at the end misses it as well, and says so.
                return Ok(());
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}

/// One interactive transaction: these share their batch with nobody.
async fn victim(
    gavel: &Gavel,
    home: &str,
    shards: &[String],
    began: tokio::sync::oneshot::Sender<Txid>,
) -> Option<Outcome> {
    let session = gavel.begin_at(home, Isolation::ReadCommitted).await;
    let mut session = session.ok()?;
    let name = session.txid().to_string();
    let txid = session.txid();
    for shard in shards {
        let insert = "INSERT INTO victim VALUES ($1)";
        let inserted = session.execute(shard, insert, params![name.as_str()]).await;
        inserted.ok()?;
    }
    // Whoever waits for it has a limit of its own.
    let _nobody_waits = began.send(txid);
    Some(session.commit().await)
}
