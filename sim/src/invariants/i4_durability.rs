//! I4: an acknowledged commit is on every shard, an acknowledged abort on none, and a batch that
//! was refused to somebody has done nothing for it.

use crate::world::World;
use crate::world::ids::{self, ShortBatch, ShortTxid};
use crate::world::observer::Final;

pub(super) fn check(world: &World) -> Result<(), String> {
    let observer = &world.observer;
    for (txid, told) in &observer.told {
        if observer.harmed_transactions.contains(&ids::number(*txid)) {
            continue;
        }
        let spec = world.setup.spec(ids::number(*txid));
        for shard in &world.shards {
            let expected = *told == Final::Committed && spec.writes.contains(&shard.tag);
            let is_marked = shard.tables.marks.contains_key(txid);
            if is_marked != expected {
                let (txid, tag) = (ShortTxid(*txid), shard.tag);
                return Err(format!(
                    "{txid} was told {told:?}; has it left a mark on shard {tag}: {is_marked}"
                ));
            }
        }
    }
    for (txid, batch) in &observer.refused {
        let marks = world
            .shards
            .iter()
            .filter_map(|shard| shard.tables.marks.get(txid));
        if marks.flatten().any(|mark| mark == batch) && !observer.harmed.contains(batch) {
            let (txid, batch) = (ShortTxid(*txid), ShortBatch(*batch));
            return Err(format!("{batch} was refused to {txid}, but left its mark"));
        }
    }
    Ok(())
}
