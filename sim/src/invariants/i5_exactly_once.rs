//! I5: what a client meant once has happened once at most, whatever txids it was given.

use std::collections::BTreeMap;

use crate::world::World;
use crate::world::ids::{self, TxNumber};

pub(super) fn check(world: &World) -> Result<(), String> {
    for shard in &world.shards {
        let mut sums: BTreeMap<TxNumber, usize> = BTreeMap::new();
        for (txid, marks) in &shard.tables.marks {
            *sums.entry(ids::number(*txid)).or_default() += marks.len();
        }
        for (number, sum) in sums {
            if sum > 1 && !world.observer.harmed_transactions.contains(&number) {
                let tag = shard.tag;
                return Err(format!("t{} happened {sum} times on shard {tag}", number.0));
            }
        }
    }
    Ok(())
}
