//! Hashes that let two parties compare what they hold without sending it.

use std::fmt;

use sha2::{Digest, Sha256};

use crate::id::Txid;
use crate::transaction::{Access, Guard, Transaction};

/// SHA-256 over a transaction's content (R8). Submitting other content under a used txid is
/// refused, because the recorded answer would be the answer to something else.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct RequestHash(pub [u8; 32]);

/// SHA-256 over the txids that a branch executed, in order (R2). Home runs exactly that set.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct MembersDigest(pub [u8; 32]);

impl MembersDigest {
    /// The digest of `members`, in the order given.
    pub fn of(members: impl IntoIterator<Item = Txid>) -> Self {
        let mut hasher = Sha256::new();
        for txid in members {
            hasher.update(txid.uuid().as_bytes());
        }
        Self(hasher.finalize().into())
    }
}

impl RequestHash {
    /// Stands for any content: the row of an abort for good, whose asker need not know what
    /// the transaction would have done. SHA-256 of nothing known.
    pub const ANY: Self = Self([0; 32]);

    /// Whether a row with this hash answers a submission with the hash `other` (R8).
    pub fn answers(self, other: Self) -> bool {
        self == other || self == Self::ANY || other == Self::ANY
    }

    /// The hash of everything that decides what the transaction does. The acknowledgement mode
    /// is left out: asking again in another mode is the same transaction.
    pub fn of(transaction: &Transaction) -> Self {
        let mut hasher = FieldHasher(Sha256::new());
        hasher.number(transaction.isolation as u64);
        for branch in &transaction.branches {
            hasher.number(u64::from(branch.shard.0));
            hasher.number(match branch.access {
                Access::ReadWrite => 0,
                Access::ReadOnly => 1,
            });
            hasher.number(branch.statements.len() as u64);
            for statement in branch.statements.iter() {
                hasher.text(&statement.sql);
                hasher.number(statement.params.len() as u64);
                for param in &statement.params {
                    hasher.optional_text(param.as_deref());
                }
                hasher.guard(statement.guard);
            }
        }
        Self(hasher.0.finalize().into())
    }
}

/// Length-prefixes every field, so that no two contents have one encoding.
struct FieldHasher(Sha256);

impl FieldHasher {
    fn number(&mut self, number: u64) {
        self.0.update(number.to_be_bytes());
    }

    fn text(&mut self, text: &str) {
        self.number(text.len() as u64);
        self.0.update(text.as_bytes());
    }

    fn optional_text(&mut self, text: Option<&str>) {
        match text {
            None => self.number(0),
            Some(text) => {
                self.number(1);
                self.text(text);
            }
        }
    }

    fn guard(&mut self, guard: Option<Guard>) {
        match guard {
            None => self.number(0),
            Some(Guard::RowsExactly(rows)) => {
                self.number(1);
                self.number(rows);
            }
            Some(Guard::RowsAtLeast(rows)) => {
                self.number(2);
                self.number(rows);
            }
        }
    }
}

macro_rules! hex_format {
    ($name:ident) => {
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }
    };
}

hex_format!(RequestHash);
hex_format!(MembersDigest);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names::ShardTag;
    use crate::transaction::{BranchWork, Statement};

    fn transfer(params: &[&str]) -> Transaction {
        let statement = Statement::new("update account set balance = $1", params.iter().copied());
        Transaction::new(vec![BranchWork::write(ShardTag(1), vec![statement])])
    }

    #[test]
    fn r8_other_content_has_another_hash() {
        let hash = RequestHash::of(&transfer(&["12", "3"]));
        assert_eq!(hash, RequestHash::of(&transfer(&["12", "3"])));
        assert_ne!(hash, RequestHash::of(&transfer(&["1", "23"])));
        assert_ne!(hash, RequestHash::of(&transfer(&["12"])));
    }

    #[test]
    fn r2_the_digest_knows_order() {
        let a = Txid::mint(1, ShardTag(1), [1; 16]);
        let b = Txid::mint(1, ShardTag(1), [2; 16]);
        assert_ne!(MembersDigest::of([a, b]), MembersDigest::of([b, a]));
        assert_ne!(MembersDigest::of([a]), MembersDigest::of([a, b]));
    }
}
