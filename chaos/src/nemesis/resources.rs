//! What runs out.

use tokio_postgres::{Client, SimpleQueryMessage};

use super::aim::nobody;
use super::{Strikes, Struck};
use crate::arena::prepare_foreign;
use crate::error::ChaosError;
use crate::proxy::Step;

/// More than any server of a run has.
const SLOTS_MAX: usize = 1_000;
const FILLER: &str = "filler";

impl Strikes {
    /// Fills every slot between a branch's work and its PREPARE.
    pub(super) async fn no_slots(&mut self, step: Step) -> Result<Struck, ChaosError> {
        let wants = |passage: &crate::proxy::Passage| passage.gid.is_some();
        let Some(caught) = self.catch_where(step, wants).await else {
            return Ok(nobody(step));
        };
        let what = self.name(&caught);
        let shard = caught.passage.shard;
        let superuser = self.arena.superuser(shard).await?;
        let filled = fill(&superuser).await;
        caught.release();
        tokio::time::sleep(self.a_while(500)).await;
        empty(&superuser).await?;
        Ok(match filled {
            Some(count) => Ok(format!("{what}, {count} slots taken")),
            None => Err("the slots did not run out".to_owned()),
        })
    }
}

/// Prepares until PostgreSQL has no slot left. Gives how many it took.
async fn fill(superuser: &Client) -> Option<usize> {
    for number in 0..SLOTS_MAX {
        let sql = prepare_foreign(&format!("{FILLER}-{number}"));
        if superuser.simple_query(&sql).await.is_err() {
            return Some(number);
        }
    }
    None
}

async fn empty(superuser: &Client) -> Result<(), ChaosError> {
    let find = format!("SELECT gid FROM pg_prepared_xacts WHERE gid LIKE '{FILLER}-%'");
    for message in superuser.simple_query(&find).await? {
        if let SimpleQueryMessage::Row(row) = message
            && let Some(gid) = row.get(0)
        {
            let rollback = format!("ROLLBACK PREPARED '{gid}'");
            superuser.simple_query(&rollback).await?;
        }
    }
    Ok(())
}
