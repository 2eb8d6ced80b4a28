//! Names that have been checked: once one of these exists, it is safe to put into a gid, a log
//! line or utility SQL.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Longest shard or deployment name, in bytes. Two names, two numbers and two ids must fit into
/// a gid of fewer than 200 bytes (`GIDSIZE` in PostgreSQL's `twophase.c`).
pub const NAME_LEN_MAX: usize = 32;

/// Longest principal, in bytes.
pub const PRINCIPAL_LEN_MAX: usize = 128;

/// Why a name was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// The text does not match `^[a-z][a-z0-9_]{0,31}$`.
    #[error("`{0}` is not a valid name: use 1 to 32 of a-z, 0-9 and _, starting with a letter")]
    Malformed(String),
    /// A principal is empty, too long, or has control characters.
    #[error("a principal has 1 to 128 bytes and no control characters")]
    Principal,
    /// A tag is not a number from 0 to 65535.
    #[error("`{0}` is not a shard tag: use a number from 0 to 65535")]
    Tag(String),
}

fn checked_name(text: &str) -> Result<String, NameError> {
    let mut bytes = text.bytes();
    let starts_well = bytes.next().is_some_and(|b| b.is_ascii_lowercase());
    let goes_on_well = bytes.all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
    if starts_well && goes_on_well && text.len() <= NAME_LEN_MAX {
        Ok(text.to_owned())
    } else {
        Err(NameError::Malformed(text.chars().take(64).collect()))
    }
}

macro_rules! name_type {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = NameError;
            fn from_str(text: &str) -> Result<Self, NameError> {
                checked_name(text).map(Self)
            }
        }

        impl TryFrom<String> for $name {
            type Error = NameError;
            fn try_from(text: String) -> Result<Self, NameError> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

name_type! {
    /// A shard's name, `^[a-z][a-z0-9_]{0,31}$`. For people; the protocol uses [`ShardTag`].
    ShardName
}
name_type! {
    /// The name of one Gavel installation. Two installations may share a PostgreSQL server and
    /// never touch each other's branches.
    DeploymentName
}

/// The number of a shard. It never changes and is never reused: txids carry it (R9).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ShardTag(pub u16);

impl fmt::Display for ShardTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for ShardTag {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        canonical_number(text)
            .map(ShardTag)
            .ok_or_else(|| NameError::Tag(text.chars().take(16).collect()))
    }
}

/// Which life of a shard this is (R13). A failover keeps it; a restore from backup, a clone or
/// a move gets the next one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Incarnation(pub u32);

impl fmt::Display for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Parses a decimal number that is written the one way we write it: no sign, no leading zero.
/// A gid must have one spelling only.
pub(crate) fn canonical_number<N: FromStr + fmt::Display>(text: &str) -> Option<N> {
    let number: N = text.parse().ok()?;
    (number.to_string() == text).then_some(number)
}

/// Who submitted a transaction: the authenticated identity, never a claim in the payload.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Principal(String);

impl Principal {
    /// The identity of whoever reaches a service that runs without authentication (loopback
    /// only) or uses Gavel embedded.
    pub fn local() -> Self {
        Self("local".to_owned())
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Principal {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        let fits = !text.is_empty() && text.len() <= PRINCIPAL_LEN_MAX;
        if fits && !text.chars().any(char::is_control) {
            Ok(Self(text.to_owned()))
        } else {
            Err(NameError::Principal)
        }
    }
}

impl TryFrom<String> for Principal {
    type Error = NameError;
    fn try_from(text: String) -> Result<Self, NameError> {
        text.parse()
    }
}

impl From<Principal> for String {
    fn from(principal: Principal) -> String {
        principal.0
    }
}

impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_pattern_and_nothing_else() {
        for good in ["a", "shard_1", &"x".repeat(32)] {
            assert!(good.parse::<ShardName>().is_ok(), "{good}");
        }
        for bad in [
            "",
            "1a",
            "_a",
            "A",
            "a-b",
            "a'b",
            "a:b",
            "ä",
            "a\0",
            &"x".repeat(33),
        ] {
            assert!(bad.parse::<ShardName>().is_err(), "{bad}");
        }
    }

    #[test]
    fn numbers_have_one_spelling() {
        assert_eq!("7".parse::<ShardTag>(), Ok(ShardTag(7)));
        for bad in ["", "07", "+7", "65536", "-1", " 7"] {
            assert!(bad.parse::<ShardTag>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_principal_cannot_forge_a_log_line() {
        assert!("alice\nroot".parse::<Principal>().is_err());
        assert!("".parse::<Principal>().is_err());
        assert!("alice@example".parse::<Principal>().is_ok());
    }
}
