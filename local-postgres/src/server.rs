//! One PostgreSQL server: start, stop, kill, pause.
//!
//! The postmaster is our direct child, never daemonised, so that its end is seen at once and its id
//! is certain. What an earlier owner left running is not our child; it is found by `postmaster.pid`,
//! stopped, and replaced.

use std::fmt;
use std::fs::{self, OpenOptions, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use tempfile::TempDir;

use crate::account::Account;
use crate::binaries::Binaries;
use crate::folder::Folder;
use crate::options::check_name;
use crate::process::{children, command_line, is_alive, is_stopped, signal, wait_until};
use crate::watchdog::Watchdog;
use crate::{Error, Mode, Options, data, port, sql};

/// Name of the superuser that `initdb` makes.
pub(crate) const SUPERUSER: &str = "postgres";
/// Our settings, inside the data folder.
pub(crate) const SETTINGS_FILE: &str = "local-postgres.conf";

/// Crash recovery of a large data folder may take this long.
const START_LIMIT: Duration = Duration::from_secs(60);
/// A fast stop writes a checkpoint.
const STOP_LIMIT: Duration = Duration::from_secs(60);
/// Orphaned backends notice the postmaster's end when they next wait; a busy one is killed then.
const ORPHANS_LEAVE: Duration = Duration::from_secs(2);
/// Orphans of a postmaster that others killed hold the shared memory for about as long.
const LEFTOVERS_LIMIT: Duration = Duration::from_secs(15);
const PORTS_TRIED_MAX: u32 = 10;

/// A PostgreSQL server that this process owns. Dropping it stops the server.
#[derive(Debug)]
pub struct Server {
    options: Options,
    binaries: Binaries,
    account: Account,
    folder: Folder,
    password: Secret,
    running: Mutex<Running>,
    /// Dropped after everything above.
    temporary: Option<TempDir>,
}

/// A password, kept out of `Debug` output.
struct Secret(String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

/// What changes while the server is owned.
#[derive(Debug)]
struct Running {
    port: u16,
    /// No client was ever told the port, so it may still change.
    port_is_new: bool,
    postmaster: Option<Child>,
    paused: Vec<i32>,
    watchdog: Watchdog,
}

/// Why one attempt to start failed, as far as it decides what to do next.
enum Attempt {
    PortTaken,
    OrphansRemain,
    Failed,
}

impl Server {
    /// Creates the server in `folder`, or opens what is there, and starts it.
    ///
    /// A server that an earlier owner left running is stopped first.
    ///
    /// # Errors
    /// No usable PostgreSQL, a folder that is in use or out of reach, a taken port, or a server that
    /// does not start; see [`Error`].
    pub fn create_or_open(folder: &Path, options: Options) -> Result<Self, Error> {
        Self::open(folder, options, None)
    }

    /// As [`Server::create_or_open`] in a new temporary folder that is removed on drop.
    ///
    /// # Errors
    /// As [`Server::create_or_open`].
    pub fn temporary(options: Options) -> Result<Self, Error> {
        let parent = std::env::temp_dir();
        let made = tempfile::Builder::new()
            .prefix("local-postgres-")
            .permissions(Permissions::from_mode(0o755))
            .tempdir();
        let temporary = made.map_err(Error::io("create a folder in", &parent))?;
        let path = temporary.path().to_path_buf();
        Self::open(&path, options, Some(temporary))
    }

    fn open(path: &Path, options: Options, temporary: Option<TempDir>) -> Result<Self, Error> {
        check_name(&options.name)?;
        let (binaries, account) = (Binaries::find()?, Account::current()?);
        let folder = Folder::open(path, &account)?;
        end_leftover(&folder, &options.name)?;
        data::ensure(&folder, &binaries, &account, &options)?;
        let port_is_new = options.port.is_none() && folder.saved_port().is_none();
        let port = folder.settle_port(options.port)?;
        let watchdog = Watchdog::start(&account, &folder.data())?;
        let running = Mutex::new(Running {
            port,
            port_is_new,
            postmaster: None,
            paused: Vec::new(),
            watchdog,
        });
        let password = Secret(folder.password()?);
        let server = Self {
            options,
            binaries,
            account,
            folder,
            password,
            running,
            temporary,
        };
        server.start()?;
        Ok(server)
    }

    /// The name from [`Options`].
    #[must_use]
    pub fn name(&self) -> &str {
        &self.options.name
    }

    /// TCP port on 127.0.0.1.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.lock().port
    }

    /// The server's own folder, with its log and its data.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.root()
    }

    /// The folder of the server's Unix socket.
    #[must_use]
    pub fn socket_folder(&self) -> &Path {
        self.folder.sockets()
    }

    /// The installed PostgreSQL that this server runs.
    #[must_use]
    pub fn binaries(&self) -> &Binaries {
        &self.binaries
    }

    /// Connection URL of the superuser, password included, for `database`.
    #[must_use]
    pub fn url(&self, database: &str) -> String {
        self.url_for(SUPERUSER, &self.password.0, database)
    }

    /// Connection URL of another role.
    #[must_use]
    pub fn url_for(&self, role: &str, password: &str, database: &str) -> String {
        format!(
            "postgres://{role}:{password}@127.0.0.1:{}/{database}",
            self.port()
        )
    }

    /// Starts the server and waits until it accepts connections; does nothing if it runs.
    ///
    /// # Errors
    /// [`Error::PortTaken`] or [`Error::DidNotStart`].
    pub fn start(&self) -> Result<(), Error> {
        let mut running = self.lock();
        let deadline = Instant::now() + LEFTOVERS_LIMIT;
        let mut ports_left = PORTS_TRIED_MAX;
        while !running.is_alive() {
            let log_begin = fs::metadata(self.folder.log()).map_or(0, |meta| meta.len());
            self.spawn(&mut running)?;
            if self.becomes_ready(&mut running) {
                running.port_is_new = false;
                break;
            }
            running.reap(Signal::SIGQUIT);
            match self.why_not(log_begin) {
                Attempt::PortTaken if running.port_is_new && ports_left > 0 => {
                    ports_left -= 1;
                    running.port = port::pick_free()?;
                    self.folder.save_port(running.port)?;
                }
                Attempt::PortTaken => {
                    return Err(Error::PortTaken {
                        name: self.options.name.clone(),
                        port: running.port,
                    });
                }
                Attempt::OrphansRemain if Instant::now() < deadline => {}
                Attempt::OrphansRemain | Attempt::Failed => return Err(self.did_not_start()),
            }
        }
        Ok(())
    }

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
            Err(did_not_stop(&self.options.name, STOP_LIMIT))
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
        Err(did_not_stop(&self.options.name, ORPHANS_LEAVE))
    }

    /// Stops with `mode`, then starts.
    ///
    /// # Errors
    /// As [`Server::stop`] and [`Server::start`].
    pub fn restart(&self, mode: Mode) -> Result<(), Error> {
        self.stop(mode)?;
        self.start()
    }

    /// Whether the postmaster is there (running or paused).
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.lock().is_alive()
    }

    /// Waits until the server accepts connections, for example after a backend crashed.
    ///
    /// # Errors
    /// [`Error::DidNotStart`] if it ends, or is not ready after 60 s.
    pub fn wait_ready(&self) -> Result<(), Error> {
        if self.becomes_ready(&mut self.lock()) {
            Ok(())
        } else {
            Err(self.did_not_start())
        }
    }

    /// Process id of the postmaster, if it is there.
    #[must_use]
    pub fn postmaster_pid(&self) -> Option<u32> {
        self.lock().pid().map(i32::unsigned_abs)
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
            Err(did_not_stop(&self.options.name, ORPHANS_LEAVE))
        }
    }

    /// Undoes [`Server::pause`]; does nothing if the server is not paused.
    pub fn resume(&self) {
        self.lock().resume();
    }

    /// Creates a database, unless it exists.
    ///
    /// # Errors
    /// [`Error::BadName`] unless `^[a-z][a-z0-9_]{0,62}$`, or the server's refusal.
    pub fn create_database(&self, name: &str) -> Result<(), Error> {
        check_name(name)?;
        let known = self.sql(
            "postgres",
            &format!("SELECT 1 FROM pg_database WHERE datname = '{name}'"),
        )?;
        if known.is_empty() {
            self.sql("postgres", &format!("CREATE DATABASE {name}"))?;
        }
        Ok(())
    }

    /// Creates a role that can log in, or gives an existing one a new password; gives the password.
    ///
    /// # Errors
    /// As [`Server::create_database`].
    pub fn create_login_role(&self, name: &str) -> Result<String, Error> {
        check_name(name)?;
        let password = data::random_password();
        let known = self.sql(
            "postgres",
            &format!("SELECT 1 FROM pg_roles WHERE rolname = '{name}'"),
        )?;
        let verb = if known.is_empty() { "CREATE" } else { "ALTER" };
        self.sql(
            "postgres",
            &format!("{verb} ROLE {name} LOGIN PASSWORD '{password}'"),
        )?;
        Ok(password)
    }

    /// Runs statements as the superuser and gives their rows, columns as text, NULL as `None`.
    ///
    /// # Errors
    /// [`Error::Sql`].
    pub fn sql(&self, database: &str, statements: &str) -> Result<Vec<Vec<Option<String>>>, Error> {
        sql::run(&self.url(database), statements).map_err(|source| Error::Sql {
            name: self.options.name.clone(),
            source,
        })
    }

    /// The last `lines` lines of the server's log.
    #[must_use]
    pub fn log_tail(&self, lines: usize) -> String {
        let text = fs::read(self.folder.log()).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let all: Vec<&str> = text.lines().collect();
        all[all.len().saturating_sub(lines)..].join("\n")
    }

    fn spawn(&self, running: &mut Running) -> Result<(), Error> {
        self.write_settings(running.port)?;
        let log_path = self.folder.log();
        let open = OpenOptions::new().create(true).append(true).open(&log_path);
        let log = open.map_err(Error::io("open", &log_path))?;
        let errors = log.try_clone().map_err(Error::io("open", &log_path))?;
        let program = self.binaries.program("postgres");
        let mut command = self.account.command(&program);
        command
            .arg("-D")
            .arg(self.folder.data())
            .stdout(Stdio::from(log))
            .stderr(Stdio::from(errors));
        let child = command.spawn().map_err(Error::io("run", &program))?;
        let pid = child.id().cast_signed();
        running.postmaster = Some(child);
        running.watchdog.watch(pid)
    }

    /// Waits for the state that the postmaster writes into its own file; `false` if it ended.
    fn becomes_ready(&self, running: &mut Running) -> bool {
        let path = self.pid_file();
        let mut ready = false;
        wait_until(START_LIMIT, || {
            let Some(pid) = running.pid() else {
                return true;
            };
            ready = PidFile::read(&path)
                .is_some_and(|file| file.pid == pid && file.accepts_connections);
            ready
        });
        ready
    }

    fn write_settings(&self, port: u16) -> Result<(), Error> {
        let options = &self.options;
        let number = |value: u32| value.to_string();
        let fsync = if options.fsync { "on" } else { "off" };
        let mut settings = vec![
            ("listen_addresses", "127.0.0.1".to_owned()),
            ("port", number(port.into())),
            (
                "unix_socket_directories",
                self.folder.sockets().display().to_string(),
            ),
            ("max_connections", number(options.max_connections)),
            (
                "max_prepared_transactions",
                number(options.max_prepared_transactions),
            ),
            ("fsync", fsync.to_owned()),
            ("full_page_writes", "on".to_owned()),
            ("synchronous_commit", "on".to_owned()),
            ("password_encryption", "scram-sha-256".to_owned()),
            // Several servers share one small machine.
            ("shared_buffers", "64MB".to_owned()),
            ("logging_collector", "off".to_owned()),
            ("log_line_prefix", "%m [%p] %q%u@%d ".to_owned()),
        ];
        settings.extend(
            options
                .settings
                .iter()
                .map(|(name, value)| (name.as_str(), value.clone())),
        );
        let mut text = String::from(
            "# Written at every start; change postgresql.conf or use ALTER SYSTEM instead.\n",
        );
        for (name, value) in settings {
            text.push_str(&setting_line(name, &value)?);
        }
        let path = self.folder.data().join(SETTINGS_FILE);
        fs::write(&path, text).map_err(Error::io("write", &path))?;
        self.account.take_over(&path)
    }

    fn why_not(&self, log_begin: u64) -> Attempt {
        let log = fs::read(self.folder.log()).unwrap_or_default();
        let begin = usize::try_from(log_begin).unwrap_or(0).min(log.len());
        let text = String::from_utf8_lossy(&log[begin..]);
        if text.contains("Address already in use") {
            Attempt::PortTaken
        } else if text.contains("pre-existing shared memory block") {
            Attempt::OrphansRemain
        } else {
            Attempt::Failed
        }
    }

    fn pid_file(&self) -> PathBuf {
        self.folder.data().join("postmaster.pid")
    }

    fn did_not_start(&self) -> Error {
        Error::DidNotStart {
            name: self.options.name.clone(),
            log_path: self.folder.log(),
            log: self.log_tail(20),
        }
    }

    fn not_running(&self) -> Error {
        Error::NotRunning {
            name: self.options.name.clone(),
        }
    }

    /// A panic of another holder leaves nothing half-done that `try_wait` would not show.
    fn lock(&self) -> MutexGuard<'_, Running> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Data that is about to be deleted needs no checkpoint.
        let mode = if self.temporary.is_some() {
            Mode::Immediate
        } else {
            Mode::Fast
        };
        if let Err(error) = self.stop(mode) {
            tracing::warn!(server = self.options.name, %error, "killing a PostgreSQL server that does not stop");
            self.lock().reap(Signal::SIGKILL);
        }
    }
}

