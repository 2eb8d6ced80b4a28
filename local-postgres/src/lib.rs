//! Starts and controls real PostgreSQL servers on this machine, for `gavel dev`, tests and benchmarks.
//!
//! # Purpose
//! One [`Server`] is one PostgreSQL data folder and the processes that serve it; a [`Cluster`] is
//! several of them under one folder. A server can have standbys ([`Server::standby`]), which follow
//! it by streaming replication and can be promoted. Servers listen on 127.0.0.1 and a Unix socket only, ask for a
//! password (scram-sha-256), and keep `fsync` on unless told otherwise.
//!
//! # Invariants
//! * At most one owner per folder: an advisory lock, not a process id on disk, decides.
//! * A server never outlives its owner: a watchdog process stops it when the owner vanishes, even
//!   after `kill -9` of the owner.
//! * A server keeps its port, its data and its password across restarts.
//!
//! # Failure model
//! Whatever was left behind (a running server, a stale `postmaster.pid`, orphaned backends) is
//! cleaned up by the next [`Server::create_or_open`]. Calls block the calling thread; inside an
//! async runtime use a blocking task where that matters.
//!
//! ```no_run
//! use local_postgres::{Cluster, Mode};
//!
//! # fn main() -> Result<(), local_postgres::Error> {
//! let cluster = Cluster::temporary(&["north", "south"])?;
//! let north = cluster.server("north");
//! north.create_database("bank")?;
//! println!("{}", north.url("bank"));
//! north.kill9()?;
//! north.start()?;
//! north.stop(Mode::Fast)?;
//! # Ok(())
//! # }
//! ```

mod account;
mod binaries;
mod cluster;
mod control;
mod data;
mod encryption;
mod error;
mod folder;
mod options;
mod port;
mod postmaster;
mod process;
mod server;
mod settings;
mod sql;
mod standby;
mod watchdog;

pub use binaries::{Binaries, OLDEST_MAJOR_VERSION};
pub use cluster::Cluster;
pub use error::Error;
pub use options::{Mode, Options};
pub use port::pick_free as free_port;
pub use server::Server;
