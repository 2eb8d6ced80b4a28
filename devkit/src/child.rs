//! One process: a participant or a coordinator.
//!
//! It runs in a process group of its own, so that Ctrl-C in a terminal reaches only the owner,
//! which stops everything in order. Its standard input is a pipe that the owner holds.

use std::fs::{self, OpenOptions};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use std::os::unix::process::CommandExt as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rustls::ClientConfig;

use crate::Error;
use crate::folder::tail;
use crate::probe::{Readiness, is_free, is_ready, wait_until};

/// An earlier process may need a moment to leave its port.
const PORT_FREE_LIMIT: Duration = Duration::from_secs(5);
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// A process that has run this long was well: its next end starts the pauses anew.
const WELL_AFTER: Duration = Duration::from_secs(30);
const LOG_LINES: usize = 20;

/// Which process, counted from 0 in the order of the shards or coordinators.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The participant of a shard.
    Participant(usize),
    /// A coordinator.
    Coordinator(usize),
}

/// How to run one process.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) name: String,
    pub(crate) program: PathBuf,
    pub(crate) args: Vec<String>,
    pub(crate) env: Vec<(String, String)>,
    pub(crate) tls: Option<Arc<ClientConfig>>,
    pub(crate) port: u16,
    pub(crate) port_hint: &'static str,
    pub(crate) readiness: Readiness,
    pub(crate) log: PathBuf,
    pub(crate) pid_file: PathBuf,
}

/// A process that may or may not be there.
#[derive(Debug)]
pub(crate) struct Slot {
    plan: Plan,
    life: Mutex<Life>,
}

#[derive(Debug)]
struct Life {
    child: Option<Child>,
    /// Whether it should be there: its end is then a death, not our doing.
    wanted: bool,
    last_exit: Option<ExitStatus>,
    started: Instant,
    /// When to start it again, once it has died.
    again_at: Instant,
    pause: Duration,
}

impl Slot {
    pub(crate) fn new(plan: Plan) -> Self {
        let now = Instant::now();
        let life = Mutex::new(Life {
            child: None,
            wanted: false,
            last_exit: None,
            started: now,
            again_at: now,
            pause: FIRST_PAUSE,
        });
        Self { plan, life }
    }

    pub(crate) fn name(&self) -> &str {
        &self.plan.name
    }

    pub(crate) fn port(&self) -> u16 {
        self.plan.port
    }

    pub(crate) fn pid(&self) -> Option<u32> {
        let mut life = self.lock();
        life.look();
        life.child.as_ref().map(Child::id)
    }

    /// Starts the process, unless it runs. `env` is for this one life only: a crash point must
    /// not strike again after the restart.
    pub(crate) fn start(&self, env: &[(String, String)]) -> Result<(), Error> {
        let mut life = self.lock();
        life.look();
        if life.child.is_some() {
            return Ok(());
        }
        self.spawn(&mut life, env)
    }

    fn spawn(&self, life: &mut Life, env: &[(String, String)]) -> Result<(), Error> {
        let plan = &self.plan;
        if !wait_until(PORT_FREE_LIMIT, || is_free(plan.port)) {
            return Err(Error::PortTaken {
                who: plan.name.clone(),
                port: plan.port,
                hint: plan.port_hint,
            });
        }
        let child = plan.command(env)?.spawn().map_err(|source| Error::Spawn {
            program: plan.program.clone(),
            source,
        })?;
        let written = fs::write(&plan.pid_file, format!("{}\n", child.id()));
        life.child = Some(child);
        life.wanted = true;
        life.started = Instant::now();
        written.map_err(Error::io("write", &plan.pid_file))
    }

    /// Kills the process as `kill -9` does and waits for its end. It stays down.
    pub(crate) fn kill9(&self) -> Result<(), Error> {
        let mut life = self.lock();
        life.look();
        life.wanted = false;
        if life.child.is_none() {
            return Err(Error::NotRunning(self.plan.name.clone()));
        }
        life.signal(Signal::SIGKILL);
        life.reap();
        Ok(())
    }

    /// Asks the process to stop; kills it if it has not within `limit`.
    pub(crate) fn stop(&self, limit: Duration) {
        {
            let mut life = self.lock();
            life.wanted = false;
            // A stopped process takes no SIGTERM.
            life.signal(Signal::SIGCONT);
            life.signal(Signal::SIGTERM);
        }
        if !wait_until(limit, || self.pid().is_none()) {
            tracing::warn!(process = self.name(), "did not stop in time and is killed");
            let _gone_meanwhile = self.kill9();
        }
        let _never_written = fs::remove_file(&self.plan.pid_file);
    }

