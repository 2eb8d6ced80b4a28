//! I2: an outcome, once told, is what is recorded in the end, unless its row has been dropped.

use crate::world::World;
use crate::world::ids::{self, ShortTxid};
use crate::world::observer::Final;

pub(super) fn check(world: &World) -> Result<(), String> {
    for (txid, told) in &world.observer.told {
        if world
            .observer
            .harmed_transactions
            .contains(&ids::number(*txid))
        {
            continue;
        }
        let mut rows = world
            .shards
            .iter()
            .filter_map(|shard| shard.tables.transactions.get(txid));
        let differs = rows.any(|row| row.aborted.is_none() != (*told == Final::Committed));
        if differs {
            let txid = ShortTxid(*txid);
            return Err(format!(
                "{txid} was told {told:?}, and is recorded otherwise"
            ));
        }
    }
    Ok(())
}
