//! Breaks a Gavel deployment on purpose, and proves from outside that its promises held.
//!
//! # Purpose
//! Clients ([`workload`]) record what they asked for and what they were told ([`history`]), on a
//! deployment with a proxy on every wire ([`arena`], [`proxy`]) that nemeses break. Checkers compare
//! that with what the servers show by direct SQL ([`bank`]), with what transactions saw of each other
//! ([`lists`]) and with what passed the wires ([`witness`]). The verdicts are on the numbered
//! invariants of `docs/invariants.md` ([`verdict`]).
//!
//! # Invariants
//! * No checker asks Gavel about its own work: what it judges was read from PostgreSQL, seen on a
//!   wire, or seen by a client.
//! * Every checker rejects histories and books that are known to be bad; tests show it.
//! * What was not checked does not hold.

pub mod arena;
pub mod bank;
pub mod error;
pub mod history;
pub mod lists;
pub mod monitor;
pub mod nemesis;
pub mod proxy;
pub mod pulse;
pub mod replicas;
pub mod report;
pub mod run;
pub mod small_disk;
pub mod verdict;
pub mod verify;
pub mod witness;
pub mod workload;
