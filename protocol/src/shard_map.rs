//! Which shards there are: names for people, tags for the protocol.

use std::collections::BTreeMap;

use crate::names::{ShardName, ShardTag};

/// Two shards share a name or a tag.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ShardMapError {
    /// Two shards of one name.
    #[error("two shards are called `{0}`: names must differ")]
    DuplicateName(ShardName),
    /// Two shards of one tag.
    #[error("shards `{0}` and `{1}` have the same tag: tags must differ and never change")]
    DuplicateTag(ShardName, ShardName),
    /// No shard at all.
    #[error("there is no shard: name at least one")]
    Empty,
}

/// The shards of a deployment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ShardMap {
    by_tag: BTreeMap<ShardTag, ShardName>,
    by_name: BTreeMap<ShardName, ShardTag>,
}

impl ShardMap {
    /// Checks that names and tags are unique.
    pub fn new(
        shards: impl IntoIterator<Item = (ShardName, ShardTag)>,
    ) -> Result<Self, ShardMapError> {
        let mut map = Self::default();
        for (name, tag) in shards {
            if let Some(other) = map.by_tag.insert(tag, name.clone()) {
                return Err(ShardMapError::DuplicateTag(other, name));
            }
            if map.by_name.insert(name.clone(), tag).is_some() {
                return Err(ShardMapError::DuplicateName(name));
            }
        }
        if map.by_tag.is_empty() {
            Err(ShardMapError::Empty)
        } else {
            Ok(map)
        }
    }

    /// The tag of a name.
    pub fn tag(&self, name: &ShardName) -> Option<ShardTag> {
        self.by_name.get(name).copied()
    }

    /// The name of a tag.
    pub fn name(&self, tag: ShardTag) -> Option<&ShardName> {
        self.by_tag.get(&tag)
    }

    /// All shards, by tag.
    pub fn iter(&self) -> impl Iterator<Item = (ShardTag, &ShardName)> {
        self.by_tag.iter().map(|(tag, name)| (*tag, name))
    }
}
