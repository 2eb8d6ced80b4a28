//! The wire to PostgreSQL for branch execution.
//!
//! A general driver hides three things that the protocol lives on: where a Sync goes (R3), the
//! command tags, and warnings (facts 1 and 2). This module keeps them in sight, on top of the
//! codec crate `postgres-protocol`:
//!
//! * a [`Pipeline`] is written by the caller, with its Syncs where the caller wants them;
//! * `Connection::exchange` sends it and returns one [`Segment`] per Sync, with tags, rows,
//!   warnings, the error if there was one, and the transaction status;
//! * a connection that was lost, or whose exchange was abandoned half way, is never used again.

mod connect;
mod connection;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
mod inbound;
mod pipeline;
pub mod pool;
#[cfg(test)]
mod properties;
mod reply;
pub mod text;

pub use connect::{ConnectError, Target};
pub use connection::{Connection, Lost};
pub use pipeline::Pipeline;
pub use reply::{Reply, Segment, ServerError, TransactionStatus};
