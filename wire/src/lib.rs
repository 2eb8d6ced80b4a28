//! How Gavel's services talk over the network: the protobuf definitions, compiled, and the
//! conversions between them and the protocol's own types.
//!
//! | module | what it knows |
//! |---|---|
//! | [`api`] | `gavel.v1`: what clients ask coordinators |
//! | [`participant`] | `gavel.participant.v1`: what coordinators and participants say to each other |
//! | [`convert`] | domain types to messages, always; messages to domain types, checked |
//! | [`addressed`] | the shard that a message is for, or from |
//! | [`sizes`] | how large a message may be |
//!
//! Invariant: whatever arrives is checked completely before it becomes a domain value, and bytes
//! from a peer never panic. What is missing or unknown is an error that names the field.

pub mod addressed;
pub mod convert;
pub mod sizes;

pub use convert::MalformedMessage;
pub use proto::gavel::participant::v1 as participant;
pub use proto::gavel::v1 as api;

/// All definitions as an encoded `google.protobuf.FileDescriptorSet`, for gRPC reflection and
/// generic clients.
pub const FILE_DESCRIPTOR_SET: &[u8] =
    include_bytes!(concat!(env!("OUT_DIR"), "/gavel_descriptors.bin"));

/// The generated code, in modules that mirror the protobuf packages.
#[allow(missing_docs, unreachable_pub, clippy::all)]
mod proto {
    pub mod gavel {
        pub mod v1 {
            tonic::include_proto!("gavel.v1");
        }
        pub mod participant {
            pub mod v1 {
                tonic::include_proto!("gavel.participant.v1");
            }
        }
    }
}
