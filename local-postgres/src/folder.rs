//! The folder of one server: what is where, and who owns it.
//!
//! ```text
//! FOLDER/owner.lock           held by the owning process; its content is that process's id
//! FOLDER/superuser.password   mode 0600
//! FOLDER/port                 the port, so that a restart keeps it
//! FOLDER/local-postgres.conf  our settings
//! FOLDER/server.log
//! FOLDER/data/                PostgreSQL's own, appears complete or not at all
//! FOLDER/sockets/             Unix socket, unless the path would be too long
//! ```

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tempfile::TempDir;

use crate::account::Account;
use crate::process::wait_until;
use crate::{Error, port};

/// Unix socket paths end at 107 bytes; PostgreSQL appends this (the longest file it makes there).
const SOCKET_PATH_MAX: usize = 107;
const SOCKET_FILE: &str = "/.s.PGSQL.65535.lock";

/// A thread that is just starting a child holds a copy of our lock until the child's exec.
const LOCK_WAIT: Duration = Duration::from_millis(500);

/// A server's folder, owned by this process for as long as this value lives.
#[derive(Debug)]
pub(crate) struct Folder {
    root: PathBuf,
    sockets: PathBuf,
    _sockets_elsewhere: Option<TempDir>,
    _lock: File,
}

impl Folder {
    /// Creates what is missing and becomes the owner.
    pub(crate) fn open(path: &Path, account: &Account) -> Result<Self, Error> {
        create_reachable(path)?;
        let root = path.canonicalize().map_err(Error::io("resolve", path))?;
        account.check_reach(&root)?;
        let lock = lock_for_owner(&root)?;
        let (sockets, elsewhere) = socket_folder(&root)?;
        account.take_over(&sockets)?;
        Ok(Self {
            root,
            sockets,
            _sockets_elsewhere: elsewhere,
            _lock: lock,
        })
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.root.join("data")
    }

    /// Where the data folder grows until it is complete.
    pub(crate) fn unfinished_data(&self) -> PathBuf {
        self.root.join("data.unfinished")
    }

    /// The running postmaster's own file.
    pub(crate) fn pid_file(&self) -> PathBuf {
        self.data().join("postmaster.pid")
    }

    /// Included by the data folder's `postgresql.conf`.
    pub(crate) fn settings(&self) -> PathBuf {
        self.root.join("local-postgres.conf")
    }

    pub(crate) fn log(&self) -> PathBuf {
        self.root.join("server.log")
    }

    pub(crate) fn password_file(&self) -> PathBuf {
        self.root.join("superuser.password")
    }

    pub(crate) fn sockets(&self) -> &Path {
        &self.sockets
    }

    pub(crate) fn password(&self) -> Result<String, Error> {
        let path = self.password_file();
        let text = fs::read_to_string(&path).map_err(Error::io("read", &path))?;
        Ok(text.trim().to_owned())
    }

    /// The port of earlier runs.
    pub(crate) fn saved_port(&self) -> Option<u16> {
        fs::read_to_string(self.root.join("port"))
            .ok()?
            .trim()
            .parse()
            .ok()
    }

    pub(crate) fn save_port(&self, port: u16) -> Result<(), Error> {
        let path = self.root.join("port");
        fs::write(&path, format!("{port}\n")).map_err(Error::io("write", &path))
    }

    /// The asked port, else the saved one, else a free one that is then saved.
    pub(crate) fn settle_port(&self, asked: Option<u16>) -> Result<u16, Error> {
        let port = match asked.or_else(|| self.saved_port()) {
            Some(port) => port,
            None => port::pick_free()?,
        };
        self.save_port(port)?;
        Ok(port)
    }
}

/// Writes a file that only its owner can read.
pub(crate) fn write_secret(path: &Path, secret: &str) -> Result<(), Error> {
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path);
    let written = file.and_then(|mut file| {
        // The mode above counts only if the file is new.
        file.set_permissions(Permissions::from_mode(0o600))?;
        file.write_all(format!("{secret}\n").as_bytes())?;
        file.sync_all()
    });
    written.map_err(Error::io("write", path))
}

/// Makes a folder that PostgreSQL's account can enter whatever our umask is.
fn create_reachable(path: &Path) -> Result<(), Error> {
    if path.is_dir() {
        return Ok(());
    }
    if let Some(parent) = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty())
    {
        create_reachable(parent)?;
    }
    match DirBuilder::new().mode(0o755).create(path) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => Err(error),
        _ => fs::set_permissions(path, Permissions::from_mode(0o755)),
    }
    .map_err(Error::io("create", path))
}

fn lock_for_owner(root: &Path) -> Result<File, Error> {
    let path = root.join("owner.lock");
    let open = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path);
    let mut file = open.map_err(Error::io("open", &path))?;
    let mut refused = None;
    let locked = wait_until(LOCK_WAIT, || match file.try_lock() {
        Ok(()) => true,
        Err(TryLockError::WouldBlock) => false,
        Err(TryLockError::Error(error)) => {
            refused = Some(error);
            true
        }
    });
    if let Some(error) = refused {
        return Err(Error::io("lock", &path)(error));
    }
    if !locked {
        let pid = fs::read_to_string(&path).unwrap_or_default();
        return Err(Error::InUse {
            folder: root.to_path_buf(),
            pid: pid.trim().to_owned(),
        });
    }
    file.set_len(0).map_err(Error::io("write", &path))?;
    writeln!(file, "{}", std::process::id()).map_err(Error::io("write", &path))?;
    Ok(file)
}

fn socket_folder(root: &Path) -> Result<(PathBuf, Option<TempDir>), Error> {
    let inside = root.join("sockets");
    if inside.as_os_str().len() + SOCKET_FILE.len() <= SOCKET_PATH_MAX {
        create_reachable(&inside)?;
        return Ok((inside, None));
    }
    let parent = std::env::temp_dir();
    let made = tempfile::Builder::new()
        .prefix("pgs-")
        .permissions(Permissions::from_mode(0o755))
        .tempdir_in(&parent);
    let elsewhere = made.map_err(Error::io("create a folder in", &parent))?;
    Ok((elsewhere.path().to_path_buf(), Some(elsewhere)))
}
