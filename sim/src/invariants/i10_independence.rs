//! I10: a transaction ends as its own nature has it, or as the work of those that committed has
//! it; never as that of a neighbour that did not.

use crate::world::World;
use crate::world::ids::{self, ShortTxid};
use crate::world::setup::Nature;
use gavel_protocol::AbortCode;

pub(super) fn check(world: &World) -> Result<(), String> {
    let committed = |number| {
        // By its marks: its row may have been dropped.
        let mut marks = world
            .shards
            .iter()
            .flat_map(|shard| shard.tables.marks.keys());
        marks.any(|txid| ids::number(*txid) == number)
    };
    let is_harmed = |number| world.observer.harmed_transactions.contains(&number);
    for (txid, row) in world
        .shards
        .iter()
        .flat_map(|shard| &shard.tables.transactions)
    {
        let number = ids::number(*txid);
        if is_harmed(number) {
            continue;
        }
        let spec = world.setup.spec(number);
        let is_right = match (&row.aborted, spec.nature) {
            (None, _) => !spec.must_fail(),
            (Some(reason), _) if reason.code == AbortCode::AbortedByRequest => true,
            (Some(_), Nature::FailsAfter(_, other)) => committed(other) || is_harmed(other),
            (Some(_), _) => spec.must_fail(),
        };
        if !is_right {
            let (txid, nature) = (ShortTxid(*txid), spec.nature);
            let outcome = if row.aborted.is_none() {
                "committed"
            } else {
                "aborted"
            };
            return Err(format!("{txid} is {nature:?}, and has {outcome}"));
        }
    }
    Ok(())
}
