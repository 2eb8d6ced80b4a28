//! Breaks a Gavel deployment on purpose, and proves from outside that its promises held.
//!
//! # Purpose
//! Clients record what they asked for and what they were told ([`history`]); checkers compare that
//! with what the servers show by direct SQL ([`bank`]) and with what transactions saw of each other
//! ([`lists`]). The verdicts are on the numbered invariants of `docs/invariants.md` ([`verdict`]).
//!
//! # Invariants
//! * No checker asks Gavel about its own work: what it judges was read from PostgreSQL, or seen by
//!   a client.
//! * Every checker rejects histories and books that are known to be bad; tests show it.
//! * What was not checked does not hold.

pub mod bank;
pub mod history;
pub mod lists;
pub mod verdict;