impl Running {
    /// Process id of the postmaster, if it has not ended.
    fn pid(&mut self) -> Option<i32> {
        let child = self.postmaster.as_mut()?;
        if let Ok(None) = child.try_wait() {
            return Some(child.id().cast_signed());
        }
        self.postmaster = None;
        None
    }

    fn is_alive(&mut self) -> bool {
        self.pid().is_some()
    }

    /// Sends `told` and waits for the end; `true` if it came.
    fn reap(&mut self, told: Signal) -> bool {
        let Some(pid) = self.pid() else { return true };
        signal(pid, told);
        wait_until(STOP_LIMIT, || !self.is_alive())
    }

    fn resume(&mut self) {
        for pid in self.paused.drain(..) {
            signal(pid, Signal::SIGCONT);
        }
    }
}

/// What a postmaster says about itself in its data folder.
struct PidFile {
    pid: i32,
    accepts_connections: bool,
}

impl PidFile {
    fn read(path: &Path) -> Option<Self> {
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
fn end_leftover(folder: &Folder, name: &str) -> Result<(), Error> {
    let path = folder.data().join("postmaster.pid");
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
    if wait_until(LEFTOVERS_LIMIT, || !is_alive(file.pid)) {
        return Ok(());
    }
    signal(file.pid, Signal::SIGQUIT);
    if wait_until(STOP_LIMIT, || !is_alive(file.pid)) {
        Ok(())
    } else {
        Err(did_not_stop(name, STOP_LIMIT))
    }
}

fn did_not_stop(name: &str, limit: Duration) -> Error {
    Error::DidNotStop {
        name: name.to_owned(),
        seconds: limit.as_secs(),
    }
}

/// One line of a configuration file; quotes double, as PostgreSQL wants them.
fn setting_line(name: &str, value: &str) -> Result<String, Error> {
    let good_name = !name.is_empty()
        && name
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '.');
    if !good_name || value.contains(['\n', '\r', '\0']) {
        return Err(Error::BadSetting(name.to_owned()));
    }
    Ok(format!(
        "{name} = '{}'\n",
        value.replace('\\', "\\\\").replace('\'', "''")
    ))
}
