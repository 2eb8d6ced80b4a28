//! The outside world's time and randomness, for minting ids and for admission. No outcome
//! depends on either.

use std::time::{SystemTime, UNIX_EPOCH};

use gavel_protocol::{BatchId, DriverId, ShardTag, Txid};

/// Unix milliseconds by this machine's clock.
pub fn unix_ms() -> u64 {
    let since_epoch = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX)
}

/// A new try at a batch.
pub fn mint_batch() -> BatchId {
    BatchId::mint(unix_ms(), rand::random())
}

/// A new transaction with this home.
pub fn mint_txid(home: ShardTag) -> Txid {
    Txid::mint(unix_ms(), home, rand::random())
}

/// This run of this coordinator.
pub fn mint_driver() -> DriverId {
    DriverId(uuid::Builder::from_random_bytes(rand::random()).into_uuid())
}
