//! One PostgreSQL server: what it is, and how it is started. Its end is in `control`.
//!
//! The postmaster is our direct child, never daemonised, so that its end is seen at once and its id
//! is certain. What an earlier owner left running is not our child; it is found by `postmaster.pid`,
//! stopped, and replaced.

use std::fmt;
use std::fs::{self, OpenOptions, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use tempfile::TempDir;

use crate::account::Account;
use crate::binaries::Binaries;
use crate::folder::Folder;
use crate::options::check_name;
use crate::postmaster::{PidFile, Running, end_leftover};
use crate::process::wait_until;
use crate::watchdog::Watchdog;
use crate::{Error, Options, data, port, settings};

/// Name of the superuser that `initdb` makes.
pub(crate) const SUPERUSER: &str = "postgres";
/// Crash recovery of a large data folder may take this long.
const START_LIMIT: Duration = Duration::from_secs(60);
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

/// Where the data of a new folder comes from.
pub(crate) enum Origin<'a> {
    /// It begins empty.
    Own,
    /// It is a copy of this server, and follows it.
    CopyOf(&'a Server),
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
        Self::open(folder, options, None, Origin::Own)
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
        Self::open(&path, options, Some(temporary), Origin::Own)
    }

    pub(crate) fn open(
        path: &Path,
        options: Options,
        temporary: Option<TempDir>,
        origin: Origin<'_>,
    ) -> Result<Self, Error> {
        check_name(&options.name)?;
        let (binaries, account) = (Binaries::find()?, Account::current()?);
        let folder = Folder::open(path, &account)?;
        end_leftover(&folder, &options.name)?;
        match origin {
            Origin::Own => data::ensure(&folder, &binaries, &account, &options)?,
            Origin::CopyOf(primary) => {
                let from = (primary, options.name.as_str());
                data::copy_server(&folder, &binaries, &account, from)?;
            }
        }
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

    /// How this server was set up.
    #[must_use]
    pub fn options(&self) -> &Options {
        &self.options
    }

    pub(crate) fn password(&self) -> &str {
        &self.password.0
    }

    pub(crate) fn account(&self) -> &Account {
        &self.account
    }

    pub(crate) fn log_path(&self) -> PathBuf {
        self.folder.log()
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

    /// The last `lines` lines of the server's log.
    #[must_use]
    pub fn log_tail(&self, lines: usize) -> String {
        let text = fs::read(self.folder.log()).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let all: Vec<&str> = text.lines().collect();
        all[all.len().saturating_sub(lines)..].join("\n")
    }

    fn spawn(&self, running: &mut Running) -> Result<(), Error> {
        let settings = settings::text(&self.options, running.port, self.folder.sockets())?;
        let settings_path = self.folder.settings();
        fs::write(&settings_path, settings).map_err(Error::io("write", &settings_path))?;
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
        let path = self.folder.pid_file();
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

    /// Data that is about to be deleted needs no checkpoint.
    pub(crate) fn is_temporary(&self) -> bool {
        self.temporary.is_some()
    }

    fn did_not_start(&self) -> Error {
        Error::DidNotStart {
            name: self.options.name.clone(),
            log_path: self.folder.log(),
            log: self.log_tail(20),
        }
    }

    /// A panic of another holder leaves nothing half-done that `try_wait` would not show.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Running> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
