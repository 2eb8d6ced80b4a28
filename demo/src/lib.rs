//! The demo: a bank whose accounts live in several PostgreSQL databases, with a JSON API, and a
//! scenario that kills things while money is moving ([`run_demo`]).
//!
//! What it shows of Gavel: a service reads its databases directly, with whatever library it
//! likes; what must happen on several of them or on none, it submits through the client library
//! (see `transfers/work.rs`, which is the whole integration).

mod accounts;
mod audit;
mod bank;
mod body;
mod error;
mod outcome;
mod placement;
mod routes;
mod scenario;
mod transfers;

pub use accounts::Account;
pub use bank::{Bank, BankOptions, OpenError};
pub use error::{ApiError, ErrorCode};
pub use placement::Placement;
pub use routes::{router, serve};
pub use scenario::{DemoOptions, DemoReport, run_demo};
