//! I6: nothing of ours is prepared anywhere, but what only an operator can end; what is somebody
//! else's is untouched.

use crate::world::World;
use crate::world::ids::ShortBatch;

pub(super) fn check(world: &World) -> Result<(), String> {
    for shard in &world.shards {
        let mut gids = shard.tables.prepared.keys();
        if let Some(gid) = gids.find(|gid| !world.is_orphaned_by_restore(gid)) {
            let (batch, tag) = (ShortBatch(gid.batch), shard.tag);
            return Err(format!("{batch} is still prepared on shard {tag}"));
        }
        if !shard.foreign {
            let tag = shard.tag;
            return Err(format!("a foreign transaction was finished on shard {tag}"));
        }
    }
    Ok(())
}
