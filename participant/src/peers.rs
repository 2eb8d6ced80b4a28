//! Which shards this one has to do with, as its database remembers it (R13).
//!
//! A configuration is a file that somebody edits. What it must not lose is kept in every shard's
//! database: a shard that was known once may be missing only after `gavel shard remove` has seen
//! that no gid and no retained row names it, and its tag is never another shard's.

use std::collections::BTreeSet;

use gavel_protocol::{ShardName, ShardTag};

use crate::local::LocalParticipant;
use crate::service_pool::ServiceError;

/// Why a configuration cannot be taken over.
#[derive(Debug, thiserror::Error)]
pub enum PeersError {
    /// A shard is gone from it that may still be needed.
    #[error(
        "the configuration has no shard `{name}` with tag {tag}, which shard `{of}` has to do \
         with: put its [[shard]] table back. To take it out for good, see `gavel shard remove`"
    )]
    Missing {
        /// Whose database says so.
        of: ShardName,
        /// The shard that is missing.
        name: String,
        /// Its number.
        tag: i32,
    },
    /// A tag belongs to another shard.
    #[error(
        "tag {tag} is or was that of shard `{name}`, as shard `{of}` remembers: give the new \
         shard a tag that was never used"
    )]
    Renamed {
        /// Whose database says so.
        of: ShardName,
        /// The shard that has, or had, the tag.
        name: String,
        /// The number.
        tag: i32,
    },
    /// The database could not be asked.
    #[error("shard `{of}` cannot say which shards it has to do with")]
    Database {
        /// Whose.
        of: ShardName,
        /// Why not.
        #[source]
        cause: ServiceError,
    },
}

impl PeersError {
    /// The stable code.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Missing { .. } => "shard_missing",
            Self::Renamed { .. } => "tag_used_before",
            Self::Database { .. } => "shard_unreachable",
        }
    }
}

impl LocalParticipant {
    /// Takes note of the shards of a configuration, this one included. Returns those that were
    /// removed, whose tables are still in the file: nobody has to do with them any more.
    ///
    /// # Errors
    /// [`PeersError`]; then nothing was noted.
    pub async fn know_peers(
        &self,
        shards: impl IntoIterator<Item = (ShardTag, ShardName)>,
    ) -> Result<BTreeSet<ShardTag>, PeersError> {
        let of = self.name().clone();
        let shards = shards.into_iter();
        let (tags, names): (Vec<i32>, Vec<String>) = shards
            .map(|(tag, name)| (i32::from(tag.0), name.to_string()))
            .unzip();
        let asked = async {
            let session = self.service_pool().session().await?;
            let sql = "SELECT tag, shard, wrong FROM gavel.know_peers($1, $2)";
            session.query(sql, &[&tags, &names]).await
        };
        let rows = asked.await.map_err(|cause| PeersError::Database {
            of: of.clone(),
            cause,
        })?;
        let mut removed = BTreeSet::new();
        for row in rows {
            let (tag, name, wrong): (i32, String, String) = (row.get(0), row.get(1), row.get(2));
            let of = of.clone();
            match wrong.as_str() {
                "removed" => removed.extend(u16::try_from(tag).map(ShardTag)),
                "renamed" => return Err(PeersError::Renamed { of, name, tag }),
                _ => return Err(PeersError::Missing { of, name, tag }),
            }
        }
        Ok(removed)
    }
}
