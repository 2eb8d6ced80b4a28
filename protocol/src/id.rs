//! Identifiers built on UUIDv7 (RFC 9562): the first 48 bits are Unix milliseconds, so ids sort
//! by birth and fall into day partitions.
//!
//! A [`Txid`] carries its home's tag in the last 16 bits (R9). Whoever holds a txid can find its
//! home without any configuration, and no configuration change can move it:
//!
//! ```text
//!  0                48  52            64 66                        112      128
//!  ├── unix ms (48) ─┼ 7 ┼─ random (12) ┼10┼──── random (46) ─────────┼─ tag ─┤
//! ```
//!
//! Ages are never read off an id to decide liveness (R15); only admission and retention use them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::{Builder, Uuid, Variant};

use crate::names::ShardTag;

/// Why an identifier was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// Not a UUID at all.
    #[error("not a UUID: use 32 hexadecimal digits, hyphenated")]
    NotUuid,
    /// A UUID of another version or variant.
    #[error("not a UUIDv7: Gavel's ids carry their time of birth; mint one with `gavel tx id`")]
    NotVersion7,
}

/// Sixteen random bytes from the caller; the core itself has no randomness.
pub type RandomBytes = [u8; 16];

fn checked(uuid: Uuid) -> Result<Uuid, IdError> {
    if uuid.get_version_num() == 7 && uuid.get_variant() == Variant::RFC4122 {
        Ok(uuid)
    } else {
        Err(IdError::NotVersion7)
    }
}

fn version_7(unix_ms: u64, random: RandomBytes) -> Uuid {
    let mut tail = [0; 10];
    tail.copy_from_slice(&random[..10]);
    Builder::from_unix_timestamp_millis(unix_ms, &tail).into_uuid()
}

/// Unix milliseconds in the first 48 bits.
fn unix_ms(uuid: Uuid) -> u64 {
    (uuid.as_u128() >> 80) as u64
}

macro_rules! id_type {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "Uuid", into = "Uuid")]
        pub struct $name(Uuid);

        impl $name {
            /// The id as a UUID, as PostgreSQL stores it.
            pub fn uuid(self) -> Uuid {
                self.0
            }

            /// Time of birth in Unix milliseconds, by the clock of whoever minted it.
            pub fn unix_ms(self) -> u64 {
                unix_ms(self.0)
            }
        }

        impl TryFrom<Uuid> for $name {
            type Error = IdError;
            fn try_from(uuid: Uuid) -> Result<Self, IdError> {
                checked(uuid).map(Self)
            }
        }

        impl From<$name> for Uuid {
            fn from(id: $name) -> Uuid {
                id.0
            }
        }

        impl FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                // Only the canonical spelling: braces, URNs and bare hex would make one id
                // many strings.
                if text.len() != 36 {
                    return Err(IdError::NotUuid);
                }
                Uuid::try_parse(text).map_err(|_| IdError::NotUuid).and_then(Self::try_from)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({})", stringify!($name), self.0)
            }
        }
    };
}

id_type! {
    /// A transaction's identity and idempotency key; its last 16 bits name its home.
    Txid
}
id_type! {
    /// One try at a batch. Every try has a new one.
    BatchId
}

impl Txid {
    /// Mints a txid for a transaction whose outcome `home` records.
    pub fn mint(unix_ms: u64, home: ShardTag, random: RandomBytes) -> Self {
        let [high, low] = home.0.to_be_bytes();
        let mut bytes = version_7(unix_ms, random).into_bytes();
        bytes[14] = high;
        bytes[15] = low;
        Self(Uuid::from_bytes(bytes))
    }

    /// The shard that records this transaction's outcome.
    pub fn home(self) -> ShardTag {
        let bytes = self.0.as_bytes();
        ShardTag(u16::from_be_bytes([bytes[14], bytes[15]]))
    }
}

impl BatchId {
    /// Mints a batch id.
    pub fn mint(unix_ms: u64, random: RandomBytes) -> Self {
        Self(version_7(unix_ms, random))
    }
}

/// One run of one coordinator process, as participants know it: the stream that it holds open
/// to a participant carries this id, and so does every prepare it sends. When that stream
/// closes, the branches of this driver are in doubt at once (R15).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct DriverId(pub Uuid);

impl fmt::Display for DriverId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn r9_a_txid_carries_its_home(ms in 0u64..1 << 48, tag: u16, random: RandomBytes) {
            let txid = Txid::mint(ms, ShardTag(tag), random);
            prop_assert_eq!(txid.home(), ShardTag(tag));
            prop_assert_eq!(txid.unix_ms(), ms);
            prop_assert_eq!(txid.to_string().parse::<Txid>(), Ok(txid));
            prop_assert_eq!(Txid::try_from(txid.uuid()), Ok(txid));
        }

        #[test]
        fn parsing_never_panics(text in ".{0,80}") {
            let _ = text.parse::<Txid>();
            let _ = text.parse::<BatchId>();
        }
    }

    #[test]
    fn other_versions_and_spellings_are_refused() {
        let version_4 = "5b1d54d3-1c3c-4c62-8d3c-0a1a3c1a2b3c";
        assert_eq!(version_4.parse::<Txid>(), Err(IdError::NotVersion7));
        let good = BatchId::mint(1, [7; 16]).to_string();
        for bad in [
            good.replace('-', ""),
            format!("{{{good}}}"),
            "x".into(),
            String::new(),
        ] {
            assert_eq!(bad.parse::<BatchId>(), Err(IdError::NotUuid), "{bad}");
        }
    }
}
