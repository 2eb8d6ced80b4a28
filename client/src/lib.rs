//! The client of Gavel: transactions over several PostgreSQL databases that happen on every one
//! of them or on none.
//!
//! ```no_run
//! use gavel_client::{Gavel, Outcome, params};
//!
//! # async fn transfer() -> Result<(), Box<dyn std::error::Error>> {
//! let gavel = Gavel::connect(["http://127.0.0.1:7400"]).await?;
//! let outcome = gavel
//!     .transaction()
//!     .on("alpha")
//!     .execute(
//!         "update account set balance = balance - $1 where id = $2 and balance >= $1",
//!         params![100, "alice"],
//!     )
//!     .expect_rows(1)
//!     .on("beta")
//!     .execute(
//!         "update account set balance = balance + $1 where id = $2",
//!         params![100, "bob"],
//!     )
//!     .expect_rows(1)
//!     .submit()
//!     .await?;
//! match outcome {
//!     Outcome::Committed(committed) => println!("done: {}", committed.txid),
//!     Outcome::Aborted { reason, .. } => println!("not done, for good: {reason}"),
//!     Outcome::Refused { why, .. } => println!("not done, try again later: {why}"),
//!     Outcome::InDoubt { txid, .. } => println!("not known yet, ask for {txid}"),
//! }
//! # Ok(()) }
//! ```
//!
//! # What is retried
//!
//! A refusal that can pass (a lock, an overload, a shard that is down) and an answer that was
//! lost are tried again at the next coordinator, with pauses that grow, **always under the same
//! txid**: the txid is the idempotency key, so the work happens once at most. When the time is
//! over, the outcome is `InDoubt` if any answer was lost, and otherwise the last refusal.
//!
//! # Homes
//!
//! The shard that records a transaction's outcome is its home; it is part of the txid. Unless
//! told otherwise, the client takes the shard with the lowest tag among those that are written.
//! Transactions over the same set of shards then have the same home and share one lane, in
//! which they are batched; with homes chosen at random they would run in several lanes that
//! wait for each other's row locks.

mod builder;
#[cfg(feature = "embedded")]
mod embedded;
mod endpoint;
mod error;
mod gavel;
mod interactive;
mod options;
mod outcome;
mod param;
mod retry;
mod row;
mod transport;

pub use builder::TransactionBuilder;
#[cfg(feature = "embedded")]
pub use embedded::{Embedded, EmbeddedError, EmbeddedShard};
pub use error::{BeginError, BuildError, CallError, ConnectError, StatementError, UnknownShard};
pub use gavel::{Gavel, ShardInDoubt};
pub use interactive::Interactive;
pub use options::Options;
pub use outcome::{Committed, NotCommitted, Outcome, Reason, Status};
pub use param::{IntoParam, Param};
pub use row::{FromColumn, Row, RowError, Rows};

pub use gavel_protocol::circuit::State as CircuitState;
pub use gavel_protocol::message::InDoubtBranch;
pub use gavel_protocol::standing::{Second, ShardStanding, Standing};
pub use gavel_protocol::{
    AbortCode, Ack, Gid, Guard, Isolation, Refusal, RefusalCode, ShardMap, ShardName, ShardTag,
    Txid,
};
pub use gavel_tls::Trust;
