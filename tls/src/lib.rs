//! Who is at the other end: certificates, the identities in them, and connections that both
//! sides have proved themselves on.
//!
//! Invariants:
//! - Every certificate that is accepted was signed by the deployment's own authority, and an
//!   identity is one of this deployment or none: a staging certificate opens nothing in production,
//!   whoever signed it.
//! - A caller checks the host's name, and of a participant also that it is the participant of the
//!   shard that was meant.
//! - Connections speak TLS 1.3 among Gavel's processes, 1.2 or 1.3 with PostgreSQL.
//! - Files are read again while a process runs. What cannot be used is reported and ignored; the
//!   last good certificate stays.
//!
//! Failure model: a handshake that fails, or takes too long, is a connection that was never made.

mod accept;
#[cfg(feature = "authority")]
pub mod authority;
mod certificate;
mod connect;
mod database;
mod identity;
mod material;
mod tls;
mod trust;

pub use accept::{Acceptor, ClientCertificates, Peer, ServerStream};
pub use connect::Connector;
pub use database::{DatabaseStream, DatabaseTls, DatabaseUrl, DatabaseUrlError};
pub use identity::{Identity, InvalidIdentity, Role};
pub use material::TlsError;
pub use tls::{Tls, TlsFiles};
pub use trust::Trust;
