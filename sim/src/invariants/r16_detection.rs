//! R16: where acknowledged data was lost, or a person finished a branch by hand, atomicity may be
//! broken; then the auditor, or whoever came upon it, has found it.

use std::collections::BTreeSet;

use gavel_protocol::message::RegisterAnswer;
use gavel_protocol::recovery::{Action, HomeSays, ShardShows, action};
use gavel_protocol::{BatchId, Incarnation, ShardTag, Txid};

use super::i1_atomicity::{is_whole, marked};
use crate::world::World;
use crate::world::hole::Hole;
use crate::world::ids::{self, ShortTxid};
use crate::world::observer::Final;
use crate::world::setup::place;

pub(super) fn check(world: &World) -> Result<(), String> {
    if world.observer.harmed_transactions.is_empty() {
        return Ok(());
    }
    let found = damage(world);
    if let Some(txid) = lost_by_restore(world, &found) {
        let txid = ShortTxid(txid);
        return Err(format!(
            "{txid} was told committed, its home was restored, and it is gone without a trace"
        ));
    }
    for txid in marked(world) {
        let is_harmed = world
            .observer
            .harmed_transactions
            .contains(&ids::number(txid));
        if !is_harmed || is_whole(world, txid) {
            continue;
        }
        let mut batches = world
            .shards
            .iter()
            .filter_map(|shard| shard.tables.marks.get(&txid))
            .flatten();
        // What is still prepared is listed as in doubt, with its age.
        let mut prepared = world
            .shards
            .iter()
            .flat_map(|shard| shard.tables.prepared.values());
        let is_in_doubt = prepared.any(|branch| branch.executed.contains(&txid));
        if !is_in_doubt && !batches.any(|batch| found.contains(batch)) {
            let txid = ShortTxid(txid);
            return Err(format!("{txid} is broken, and nobody has found it"));
        }
    }
    Ok(())
}

/// R13: a home that was restored has forgotten commits. Where no other shard was restored, each
/// of them that had branches is in doubt, found, or whole; nobody has rolled it back.
fn lost_by_restore(world: &World, found: &BTreeSet<BatchId>) -> Option<Txid> {
    let is_restored = |shard: ShardTag| world.shards[place(shard)].incarnation != Incarnation(1);
    let told = world.observer.told.iter();
    let mut committed = told.filter(|(_, told)| **told == Final::Committed);
    let gone = committed.find(|(txid, _)| {
        let spec = world.setup.spec(ids::number(**txid));
        let mut away = spec.writes.iter().filter(|shard| **shard != spec.home);
        let has_branches = away.clone().next().is_some();
        let only_home = is_restored(spec.home) && !away.any(|shard| is_restored(*shard));
        let marks = world
            .shards
            .iter()
            .filter_map(|shard| shard.tables.marks.get(txid));
        let mut prepared = world
            .shards
            .iter()
            .flat_map(|shard| shard.tables.prepared.values());
        has_branches
            && only_home
            && !is_whole_somewhere(world, **txid)
            && !prepared.any(|branch| branch.executed.contains(txid))
            && !marks.flatten().any(|batch| found.contains(batch))
    });
    gone.map(|(txid, _)| *txid)
}

fn is_whole_somewhere(world: &World, txid: Txid) -> bool {
    marked(world).contains(&txid) && is_whole(world, txid)
}

/// What is recorded as damage, and what the auditor finds: `participant/src/audit.rs`, over the
/// real recovery table.
fn damage(world: &World) -> BTreeSet<BatchId> {
    let recorded = world.shards.iter().flat_map(|shard| &shard.damage);
    let mut found: BTreeSet<BatchId> = recorded.map(|(batch, _)| *batch).collect();
    if world.setup.has(Hole::NoAuditor) {
        return found;
    }
    for shard in &world.shards {
        let homes = &shard.tables.branches;
        for (batch, home) in homes {
            found.extend(audited(world, *batch, place(*home), place(shard.tag)));
        }
    }
    for home in &world.shards {
        let batches: Vec<BatchId> = home.tables.decisions.keys().copied().collect();
        for batch in batches {
            let shards = 0..world.shards.len();
            found.extend(shards.filter_map(|at| audited(world, batch, place(home.tag), at)));
        }
    }
    found
}

fn audited(world: &World, batch: BatchId, home: usize, at: usize) -> Option<BatchId> {
    let (home, shard) = (&world.shards[home], &world.shards[at]);
    let answer = match home.tables.decisions.get(&batch) {
        Some(decision) => RegisterAnswer::Decision(decision.clone()),
        None if batch.unix_ms() < home.tables.dropped_ms => RegisterAnswer::BelowFloor,
        None => RegisterAnswer::NoRow,
    };
    let mut gids = shard.tables.prepared.keys();
    let shows = if gids.any(|gid| gid.batch == batch) {
        ShardShows::Prepared
    } else if shard.tables.branches.contains_key(&batch) {
        ShardShows::BranchRow
    } else {
        ShardShows::Nothing
    };
    match action(HomeSays::about(&answer, shard.tag), shows) {
        Action::Damage(_) | Action::ConfirmLost => Some(batch),
        Action::Commit
        | Action::Rollback
        | Action::RollbackWithAlarm
        | Action::ForceAbort
        | Action::AskOperator
        | Action::Wait
        | Action::LookAgain
        | Action::Rest => None,
    }
}
