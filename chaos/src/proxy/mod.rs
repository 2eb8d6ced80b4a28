//! Networks that fail on command, between the processes of a deployment.
//!
//! # Purpose
//! [`PgProxy`] stands between a participant and its server and understands enough of PostgreSQL's
//! protocol to stop a transaction at a named step ([`Step`]); [`Link`] stands between two services
//! and moves bytes. Both can be cut, blocked one way, or left half open through their [`Gate`].
//!
//! # Invariants
//! * There is one primitive for steps: a message is *caught* and held. What is then done to it (cut,
//!   deliver, deliver although the sender is gone, run twice), or to a process meanwhile, is the
//!   nemesis' business. So a fault that is counted has struck at its step, by construction.
//! * Bytes are never changed, and never reordered within a connection.

mod connection;
mod duplicate;
mod frames;
mod gate;
mod link;
mod postgres;
mod session;
mod step;
mod trap;

pub use duplicate::run_again;
pub use gate::{Direction, Gate};
pub use link::Link;
pub use postgres::PgProxy;
pub use session::Call;
pub(crate) use step::Point;
pub use step::{Passage, Step};
pub use trap::{Caught, catch_any};
