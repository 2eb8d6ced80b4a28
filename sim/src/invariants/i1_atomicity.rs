//! I1: at rest, a transaction's marks are on all of its shards or on none, all left by one batch.
//!
//! Transactions that were harmed from outside are [`super::r16_detection`]'s.

use std::collections::BTreeSet;

use gavel_protocol::{BatchId, Txid};

use crate::world::World;
use crate::world::ids::{self, ShortTxid};

pub(super) fn check(world: &World) -> Result<(), String> {
    for txid in marked(world) {
        let is_harmed = world
            .observer
            .harmed_transactions
            .contains(&ids::number(txid));
        if !is_harmed && !is_whole(world, txid) {
            let txid = ShortTxid(txid);
            return Err(format!("{txid} has its marks on some of its shards only"));
        }
    }
    Ok(())
}

/// Every txid that has left a mark somewhere.
pub(super) fn marked(world: &World) -> BTreeSet<Txid> {
    let shards = world.shards.iter();
    shards
        .flat_map(|shard| shard.tables.marks.keys().copied())
        .collect()
}

/// Whether a txid has left the marks of the same batches on each of its shards.
pub(super) fn is_whole(world: &World, txid: Txid) -> bool {
    let spec = world.setup.spec(ids::number(txid));
    let mut seen: Option<BTreeSet<BatchId>> = None;
    for shard in &world.shards {
        let marks = shard.tables.marks.get(&txid);
        let marks: BTreeSet<BatchId> = marks.into_iter().flatten().copied().collect();
        let expected = match spec.writes.contains(&shard.tag) {
            true => seen.get_or_insert_with(|| marks.clone()).clone(),
            false => BTreeSet::new(),
        };
        if marks != expected {
            return false;
        }
    }
    true
}
