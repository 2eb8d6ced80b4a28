//! The one place where a gid is built and parsed.
//!
//! `gavel:<deployment>:<home tag>:<home incarnation>:<batch id>:<shard tag>`
//!
//! A gid tells a resolver everything it needs: where the decision is, which life of that home
//! wrote it, and under which key. It is stored and sent verbatim. gids are unique per PostgreSQL
//! *server*, not per database, hence the shard's tag at the end (facts 9). A gid with a quote in
//! it would be prepared truncated (facts 8): the types that make up a gid cannot contain one.

use std::fmt;
use std::str::FromStr;

use crate::id::BatchId;
use crate::names::{DeploymentName, Incarnation, ShardTag, canonical_number};

/// PostgreSQL refuses gids of this many bytes or more (`GIDSIZE` in `twophase.c`).
pub const GID_LEN_LIMIT: usize = 200;

const PREFIX: &str = "gavel";

/// The name of a prepared branch.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Gid {
    /// The installation that this branch belongs to.
    pub deployment: DeploymentName,
    /// The shard that records the decision.
    pub home: ShardTag,
    /// The life of the home that the decision was to be written in (R13).
    pub home_incarnation: Incarnation,
    /// The key of the decision.
    pub batch: BatchId,
    /// The shard on which the branch is prepared.
    pub shard: ShardTag,
}

/// The text is not a gid that Gavel wrote. Such prepared transactions are never touched.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a gid of Gavel's")]
pub struct ForeignGid;

impl fmt::Display for Gid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            deployment,
            home,
            home_incarnation,
            batch,
            shard,
        } = self;
        write!(
            f,
            "{PREFIX}:{deployment}:{home}:{home_incarnation}:{batch}:{shard}"
        )
    }
}

impl FromStr for Gid {
    type Err = ForeignGid;

    /// Accepts exactly what [`Gid`]'s `Display` writes.
    fn from_str(text: &str) -> Result<Self, ForeignGid> {
        if text.len() >= GID_LEN_LIMIT {
            return Err(ForeignGid);
        }
        let parts: Vec<&str> = text.split(':').collect();
        let [PREFIX, deployment, home, home_incarnation, batch, shard] = parts[..] else {
            return Err(ForeignGid);
        };
        let gid = Self {
            deployment: deployment.parse().map_err(|_| ForeignGid)?,
            home: home.parse().map_err(|_| ForeignGid)?,
            home_incarnation: canonical_number(home_incarnation)
                .map(Incarnation)
                .ok_or(ForeignGid)?,
            batch: batch.parse().map_err(|_| ForeignGid)?,
            shard: shard.parse().map_err(|_| ForeignGid)?,
        };
        // UUIDs parse in either case; we write lower case only.
        if gid.to_string() == text {
            Ok(gid)
        } else {
            Err(ForeignGid)
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    prop_compose! {
        fn any_gid()(
            deployment in "[a-z][a-z0-9_]{0,31}",
            home: u16,
            incarnation: u32,
            ms in 0u64..1 << 48,
            random: [u8; 16],
            shard: u16,
        ) -> Gid {
            Gid {
                deployment: deployment.parse().unwrap(),
                home: ShardTag(home),
                home_incarnation: Incarnation(incarnation),
                batch: BatchId::mint(ms, random),
                shard: ShardTag(shard),
            }
        }
    }

    proptest! {
        #[test]
        fn a_gid_survives_the_round_trip(gid in any_gid()) {
            let text = gid.to_string();
            prop_assert!(text.len() < GID_LEN_LIMIT);
            prop_assert!(!text.contains(['\'', '\\', '\0']));
            prop_assert_eq!(text.parse::<Gid>(), Ok(gid));
        }

        #[test]
        fn what_parses_is_what_was_written(text in "(gavel)?[:a-z0-9'\\-]{0,220}") {
            if let Ok(gid) = text.parse::<Gid>() {
                prop_assert_eq!(gid.to_string(), text);
            }
        }

        #[test]
        fn a_damaged_gid_is_foreign(gid in any_gid(), at: prop::sample::Index, byte in "[ -~]") {
            let mut text = gid.to_string();
            let at = at.index(text.len());
            text.replace_range(at..=at, &byte);
            if let Ok(parsed) = text.parse::<Gid>() {
                prop_assert_eq!(parsed.to_string(), text);
            }
        }
    }

    #[test]
    fn hostile_texts_are_foreign() {
        let good = "gavel:bank:1:1:01890a5d-ac96-774b-bcce-b302099a8057:2";
        assert!(good.parse::<Gid>().is_ok());
        for bad in [
            "",
            "gavel",
            "gavel:::::",
            "GAVEL:bank:1:1:01890a5d-ac96-774b-bcce-b302099a8057:2",
            "gavel:bank:01:1:01890a5d-ac96-774b-bcce-b302099a8057:2",
            "gavel:bank:1:1:01890A5D-AC96-774B-BCCE-B302099A8057:2",
            "gavel:bank:1:1:01890a5d-ac96-774b-bcce-b302099a8057:2:",
            "gavel:bank:1:1:01890a5d-ac96-774b-bcce-b302099a8057:2'",
            "gavel:ba'nk:1:1:01890a5d-ac96-774b-bcce-b302099a8057:2",
            "gavel:bank:1:99999999999:01890a5d-ac96-774b-bcce-b302099a8057:2",
            "pg_gid_16395_731",
        ] {
            assert_eq!(bad.parse::<Gid>(), Err(ForeignGid), "{bad}");
        }
    }
}
