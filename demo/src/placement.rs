//! Which shard an account lives on.
//!
//! `position = first 8 bytes of SHA-256(the id's 16 bytes), big-endian, modulo the number of
//! shards`, counted in the shards sorted by name. Any language can compute it, it does not depend
//! on the order of a configuration file, and no directory has to be asked or kept consistent.
//!
//! The price: with another list of shards, accounts would be looked for where they are not. The
//! list is therefore recorded on every shard, and compared at start (see [`crate::bank`]).

use sha2::{Digest as _, Sha256};
use uuid::Uuid;

/// A function from account ids to positions in the sorted list of shards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Placement {
    shards: usize,
}

impl Placement {
    /// Over this many shards, at least one.
    pub fn new(shards: usize) -> Self {
        assert!(shards > 0, "accounts need a shard to live on");
        Self { shards }
    }

    /// The position of the account's shard among the shards sorted by name.
    pub fn position(self, account: Uuid) -> usize {
        let hash = Sha256::digest(account.as_bytes());
        let mut head = [0; 8];
        head.copy_from_slice(&hash[..8]);
        // The remainder is below `shards`, which is a usize.
        (u64::from_be_bytes(head) % self.shards as u64) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Computed with another implementation of SHA-256: where an account lives must never change.
    #[test]
    fn placement_never_changes() {
        let golden = [
            ("00000000-0000-0000-0000-000000000000", 1, 0, 4),
            ("ffffffff-ffff-ffff-ffff-ffffffffffff", 1, 0, 2),
            ("0192f0c1-2b3c-7d4e-8f50-112233445566", 1, 1, 4),
            ("6f9619ff-8b86-4d01-b42d-00cf4fc964ff", 0, 0, 2),
        ];
        for (id, of_2, of_3, of_5) in golden {
            let account: Uuid = id.parse().unwrap();
            assert_eq!(Placement::new(1).position(account), 0, "{id}");
            assert_eq!(Placement::new(2).position(account), of_2, "{id}");
            assert_eq!(Placement::new(3).position(account), of_3, "{id}");
            assert_eq!(Placement::new(5).position(account), of_5, "{id}");
        }
    }

    #[test]
    fn shards_get_about_the_same_number_of_accounts() {
        let mut counts = [0_u32; 3];
        for number in 0..3_000 {
            counts[Placement::new(3).position(Uuid::from_u128(number))] += 1;
        }
        assert!(
            counts.iter().all(|count| (850..1_150).contains(count)),
            "{counts:?}"
        );
    }
}
