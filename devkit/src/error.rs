//! What can go wrong with a deployment on this machine.

use std::io;
use std::path::{Path, PathBuf};

/// A failure of this crate; every message says what to do next where that is known.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Another process owns the folder.
    #[error(
        "{} is in use by process {pid}; stop that one first, or choose another folder with --data",
        .folder.display()
    )]
    InUse {
        /// The data folder.
        folder: PathBuf,
        /// The owner, as it wrote it into the lock file.
        pid: String,
    },
    /// `gavel certs` failed, or what it made cannot be used.
    #[error("the certificates cannot be used: {message}")]
    Certificates {
        /// Why.
        message: String,
    },
    /// The folder has more shards than were asked for.
    #[error(
        "{} has {found} shards, {asked} were asked for; shards are not removed, because old \
         transactions name them: leave --shards out, or choose another folder with --data",
        .folder.display()
    )]
    FewerShards {
        /// The data folder.
        folder: PathBuf,
        /// How many it has.
        found: usize,
        /// How many were asked for.
        asked: usize,
    },
    /// A number of shards or coordinators that makes no sense.
    #[error("{what}: {found} is out of range, use {min} to {max}")]
    OutOfRange {
        /// Of what.
        what: &'static str,
        /// The number given.
        found: usize,
        /// The least that works.
        min: usize,
        /// The most that works.
        max: usize,
    },
    /// Another program listens where one of ours should.
    #[error(
        "port {port} of {who} is taken by another program; stop that program \
         (`ss -ltnp sport = :{port}` shows it){hint}"
    )]
    PortTaken {
        /// Which of our processes.
        who: String,
        /// The TCP port on 127.0.0.1.
        port: u16,
        /// What else helps.
        hint: &'static str,
    },
    /// A server could not be started or used.
    #[error(transparent)]
    Server(#[from] local_postgres::Error),
    /// A shard could not be migrated.
    #[error("shard {shard} could not be migrated")]
    Migrate {
        /// The shard's name.
        shard: String,
        /// What the migration said.
        #[source]
        source: Box<gavel_migrations::MigrateError>,
    },
    /// The executable could not be run.
    #[error("cannot run {}", .program.display())]
    Spawn {
        /// The program.
        program: PathBuf,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// A process is not there, or did not become ready, in time.
    #[error("{who} {what} within {seconds} s; the end of {} says:\n{log}", .log_path.display())]
    TooSlow {
        /// Which process.
        who: String,
        /// What it did not do.
        what: &'static str,
        /// How long this waited.
        seconds: u64,
        /// Where its whole log is.
        log_path: PathBuf,
        /// The last lines of it.
        log: String,
    },
    /// A process ended instead of becoming ready.
    #[error("{who} ended ({status}); the end of {} says:\n{log}", .log_path.display())]
    Ended {
        /// Which process.
        who: String,
        /// How, as the system tells it.
        status: String,
        /// Where its whole log is.
        log_path: PathBuf,
        /// The last lines of it.
        log: String,
    },
    /// The call needs a running process.
    #[error("{0} is not running")]
    NotRunning(String),
    /// The folder's state file is not one of ours.
    #[error("{} cannot be read; it was written by another gavel, or damaged", .path.display())]
    State {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: serde_json::Error,
    },
    /// The operating system refused.
    #[error("cannot {doing} {}", .path.display())]
    Io {
        /// Verb, such as `read`.
        doing: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
}

impl Error {
    /// For `map_err`: names the file with the system's answer.
    pub(crate) fn io(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::Io {
            doing,
            path,
            source,
        }
    }
}
