//! What clients ask: declared transactions, with shards by name.

use gavel_protocol::id::IdError;
use gavel_protocol::message::InDoubtBranch;
use gavel_protocol::{
    Access, Ack, BranchWork, Isolation, Refusal, RefusalCode, ShardMap, ShardName, ShardTag,
    Statement, Transaction, Txid,
};

use super::outcome::name_of;
use super::shared::{isolation, short, values_from_wire, values_to_wire};
use super::{Checked, MalformedMessage, Problem, each};
use crate::api;

/// A client's request that cannot be understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PublicError {
    /// A field is missing or has no meaning.
    #[error(transparent)]
    Malformed(#[from] MalformedMessage),
    /// No shard of that name.
    #[error("there is no shard called `{0}`")]
    UnknownShard(String),
    /// The txid is none.
    #[error("the txid is {0}")]
    Txid(IdError),
}

impl From<PublicError> for Refusal {
    fn from(error: PublicError) -> Self {
        let code = match &error {
            PublicError::Malformed(_) => RefusalCode::InvalidRequest,
            PublicError::UnknownShard(_) => RefusalCode::UnknownShard,
            PublicError::Txid(_) => RefusalCode::InvalidTxid,
        };
        Self::new(code, error.to_string())
    }
}

/// Reads a txid in its canonical spelling.
///
/// # Errors
/// [`PublicError::Txid`].
pub fn txid_from_wire(text: &str) -> Result<Txid, PublicError> {
    text.parse().map_err(PublicError::Txid)
}

/// Finds a shard by its name.
///
/// # Errors
/// [`PublicError::UnknownShard`].
pub fn shard_from_wire(name: &str, shards: &ShardMap) -> Result<ShardTag, PublicError> {
    name.parse()
        .ok()
        .and_then(|name| shards.tag(&name))
        .ok_or_else(|| PublicError::UnknownShard(short(name)))
}

/// Reads an isolation level; absent means the default.
///
/// # Errors
/// When the value is unknown or unspecified.
pub fn isolation_from_wire(number: Option<i32>) -> Checked<Isolation> {
    number.map_or(Ok(Isolation::default()), |number| {
        isolation(number, "isolation")
    })
}

/// Reads when to answer; absent means the default.
///
/// # Errors
/// When the value is unknown or unspecified.
pub fn ack_from_wire(number: Option<i32>) -> Checked<Ack> {
    let Some(number) = number else {
        return Ok(Ack::default());
    };
    let unknown = MalformedMessage::new("ack", Problem::UnknownValue(number));
    match api::Ack::try_from(number).map_err(|_| unknown)? {
        api::Ack::Unspecified => Err(MalformedMessage::new("ack", Problem::Missing)),
        api::Ack::Applied => Ok(Ack::Applied),
        api::Ack::Decided => Ok(Ack::Decided),
    }
}

impl From<Ack> for api::Ack {
    fn from(ack: Ack) -> Self {
        match ack {
            Ack::Applied => Self::Applied,
            Ack::Decided => Self::Decided,
        }
    }
}

fn access_from_wire(number: Option<i32>) -> Checked<Access> {
    const FIELD: &str = "Branch.access";
    let Some(number) = number else {
        return Ok(Access::ReadWrite);
    };
    let unknown = MalformedMessage::new(FIELD, Problem::UnknownValue(number));
    match api::Access::try_from(number).map_err(|_| unknown)? {
        api::Access::Unspecified => Err(MalformedMessage::new(FIELD, Problem::Missing)),
        api::Access::ReadWrite => Ok(Access::ReadWrite),
        api::Access::ReadOnly => Ok(Access::ReadOnly),
    }
}

impl From<Access> for api::Access {
    fn from(access: Access) -> Self {
        match access {
            Access::ReadWrite => Self::ReadWrite,
            Access::ReadOnly => Self::ReadOnly,
        }
    }
}

impl From<Statement> for api::Statement {
    fn from(statement: Statement) -> Self {
        Self {
            sql: statement.sql.to_string(),
            params: values_to_wire(statement.params),
            guard: statement.guard.map(Into::into),
        }
    }
}

impl TryFrom<api::Statement> for Statement {
    type Error = MalformedMessage;
    fn try_from(statement: api::Statement) -> Checked<Self> {
        Ok(Self {
            sql: statement.sql.into(),
            params: values_from_wire(statement.params),
            guard: statement.guard.map(TryInto::try_into).transpose()?,
        })
    }
}

