//! What can go wrong while a server is found, created, started or stopped.

use std::io;
use std::path::{Path, PathBuf};

/// A failure of this crate; every message says what to do next where that is known.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No PostgreSQL server of a usable version is installed.
    #[error(
        "no PostgreSQL server {wanted} or newer was found (looked in: {looked}); install one: \
         `apt-get install postgresql` on Debian or Ubuntu, `brew install postgresql@17` on macOS; \
         or set PG_BIN_DIR to the folder that holds `initdb` and `postgres`"
    )]
    NotInstalled {
        /// Oldest major version that will do.
        wanted: u32,
        /// The folders that were tried, with the version found there, if any.
        looked: String,
    },
    /// PostgreSQL refuses to run as root, and there is no account to run it as.
    #[error(
        "PostgreSQL refuses to run as root, and neither user `postgres` nor `nobody` exists; \
         create one: `useradd --system postgres`, or run this as an ordinary user"
    )]
    NoUnprivilegedUser,
    /// The account that runs PostgreSQL cannot reach the folder.
    #[error(
        "user `{user}`, who has to run PostgreSQL because root may not, cannot enter {}; \
         allow it: `chmod o+x {}`, or choose another folder", .blocked_by.display(), .blocked_by.display()
    )]
    NotReachable {
        /// The unprivileged user.
        user: String,
        /// The outermost folder that keeps it out.
        blocked_by: PathBuf,
    },
    /// Another process owns the folder.
    #[error("{} is in use by process {pid}; stop that process first", .folder.display())]
    InUse {
        /// The server's folder.
        folder: PathBuf,
        /// The owner, as it wrote it into the lock file.
        pid: String,
    },
    /// The port this server has had so far is now taken.
    #[error(
        "port {port} of server `{name}` is taken by another program; stop that program \
         (`ss -ltnp sport = :{port}` shows it), or choose another port"
    )]
    PortTaken {
        /// The server.
        name: String,
        /// The TCP port on 127.0.0.1.
        port: u16,
    },
    /// No free port was found.
    #[error("no free TCP port on 127.0.0.1 was found")]
    NoFreePort,
    /// The server ended, or did not become ready in time.
    #[error("PostgreSQL server `{name}` did not start; the end of {} says:\n{log}", .log_path.display())]
    DidNotStart {
        /// The server.
        name: String,
        /// Where the whole log is.
        log_path: PathBuf,
        /// Its last lines.
        log: String,
    },
    /// The processes of a server did not end in time.
    #[error("PostgreSQL server `{name}` did not stop within {seconds} s")]
    DidNotStop {
        /// The server.
        name: String,
        /// How long this waited.
        seconds: u64,
    },
    /// A standby does not follow its primary, or does not take its place.
    #[error("standby `{standby}`: {what} within {seconds} s; the end of {} says:\n{log}", .log_path.display())]
    NotReplicating {
        /// The standby.
        standby: String,
        /// What does not happen.
        what: &'static str,
        /// How long this waited.
        seconds: u64,
        /// Where the whole log is.
        log_path: PathBuf,
        /// Its last lines.
        log: String,
    },
    /// The call needs a running server.
    #[error("PostgreSQL server `{name}` is not running")]
    NotRunning {
        /// The server.
        name: String,
    },
    /// A helper program (`initdb`, `cp`) failed.
    #[error("{program} failed: {output}")]
    Program {
        /// The program's name.
        program: String,
        /// What it printed.
        output: String,
    },
    /// A name that is not `^[a-z][a-z0-9_]{0,62}$`.
    #[error(
        "`{0}` is not a usable name: lower-case letters, digits and _, starting with a letter, 63 at most"
    )]
    BadName(String),
    /// A setting that cannot be written into a PostgreSQL configuration file.
    #[error("`{0}` is not a usable PostgreSQL setting: a name, and a value without line breaks")]
    BadSetting(String),
    /// SQL run for the caller failed.
    #[error("SQL on server `{name}` failed")]
    Sql {
        /// The server.
        name: String,
        /// What the client library says.
        #[source]
        source: Box<tokio_postgres::Error>,
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
