//! I7: a world whose faults have been mended comes to rest, with every client answered.
//!
//! That transactions commit where nothing is in their way is checked where there are no faults
//! ([`crate::simulation`]).

use crate::world::World;

pub(super) fn check(world: &World) -> Result<(), String> {
    if world.is_at_rest() {
        return Ok(());
    }
    let batches: usize = world.coordinators.iter().map(|each| each.runs.len()).sum();
    let clients = world.clients.iter().filter(|each| !each.is_done()).count();
    let jobs: usize = world.shards.iter().map(|shard| shard.jobs.len()).sum();
    let messages = world.network.len();
    Err(format!(
        "it does not come to rest: {batches} batches, {jobs} jobs, {messages} messages under way, \
         {clients} clients without an answer"
    ))
}