/// Reads a declared transaction. Limits and SQL are `Transaction::validate`'s business.
///
/// # Errors
/// Names the unknown shard or the malformed field.
pub fn transaction_from_wire(
    branches: Vec<api::Branch>,
    isolation: Option<i32>,
    shards: &ShardMap,
) -> Result<Transaction, PublicError> {
    let branches = branches
        .into_iter()
        .map(|branch| branch_from_wire(branch, shards))
        .collect::<Result<_, _>>()?;
    Ok(Transaction {
        isolation: isolation_from_wire(isolation)?,
        ..Transaction::new(branches)
    })
}

fn branch_from_wire(branch: api::Branch, shards: &ShardMap) -> Result<BranchWork, PublicError> {
    let statements: Vec<Statement> = super::all(branch.statements)?;
    Ok(BranchWork {
        shard: shard_from_wire(&branch.shard, shards)?,
        access: access_from_wire(branch.access)?,
        statements: statements.into(),
    })
}

/// A declared transaction as a client sends it; `shards` gives the names.
pub fn transaction_to_wire(
    transaction: &Transaction,
    shards: &ShardMap,
) -> (Vec<api::Branch>, api::Isolation) {
    let branches = transaction
        .branches
        .iter()
        .map(|branch| api::Branch {
            shard: name_of(shards, branch.shard),
            access: Some(api::Access::from(branch.access).into()),
            statements: each(branch.statements.to_vec()),
        })
        .collect();
    (branches, transaction.isolation.into())
}

impl From<&ShardMap> for api::ListShardsResponse {
    fn from(shards: &ShardMap) -> Self {
        let shard = |(tag, name): (ShardTag, &ShardName)| api::Shard {
            name: name.as_str().to_owned(),
            tag: Some(u32::from(tag.0)),
        };
        Self {
            shards: shards.iter().map(shard).collect(),
        }
    }
}

impl TryFrom<api::ListShardsResponse> for ShardMap {
    type Error = MalformedMessage;
    fn try_from(response: api::ListShardsResponse) -> Checked<Self> {
        let shard = |shard: api::Shard| {
            let name = ShardName::try_from(shard.name)
                .map_err(|error| MalformedMessage::invalid("Shard.name", error))?;
            let number = super::required(shard.tag, "Shard.tag")?;
            Ok((name, super::tag(number, "Shard.tag")?))
        };
        let shards = response.shards.into_iter().map(shard);
        ShardMap::new(shards.collect::<Checked<Vec<_>>>()?)
            .map_err(|error| MalformedMessage::invalid("ListShardsResponse.shards", error))
    }
}

/// The prepared branches of each shard, or why it could not be asked.
pub type InDoubtByShard = Vec<(ShardTag, Result<Vec<InDoubtBranch>, String>)>;

/// Reads the prepared branches of all shards. The name is for people; the number counts.
///
/// # Errors
/// When a branch or a number is malformed.
pub fn in_doubt_from_wire(response: api::ListInDoubtResponse) -> Checked<InDoubtByShard> {
    let one = |found: api::ShardInDoubt| {
        let number = super::required(found.shard_tag, "ShardInDoubt.shard_tag")?;
        let tag = super::tag(number, "ShardInDoubt.shard_tag")?;
        Ok(match found.unavailable {
            Some(detail) => (tag, Err(detail)),
            None => (tag, Ok(super::all(found.branches)?)),
        })
    };
    response.shards.into_iter().map(one).collect()
}

/// The prepared branches of all shards; `shards` gives the names.
pub fn in_doubt_to_wire(list: InDoubtByShard, shards: &ShardMap) -> api::ListInDoubtResponse {
    let shards = list
        .into_iter()
        .map(|(tag, branches)| {
            let (branches, unavailable) = match branches {
                Ok(branches) => (each(branches), None),
                Err(detail) => (Vec::new(), Some(detail)),
            };
            api::ShardInDoubt {
                shard: name_of(shards, tag),
                shard_tag: Some(u32::from(tag.0)),
                branches,
                unavailable,
            }
        })
        .collect();
    api::ListInDoubtResponse { shards }
}

impl From<InDoubtBranch> for api::InDoubtBranch {
    fn from(branch: InDoubtBranch) -> Self {
        Self {
            gid: branch.gid.to_string(),
            age_ms: branch.age_ms,
            waits_for: branch.waits_for,
        }
    }
}

impl TryFrom<api::InDoubtBranch> for InDoubtBranch {
    type Error = MalformedMessage;
    fn try_from(branch: api::InDoubtBranch) -> Checked<Self> {
        Ok(Self {
            gid: super::gid(&branch.gid, "InDoubtBranch.gid")?,
            age_ms: branch.age_ms,
            waits_for: branch.waits_for,
        })
    }
}
