//! Transfers through Gavel's client library: the same code embedded and over gRPC.

use anyhow::bail;
use async_trait::async_trait;
use gavel_client::{Ack, Gavel, Outcome, params};

use super::{Ended, Session};
use crate::load::Transfer;
use crate::world::{MARK, SHARDS, UPDATE};

pub struct ThroughClient(pub Gavel);

#[async_trait]
impl Session for ThroughClient {
    async fn transfer(&mut self, transfer: &Transfer) -> anyhow::Result<Ended> {
        let txid = transfer.txid;
        let mut transaction = self.0.transaction().txid(txid).ack(Ack::Applied);
        for (shard, entry) in SHARDS.into_iter().zip(transfer.entries) {
            transaction = transaction
                .on(shard)
                .execute(UPDATE, params![entry.amount, entry.account])
                .expect_rows(1)
                .execute(MARK, params![txid.uuid(), entry.account, entry.amount]);
        }
        match transaction.submit().await? {
            Outcome::Committed(committed) if committed.applied => Ok(Ended::Committed),
            Outcome::Committed(_) => bail!("{txid}: committed, but not applied in time"),
            Outcome::Aborted { .. } | Outcome::Refused { .. } => Ok(Ended::Aborted),
            Outcome::InDoubt { detail, .. } => bail!("{txid}: in doubt: {detail}"),
        }
    }
}
