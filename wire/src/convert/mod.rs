//! Between domain types and messages.
//!
//! Domain to message is `From`, by value, and cannot fail. Message to domain is `TryFrom`, and
//! checks everything: absent fields, unknown enum values, unset oneofs, ids of the wrong length.
//! Nothing absent is read as something meaningful. No input panics.

mod decide;
mod finish;
mod members;
mod operate;
mod outcome;
mod prepare;
mod public;
mod record;
mod register;
mod session;
mod shared;
mod standing;

use bytes::Bytes;
use gavel_protocol::id::IdError;
use gavel_protocol::{BatchId, DriverId, Gid, Incarnation, Principal, ShardTag, Txid};
use uuid::Uuid;

pub use outcome::{
    branch_results_from_wire, branch_results_to_wire, outcome_to_wire, status_from_wire,
    status_to_wire,
};
pub use public::{
    InDoubtByShard, PublicError, ack_from_wire, in_doubt_from_wire, in_doubt_to_wire,
    isolation_from_wire, shard_from_wire, transaction_from_wire, transaction_to_wire,
    txid_from_wire,
};
pub use register::LookUpAnswers;
pub use standing::{standing_from_wire, standing_to_wire};

/// A message that its sender should not have sent, or that was damaged on its way.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("malformed message: {field} {problem}")]
pub struct MalformedMessage {
    /// The field, as `Message.field` of the protobuf definition.
    pub field: &'static str,
    /// What is wrong with it.
    pub problem: Problem,
}

/// What can be wrong with a field.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// A value is needed and there is none.
    #[error("is missing")]
    Missing,
    /// An enum value that this version does not know.
    #[error("has the unknown value {0}")]
    UnknownValue(i32),
    /// A code that this version does not know.
    #[error("has the unknown code `{0}`")]
    UnknownCode(String),
    /// A number out of its range.
    #[error("is out of range")]
    OutOfRange,
    /// An id or a hash of the wrong length.
    #[error("must have {expected} bytes and has {found}")]
    Length {
        /// 16 for ids, 32 for hashes.
        expected: usize,
        /// What it has.
        found: usize,
    },
    /// An id or a name that breaks its rules.
    #[error("is invalid: {0}")]
    Invalid(String),
}

impl MalformedMessage {
    /// The field has this problem.
    pub fn new(field: &'static str, problem: Problem) -> Self {
        Self { field, problem }
    }

    fn invalid(field: &'static str, reason: impl ToString) -> Self {
        Self::new(field, Problem::Invalid(reason.to_string()))
    }
}

type Checked<T> = Result<T, MalformedMessage>;

/// The value of a field that must be there.
fn required<T>(value: Option<T>, field: &'static str) -> Checked<T> {
    value.ok_or(MalformedMessage::new(field, Problem::Missing))
}

/// The value of a message field that must be there, converted.
fn converted<W, T>(value: Option<W>, field: &'static str) -> Checked<T>
where
    T: TryFrom<W, Error = MalformedMessage>,
{
    required(value, field)?.try_into()
}

/// A list, converted as a whole or not at all.
fn all<W, T>(values: Vec<W>) -> Checked<Vec<T>>
where
    T: TryFrom<W, Error = MalformedMessage>,
{
    values.into_iter().map(T::try_from).collect()
}

/// A list of domain values as messages.
fn each<T, W: From<T>>(values: Vec<T>) -> Vec<W> {
    values.into_iter().map(W::from).collect()
}

fn array<const N: usize>(bytes: &[u8], field: &'static str) -> Checked<[u8; N]> {
    let length = Problem::Length {
        expected: N,
        found: bytes.len(),
    };
    bytes
        .try_into()
        .map_err(|_| MalformedMessage::new(field, length))
}

fn id<T: TryFrom<Uuid, Error = IdError>>(bytes: &[u8], field: &'static str) -> Checked<T> {
    T::try_from(Uuid::from_bytes(array(bytes, field)?))
        .map_err(|error| MalformedMessage::invalid(field, error))
}

/// Reads a batch id of 16 bytes.
pub fn batch_id(bytes: &[u8], field: &'static str) -> Checked<BatchId> {
    id(bytes, field)
}

/// Reads a txid of 16 bytes.
pub fn txid(bytes: &[u8], field: &'static str) -> Checked<Txid> {
    id(bytes, field)
}

/// Reads a driver id of 16 bytes.
pub fn driver_id(bytes: &[u8], field: &'static str) -> Checked<DriverId> {
    Ok(DriverId(Uuid::from_bytes(array(bytes, field)?)))
}

/// Writes an id as 16 bytes.
pub fn id_bytes(id: impl Into<Uuid>) -> Bytes {
    Bytes::copy_from_slice(id.into().as_bytes())
}

fn driver_bytes(driver: DriverId) -> Bytes {
    id_bytes(driver.0)
}

/// Reads a gid that Gavel wrote.
pub fn gid(text: &str, field: &'static str) -> Checked<Gid> {
    text.parse()
        .map_err(|error| MalformedMessage::invalid(field, error))
}

fn principal(text: String, field: &'static str) -> Checked<Principal> {
    text.try_into()
        .map_err(|error| MalformedMessage::invalid(field, error))
}

fn tag(number: u32, field: &'static str) -> Checked<ShardTag> {
    u16::try_from(number)
        .map(ShardTag)
        .map_err(|_| MalformedMessage::new(field, Problem::OutOfRange))
}

fn tags(numbers: Vec<u32>, field: &'static str) -> Checked<Vec<ShardTag>> {
    numbers
        .into_iter()
        .map(|number| tag(number, field))
        .collect()
}

fn tag_numbers(tags: Vec<ShardTag>) -> Vec<u32> {
    tags.into_iter().map(|tag| u32::from(tag.0)).collect()
}

/// Reads an incarnation, which must be there.
pub fn incarnation(number: Option<u32>, field: &'static str) -> Checked<Incarnation> {
    required(number, field).map(Incarnation)
}
