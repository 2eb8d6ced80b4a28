//! What is let in. Everything that can be refused early is refused here, with a code of its own.

use gavel_protocol::{Limits, Refusal, RefusalCode, ShardMap, ShardTag, Transaction, Txid};

use crate::clock;
use crate::shards::KnownShards;

/// Checks a txid against the shards and this machine's clock (R9, R14). The clock decides only
/// whether a txid is admitted, never what becomes of it.
pub fn check_txid(txid: Txid, shards: &KnownShards, limits: &Limits) -> Result<(), Refusal> {
    check_home(txid, &shards.map)?;
    shards.check_takes(txid.home())?;
    let now = clock::unix_ms();
    if txid.unix_ms() + limits.txid_age_ms_max < now {
        let message = "the txid is too old to be admitted; what became of it is not known here: \
                       ask for its status, or mint a new one";
        return Err(Refusal::new(RefusalCode::TxidTooOld, message));
    }
    if txid.unix_ms() > now + limits.txid_ahead_ms_max {
        let message = "the txid is from the future: check the clock of the machine that minted it";
        return Err(Refusal::new(RefusalCode::TxidFromFuture, message));
    }
    Ok(())
}

/// Checks that a txid's home is a shard of this deployment.
pub fn check_home(txid: Txid, shards: &ShardMap) -> Result<(), Refusal> {
    match shards.name(txid.home()) {
        Some(_) => Ok(()),
        None => Err(Refusal::new(
            RefusalCode::UnknownHome,
            format!(
                "the txid names shard {} as its home; there is no such shard",
                txid.home()
            ),
        )),
    }
}

/// Checks what is to be done.
pub fn check_transaction(
    transaction: &Transaction,
    shards: &KnownShards,
    limits: &Limits,
) -> Result<(), Refusal> {
    transaction
        .validate(limits)
        .map_err(|error| Refusal::new(RefusalCode::InvalidRequest, error.to_string()))?;
    transaction.branches.iter().try_for_each(|branch| {
        check_shard(branch.shard, &shards.map)?;
        shards.check_takes(branch.shard)
    })
}

/// Checks that a shard exists.
pub fn check_shard(tag: ShardTag, shards: &ShardMap) -> Result<(), Refusal> {
    match shards.name(tag) {
        Some(_) => Ok(()),
        None => {
            let message = format!("there is no shard with tag {tag}");
            Err(Refusal::new(RefusalCode::UnknownShard, message))
        }
    }
}
