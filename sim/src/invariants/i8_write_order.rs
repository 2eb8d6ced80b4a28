//! I8: no COMMIT PREPARED before home's decision is durable. Judged when it is executed.

use gavel_protocol::message::FinishKind;
use gavel_protocol::{BatchId, ShardTag};

use crate::world::ids::ShortBatch;

pub(crate) fn check(
    batch: BatchId,
    shard: ShardTag,
    kind: FinishKind,
    is_durable: bool,
) -> Result<(), String> {
    if kind == FinishKind::Commit && !is_durable {
        let batch = ShortBatch(batch);
        return Err(format!(
            "COMMIT PREPARED of {batch} on shard {shard} before its decision is durable"
        ));
    }
    Ok(())
}