    pub(crate) fn signal(&self, signal: Signal) -> Result<(), Error> {
        let mut life = self.lock();
        life.look();
        if life.child.is_none() {
            return Err(Error::NotRunning(self.plan.name.clone()));
        }
        life.signal(signal);
        Ok(())
    }

    /// Waits until the process has ended by itself, as at a crash point.
    pub(crate) fn wait_exit(&self, limit: Duration) -> Result<ExitStatus, Error> {
        let ended = wait_until(limit, || self.pid().is_none());
        let exit = self.lock().last_exit;
        match exit {
            Some(status) if ended => Ok(status),
            _ => Err(self.too_slow("did not end", limit)),
        }
    }

    /// Waits until the process does its work, or has ended.
    pub(crate) fn wait_ready(&self, limit: Duration) -> Result<(), Error> {
        let (mut ready, mut ended) = (false, false);
        wait_until(limit, || {
            ready = is_ready(self.plan.readiness, self.plan.tls.as_ref());
            ended = !ready && self.pid().is_none();
            ready || ended
        });
        match (ready, ended) {
            (true, _) => Ok(()),
            (false, true) => Err(self.ended()),
            (false, false) => Err(self.too_slow("did not become ready", limit)),
        }
    }

    fn ended(&self) -> Error {
        let status = self.lock().last_exit;
        Error::Ended {
            who: self.plan.name.clone(),
            status: status.map_or_else(|| "it never ran".to_owned(), |status| status.to_string()),
            log_path: self.plan.log.clone(),
            log: tail(&self.plan.log, LOG_LINES),
        }
    }

    /// Starts the process again if it has died and its pause is over.
    pub(crate) fn revive(&self) {
        let mut life = self.lock();
        if life.look() && life.wanted {
            life.plan_revival();
            let status = life.last_exit.map(|status| status.to_string());
            tracing::warn!(
                process = self.name(),
                status = status.as_deref().unwrap_or("unknown"),
                again_in_ms = u64::try_from(life.pause.as_millis()).unwrap_or(u64::MAX),
                log = %self.plan.log.display(),
                "died and will be started again"
            );
        }
        let is_due = life.wanted && life.child.is_none() && Instant::now() >= life.again_at;
        if is_due && let Err(error) = self.spawn(&mut life, &[]) {
            life.plan_revival();
            tracing::error!(process = self.name(), %error, "could not be started again");
        }
    }

    fn too_slow(&self, what: &'static str, limit: Duration) -> Error {
        Error::TooSlow {
            who: self.plan.name.clone(),
            what,
            seconds: limit.as_secs(),
            log_path: self.plan.log.clone(),
            log: tail(&self.plan.log, LOG_LINES),
        }
    }

    /// A panic of another holder leaves nothing half-done that `try_wait` would not show.
    fn lock(&self) -> MutexGuard<'_, Life> {
        self.life.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Plan {
    fn command(&self, env: &[(String, String)]) -> Result<Command, Error> {
        let open = OpenOptions::new().create(true).append(true).open(&self.log);
        let log = open.map_err(Error::io("open", &self.log))?;
        let errors = log.try_clone().map_err(Error::io("open", &self.log))?;
        let mut command = Command::new(&self.program);
        // Overrides of the owner's environment are not meant for the generated configuration.
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("GAVEL__") {
                command.env_remove(name);
            }
        }
        command
            .args(&self.args)
            .envs(self.env.iter().map(|(name, value)| (name, value)))
            .envs(env.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::piped())
            .stdout(Stdio::from(log))
            .stderr(Stdio::from(errors))
            .process_group(0);
        Ok(command)
    }
}

impl Life {
    /// Notices an end; `true` if it was noticed now.
    fn look(&mut self) -> bool {
        let Some(child) = &mut self.child else {
            return false;
        };
        match child.try_wait() {
            Ok(Some(status)) => {
                self.last_exit = Some(status);
                self.child = None;
                true
            }
            Ok(None) | Err(_) => false,
        }
    }

    fn reap(&mut self) {
        if let Some(mut child) = self.child.take() {
            self.last_exit = child.wait().ok();
        }
    }

    /// The child has not been waited for, so its id is still its own.
    fn signal(&self, signal: Signal) {
        if let Some(child) = &self.child {
            let _gone_already = kill(Pid::from_raw(child.id().cast_signed()), signal);
        }
    }

    fn plan_revival(&mut self) {
        let was_well = self.started.elapsed() >= WELL_AFTER;
        self.pause = if was_well {
            FIRST_PAUSE
        } else {
            (self.pause * 2).min(LONGEST_PAUSE)
        };
        self.again_at = Instant::now() + self.pause;
    }
}
