//! The postmaster process: ours, and one that an earlier owner left behind.

use std::fs;
use std::path::Path;
use std::process::Child;
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::Error;
use crate::folder::Folder;
use crate::process::{command_line, is_alive, signal, wait_until};
use crate::watchdog::Watchdog;

/// A fast stop writes a checkpoint.
pub(crate) const STOP_LIMIT: Duration = Duration::from_secs(60);
/// How long a left-behind server may take for a clean stop before it is told more firmly.
const LEFTOVER_FAST_STOP: Duration = Duration::from_secs(15);

/// What changes while the server is owned.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) port: u16,
    /// No client was ever told the port, so it may still change.
    pub(crate) port_is_new: bool,
    pub(crate) postmaster: Option<Child>,
    pub(crate) paused: Vec<i32>,
    pub(crate) watchdog: Watchdog,
}

impl Running {
    /// Process id of the postmaster, if it has not ended.
    pub(crate) fn pid(&mut self) -> Option<i32> {
        let child = self.postmaster.as_mut()?;
        if let Ok(None) = child.try_wait() {
            return Some(child.id().cast_signed());
        }
        self.postmaster = None;
        None
    }

    pub(crate) fn is_alive(&mut self) -> bool {
        self.pid().is_some()
    }

    /// Sends `told` and waits for the end; `true` if it came.
    pub(crate) fn reap(&mut self, told: Signal) -> bool {
        let Some(pid) = self.pid() else { return true };
        signal(pid, told);
        wait_until(STOP_LIMIT, || !self.is_alive())
    }

    pub(crate) fn resume(&mut self) {
        for pid in self.paused.drain(..) {
            signal(pid, Signal::SIGCONT);
        }
    }
}

/// What a postmaster says about itself in its data folder.
pub(crate) struct PidFile {
    pub(crate) pid: i32,
    pub(crate) accepts_connections: bool,
}

impl PidFile {
    pub(crate) fn read(path: &Path) -> Option<Self> {
        let text = fs::read_to_string(path).ok()?;
        let mut lines = text.lines();
        let pid = lines.next()?.trim().parse().ok()?;
        // Line 8 is the state; a standby answers connections too.
        let accepts_connections = lines
            .nth(6)
            .is_some_and(|state| matches!(state.trim(), "ready" | "standby"));
        Some(Self {
            pid,
            accepts_connections,
        })
    }
}

/// Stops a server whose owner died, and removes a `postmaster.pid` that names a stranger.
pub(crate) fn end_leftover(folder: &Folder, name: &str) -> Result<(), Error> {
    let path = folder.pid_file();
    let Some(file) = PidFile::read(&path) else {
        return Ok(());
    };
    if !is_alive(file.pid) {
        // PostgreSQL itself handles a file that names nobody.
        return Ok(());
    }
    let data = folder.data().display().to_string();
    if !command_line(file.pid).is_some_and(|line| line.contains("postgres") && line.contains(&data))
    {
        // The id was used again by somebody else: PostgreSQL would refuse to start, or worse, we
        // would stop that process. Holding the owner's lock, we know that no server runs here.
        return fs::remove_file(&path).map_err(Error::io("remove", &path));
    }
    tracing::info!(
        server = name,
        pid = file.pid,
        "stopping a PostgreSQL server that its owner left behind"
    );
    signal(file.pid, Signal::SIGCONT);
    signal(file.pid, Signal::SIGINT);
    if wait_until(LEFTOVER_FAST_STOP, || !is_alive(file.pid)) {
        return Ok(());
    }
    signal(file.pid, Signal::SIGQUIT);
    if wait_until(STOP_LIMIT, || !is_alive(file.pid)) {
        Ok(())
    } else {
        Err(did_not_stop(name, STOP_LIMIT))
    }
}

pub(crate) fn did_not_stop(name: &str, limit: Duration) -> Error {
    Error::DidNotStop {
        name: name.to_owned(),
        seconds: limit.as_secs(),
    }
}
