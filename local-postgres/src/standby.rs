//! A standby: a server that is made as a copy of another, follows it, and can take its place.
//!
//! It is a [`Server`] like any other, with a folder, a port and a watchdog of its own. Streaming
//! replication does the work: `pg_basebackup` makes the copy, a replication slot keeps the WAL that
//! the copy has not got yet.
//!
//! # Invariants
//! * Nobody waits for a standby by a clock: what is waited for can be seen on the servers.
//! * A promoted standby waits for no standby of its own until it is told to.
//!
//! # Failure model
//! Nothing here keeps two primaries apart: whoever promotes a standby has ended the other server
//! first, and leads everybody to the new one. What an asynchronous standby had not received is
//! lost by its promotion; that is its purpose here.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use crate::process::wait_until;
use crate::server::Origin;
use crate::{Error, Options, Server};

/// Making a copy of a small server, or following one through a crash, takes seconds at most.
const REPLICATION_LIMIT: Duration = Duration::from_secs(60);
/// A standby looks for its primary again this often; PostgreSQL's default is 5 s, for which every
/// synchronous commit would wait whenever the primary is started again.
const LOOK_FOR_PRIMARY_EVERY: &str = "100ms";

impl Server {
    /// Makes a standby of this server in a temporary folder beside it, which is removed on drop,
    /// and waits until it streams.
    ///
    /// It is asynchronous until [`Server::acknowledge_after`]. `name` must not be that of another
    /// standby of this server. This server keeps WAL for it for as long as it lives.
    ///
    /// # Errors
    /// As [`Server::create_or_open`], or this server cannot be copied.
    pub fn standby(&self, name: &str) -> Result<Self, Error> {
        let parent = self.folder().parent().unwrap_or(Path::new("/"));
        let made = tempfile::Builder::new()
            .prefix(&format!("{name}-"))
            .permissions(Permissions::from_mode(0o755))
            .tempdir_in(parent);
        let temporary = made.map_err(Error::io("create a folder in", parent))?;
        let path = temporary.path().to_path_buf();
        let options = Options {
            name: name.to_owned(),
            port: None,
            ..self.options().clone()
        };
        let options = options.setting("wal_retrieve_retry_interval", LOOK_FOR_PRIMARY_EVERY);
        let standby = Self::open(&path, options, Some(temporary), Origin::CopyOf(self))?;
        // The copy has the settings of its primary; it must not wait for itself once promoted.
        standby.acknowledge_alone()?;
        standby.wait_streaming()?;
        Ok(standby)
    }

    /// From the return of this on, no commit and no PREPARE is acknowledged here before `standby`
    /// has it on its disk.
    ///
    /// # Errors
    /// [`Error::NotReplicating`] if the standby does not follow.
    pub fn acknowledge_after(&self, standby: &Self) -> Result<(), Error> {
        self.set_synchronous(standby.name())?;
        let seen = format!(
            "SELECT 1 FROM pg_stat_replication WHERE application_name = '{}' \
             AND state = 'streaming' AND sync_state IN ('sync', 'quorum')",
            standby.name()
        );
        self.wait_for_row("the primary does not count on it", standby.name(), &seen)
    }

    /// Commits are acknowledged here as soon as they are on the own disk.
    ///
    /// # Errors
    /// [`Error::Sql`].
    pub fn acknowledge_alone(&self) -> Result<(), Error> {
        self.set_synchronous("")
    }

    /// Whether commits here wait for `standby`, and it follows.
    ///
    /// # Errors
    /// [`Error::Sql`].
    pub fn acknowledges_after(&self, standby: &Self) -> Result<bool, Error> {
        let seen = format!(
            "SELECT 1 FROM pg_stat_replication WHERE application_name = '{}' \
             AND state = 'streaming' AND sync_state = 'sync'",
            standby.name()
        );
        Ok(!self.sql("postgres", &seen)?.is_empty())
    }

