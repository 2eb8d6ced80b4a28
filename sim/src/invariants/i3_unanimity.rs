//! I3: a commit decision implies a yes from every prepared branch, to exactly the members that
//! commit. Judged when home's COMMIT is executed.

use gavel_protocol::{BatchId, ShardTag, Txid};

use crate::world::ids::ShortBatch;
use crate::world::observer::Prepared;

pub(crate) fn check(
    has_prepared: &Prepared,
    batch: BatchId,
    named: &[ShardTag],
    members: &[Txid],
) -> Result<(), String> {
    for shard in named {
        let executed = has_prepared.get(&(batch, *shard));
        if executed.map(Vec::as_slice) != Some(members) {
            let batch = ShortBatch(batch);
            return Err(format!(
                "{batch} is decided without a yes of shard {shard} for its members"
            ));
        }
    }
    Ok(())
}
