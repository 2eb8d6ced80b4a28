//! The data folder: what is where, and who owns it.
//!
//! ```text
//! DATA/dev.lock        held by the owner; its content is that process's id
//! DATA/dev.json        names, tags, ports and passwords, settled once (mode 0600)
//! DATA/gavel.toml      the configuration of all processes, written at every start (mode 0600)
//! DATA/log/NAME.log    what each process logs
//! DATA/run/NAME.pid    process ids, to end what a killed owner left behind
//! DATA/postgres/NAME/  one server per shard
//! ```

use std::fs::{self, File, OpenOptions, Permissions, TryLockError};
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::Error;

/// A data folder, owned by this process for as long as this value lives.
#[derive(Debug)]
pub(crate) struct Folder {
    root: PathBuf,
    _lock: File,
}

impl Folder {
    /// Creates what is missing and becomes the owner.
    pub(crate) fn open(path: &Path) -> Result<Self, Error> {
        fs::create_dir_all(path).map_err(Error::io("create", path))?;
        // PostgreSQL may run as another account, which has to pass through here.
        let mode = Permissions::from_mode(0o755);
        fs::set_permissions(path, mode).map_err(Error::io("change the mode of", path))?;
        let root = path.canonicalize().map_err(Error::io("resolve", path))?;
        let lock = lock(&root)?;
        for name in ["log", "run"] {
            let inner = root.join(name);
            fs::create_dir_all(&inner).map_err(Error::io("create", &inner))?;
        }
        Ok(Self { root, _lock: lock })
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn config(&self) -> PathBuf {
        self.root.join("gavel.toml")
    }

    pub(crate) fn state(&self) -> PathBuf {
        self.root.join("dev.json")
    }

    pub(crate) fn servers(&self) -> PathBuf {
        self.root.join("postgres")
    }

    pub(crate) fn log(&self, name: &str) -> PathBuf {
        self.root.join("log").join(format!("{name}.log"))
    }

    pub(crate) fn pid_files(&self) -> PathBuf {
        self.root.join("run")
    }
}

fn lock(root: &Path) -> Result<File, Error> {
    let path = root.join("dev.lock");
    let open = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path);
    let mut file = open.map_err(Error::io("open", &path))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::Error(error)) => return Err(Error::io("lock", &path)(error)),
        Err(TryLockError::WouldBlock) => {
            let pid = fs::read_to_string(&path).unwrap_or_default();
            return Err(Error::InUse {
                folder: root.to_path_buf(),
                pid: pid.trim().to_owned(),
            });
        }
    }
    file.set_len(0).map_err(Error::io("write", &path))?;
    writeln!(file, "{}", std::process::id()).map_err(Error::io("write", &path))?;
    Ok(file)
}

/// Replaces a file that only its owner can read: complete, or as it was.
pub(crate) fn write_secret(path: &Path, text: &str) -> Result<(), Error> {
    let next = path.with_extension("next");
    let opened = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&next);
    let written = opened.and_then(|mut file| {
        // The mode above counts only if the file is new.
        file.set_permissions(Permissions::from_mode(0o600))?;
        file.write_all(text.as_bytes())?;
        file.sync_all()
    });
    written.map_err(Error::io("write", &next))?;
    fs::rename(&next, path).map_err(Error::io("rename", &next))
}

/// The last lines of a log, for an error message.
pub(crate) fn tail(path: &Path, lines: usize) -> String {
    let bytes = fs::read(path).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_has_one_owner_and_secrets_are_private() {
        let temporary = tempfile::tempdir().expect("a folder");
        let first = Folder::open(temporary.path()).expect("the owner");
        let second = Folder::open(temporary.path()).expect_err("a second owner");
        let message = second.to_string();
        assert!(message.contains("is in use by process"), "{message}");
        assert!(message.contains(&std::process::id().to_string()));
        write_secret(&first.state(), "x").expect("a secret");
        let mode = fs::metadata(first.state())
            .expect("state")
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
        drop(first);
        Folder::open(temporary.path()).expect("free again");
    }
}