    /// Waits until this standby receives what its primary writes.
    ///
    /// # Errors
    /// [`Error::NotReplicating`] after 60 s.
    pub fn wait_streaming(&self) -> Result<(), Error> {
        let seen = "SELECT 1 FROM pg_stat_wal_receiver WHERE status = 'streaming'";
        self.wait_for_row("it receives nothing", self.name(), seen)
    }

    /// Waits until this standby shows all that `primary` has on its disk now.
    ///
    /// # Errors
    /// [`Error::NotReplicating`] after 60 s.
    pub fn wait_caught_up(&self, primary: &Self) -> Result<(), Error> {
        let rows = primary.sql("postgres", "SELECT pg_current_wal_flush_lsn()")?;
        let position = rows.first().and_then(|row| row[0].clone());
        let position = position.unwrap_or_default();
        let seen = format!("SELECT 1 WHERE pg_last_wal_replay_lsn() >= '{position}'");
        self.wait_for_row("it does not catch up", self.name(), &seen)
    }

    /// This standby receives nothing any more: what its primary writes from the return of this on
    /// is not here, and will be lost if this standby is promoted.
    ///
    /// # Errors
    /// [`Error::NotReplicating`] if it goes on receiving.
    pub fn stop_receiving(&self) -> Result<(), Error> {
        self.sql("postgres", "ALTER SYSTEM SET primary_conninfo = ''")?;
        self.sql("postgres", "SELECT pg_reload_conf()")?;
        let seen = "SELECT 1 WHERE NOT EXISTS (SELECT FROM pg_stat_wal_receiver)";
        self.wait_for_row("it goes on receiving", self.name(), seen)
    }

    /// Makes this standby a primary, with all that it has received, and waits until it takes
    /// writes. The server that it follows must be gone for good: see the failure model above.
    ///
    /// # Errors
    /// [`Error::NotReplicating`] if it does not become one, [`Error::Sql`] if it is one already.
    pub fn promote(&self) -> Result<(), Error> {
        let seconds = REPLICATION_LIMIT.as_secs();
        let promote = format!("SELECT 1 WHERE pg_promote(true, {seconds})");
        match self.sql("postgres", &promote)?.is_empty() {
            false => Ok(()),
            true => Err(self.not_replicating("it is not promoted", self.name())),
        }
    }

    /// Changes `synchronous_standby_names`, and returns when every backend heeds it.
    ///
    /// Whether anybody waits is told to backends by the checkpointer, in its own time. A session
    /// that begins with the new setting was begun by a postmaster that has already signalled the
    /// checkpointer; and a checkpoint that is asked for after that begins with the new setting.
    fn set_synchronous(&self, names: &str) -> Result<(), Error> {
        let set = format!("ALTER SYSTEM SET synchronous_standby_names = '{names}'");
        self.sql("postgres", &set)?;
        self.sql("postgres", "SELECT pg_reload_conf()")?;
        let seen =
            format!("SELECT 1 WHERE current_setting('synchronous_standby_names') = '{names}'");
        self.wait_for_row("its settings are not read", self.name(), &seen)?;
        self.sql("postgres", "CHECKPOINT")?;
        Ok(())
    }

    /// Waits until `seen` gives a row here. Every look is a session of its own.
    fn wait_for_row(&self, what: &'static str, standby: &str, seen: &str) -> Result<(), Error> {
        let mut last = Ok(Vec::new());
        let found = wait_until(REPLICATION_LIMIT, || {
            last = self.sql("postgres", seen);
            matches!(&last, Ok(rows) if !rows.is_empty())
        });
        last?;
        match found {
            true => Ok(()),
            false => Err(self.not_replicating(what, standby)),
        }
    }

    fn not_replicating(&self, what: &'static str, standby: &str) -> Error {
        Error::NotReplicating {
            standby: standby.to_owned(),
            what,
            seconds: REPLICATION_LIMIT.as_secs(),
            log_path: self.log_path(),
            log: self.log_tail(20),
        }
    }
}
