//! Failover of a shard to a standby, with real servers that die for good.
//!
//! To an asynchronous one, which loses what was acknowledged: no two-phase commit survives that, so
//! the auditor has to find exactly what was broken (R16), and what an operator is told to do (R13)
//! has to work. To a synchronous one, which loses nothing, and then nothing may be broken.
//!
//! What was lost is known from the servers themselves: the books of the old primary, read before it
//! is killed, beside those of the new one.

mod home;
mod participant;
mod stage;
mod synchronous;
