//! Ends, kills and freezes a server.
//!
//! The postmaster is stopped before its backends are counted: after that none can appear unseen.

use std::time::Duration;

use nix::sys::signal::Signal;

use crate::postmaster::{STOP_LIMIT, did_not_stop};
use crate::process::{children, is_alive, is_stopped, signal, wait_until};
use crate::{Error, Mode, Server};

/// Orphaned backends notice the postmaster's end when they next wait; a busy one is killed then.
const ORPHANS_LEAVE: Duration = Duration::from_secs(2);

impl Server {
    /// Stops the server and waits until it is gone; does nothing if it does not run.
    ///
    /// # Errors
    /// [`Error::DidNotStop`] after 60 s.
    pub fn stop(&self, mode: Mode) -> Result<(), Error> {
        let mut running = self.lock();
        running.resume();
        let told = match mode {
            Mode::Fast => Signal::SIGINT,
            Mode::Immediate => Signal::SIGQUIT,
        };
        if running.reap(told) {
            Ok(())
        } else {
            Err(did_not_stop(self.name(), STOP_LIMIT))
        }
    }

    /// Kills the postmaster as `kill -9` does, and waits until its backends are gone too.
    ///
    /// After it the server can be started at once. Backends are left to notice by themselves; one
    /// that is too busy to notice within 2 s is killed as well.
    ///
    /// # Errors
    /// [`Error::NotRunning`], or [`Error::DidNotStop`] if a backend cannot even be killed.
    pub fn kill9(&self) -> Result<(), Error> {
        let mut running = self.lock();
        let pid = running.pid().ok_or_else(|| self.not_running())?;
        // Stopped, it cannot start a backend between our look and its end.
        signal(pid, Signal::SIGSTOP);
        wait_until(ORPHANS_LEAVE, || is_stopped(pid) || !is_alive(pid));
        let backends = children(pid);
        let reaped = running.reap(Signal::SIGKILL);
        running.resume();
        let all_gone = || !backends.iter().any(|backend| is_alive(*backend));
        if !wait_until(ORPHANS_LEAVE, all_gone) {
            backends
                .iter()
                .for_each(|backend| signal(*backend, Signal::SIGKILL));
        }
        if reaped && wait_until(ORPHANS_LEAVE, all_gone) {
            return Ok(());
        }
        Err(did_not_stop(self.name(), ORPHANS_LEAVE))
    }

    /// Stops with `mode`, then starts.
    ///
    /// # Errors
    /// As [`Server::stop`] and [`Server::start`].
    pub fn restart(&self, mode: Mode) -> Result<(), Error> {
        self.stop(mode)?;
        self.start()
    }

    /// Freezes the postmaster and all its backends with SIGSTOP, and waits until they are frozen.
    ///
    /// # Errors
    /// [`Error::NotRunning`], or [`Error::DidNotStop`] if a process cannot be frozen.
    pub fn pause(&self) -> Result<(), Error> {
        let mut running = self.lock();
        let pid = running.pid().ok_or_else(|| self.not_running())?;
        // The postmaster first: after that no backend can appear unseen.
        signal(pid, Signal::SIGSTOP);
        wait_until(ORPHANS_LEAVE, || is_stopped(pid) || !is_alive(pid));
        let mut frozen = children(pid);
        frozen
            .iter()
            .for_each(|backend| signal(*backend, Signal::SIGSTOP));
        frozen.push(pid);
        running.paused = frozen;
        let all_frozen = || {
            running
                .paused
                .iter()
                .all(|pid| is_stopped(*pid) || !is_alive(*pid))
        };
        if wait_until(ORPHANS_LEAVE, all_frozen) {
            Ok(())
        } else {
            Err(did_not_stop(self.name(), ORPHANS_LEAVE))
        }
    }

    /// Undoes [`Server::pause`]; does nothing if the server is not paused.
    pub fn resume(&self) {
        self.lock().resume();
    }

    fn not_running(&self) -> Error {
        Error::NotRunning {
            name: self.name().to_owned(),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let mode = if self.is_temporary() {
            Mode::Immediate
        } else {
            Mode::Fast
        };
        if let Err(error) = self.stop(mode) {
            tracing::warn!(server = self.name(), %error, "killing a PostgreSQL server that does not stop");
            self.lock().reap(Signal::SIGKILL);
        }
    }
}
