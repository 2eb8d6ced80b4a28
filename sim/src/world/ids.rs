//! Identifiers of the world. They are made from names instead of randomness, so that two runs that
//! come to the same state in different orders give the same ids, and an id tells whose it is.

use std::fmt;

use gavel_protocol::{BatchId, DriverId, ShardTag, Txid};
use uuid::Uuid;

/// The world's clocks start here.
pub(crate) const EPOCH_MS: u64 = 1_700_000_000_000;

/// A client's intent: what it wants to happen once, under whatever txid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct TxNumber(pub(crate) u16);

/// The txid of an intent. `version` counts how often the intent was minted a txid; more than once
/// is a bug that can be planted.
pub(crate) fn txid(number: TxNumber, version: u8, home: ShardTag, at_ms: u64) -> Txid {
    let [high, low] = number.0.to_be_bytes();
    let mut random = [0; 16];
    random[4..7].copy_from_slice(&[version, high, low]);
    Txid::mint(EPOCH_MS + at_ms, home, random)
}

/// The intent behind a txid.
pub(crate) fn number(txid: Txid) -> TxNumber {
    let uuid = txid.uuid();
    let bytes = uuid.as_bytes();
    TxNumber(u16::from_be_bytes([bytes[11], bytes[12]]))
}

/// The id of the `count`th batch of one life of a coordinator.
pub(crate) fn batch(coordinator: u8, life: u16, count: u16, at_ms: u64) -> BatchId {
    let ([life_high, life_low], [high, low]) = (life.to_be_bytes(), count.to_be_bytes());
    let mut random = [0; 16];
    random[3..8].copy_from_slice(&[coordinator, life_high, life_low, high, low]);
    BatchId::mint(EPOCH_MS + at_ms, random)
}

/// One life of a coordinator, as participants know it.
pub(crate) fn driver(coordinator: u8, life: u16) -> DriverId {
    DriverId(Uuid::from_u128(
        u128::from(coordinator) << 16 | u128::from(life),
    ))
}

/// Writes a txid in the few letters that tell it from the others.
pub(crate) struct ShortTxid(pub(crate) Txid);

impl fmt::Display for ShortTxid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let version = self.0.uuid().as_bytes()[10];
        write!(f, "t{}", number(self.0).0)?;
        if version > 0 {
            write!(f, "/{version}")?;
        }
        Ok(())
    }
}

/// Writes a batch id in the few letters that tell it from the others.
pub(crate) struct ShortBatch(pub(crate) BatchId);

impl fmt::Display for ShortBatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let uuid = self.0.uuid();
        let bytes = uuid.as_bytes();
        let life = u16::from_be_bytes([bytes[10], bytes[11]]);
        let count = u16::from_be_bytes([bytes[12], bytes[13]]);
        write!(f, "b{}.{life}.{count}", bytes[9])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_tells_whose_it_is() {
        let id = txid(TxNumber(517), 1, ShardTag(3), 12);
        assert_eq!(number(id), TxNumber(517));
        assert_eq!(id.home(), ShardTag(3));
        assert_eq!(ShortTxid(id).to_string(), "t517/1");
        assert_eq!(ShortBatch(batch(1, 2, 300, 5)).to_string(), "b1.2.300");
        assert_ne!(driver(1, 2), driver(2, 1));
    }
}
