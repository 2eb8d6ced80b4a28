//! Finds an installed PostgreSQL server.
//!
//! Distributions put the server's programs in a folder per major version that is on nobody's PATH,
//! so PATH comes last. `PG_BIN_DIR` is an order, not a hint: if it does not hold a usable server,
//! nothing else is tried.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::Error;

/// Oldest PostgreSQL major version that Gavel runs on.
pub const OLDEST_MAJOR_VERSION: u32 = 15;

/// The programs of one installed PostgreSQL server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binaries {
    folder: PathBuf,
    version: String,
    major: u32,
}

impl Binaries {
    /// Finds the newest usable server on this machine.
    ///
    /// # Errors
    /// [`Error::NotInstalled`] if there is none of version [`OLDEST_MAJOR_VERSION`] or newer.
    pub fn find() -> Result<Self, Error> {
        Self::find_in(&candidates())
    }

    fn find_in(folders: &[PathBuf]) -> Result<Self, Error> {
        let mut looked = Vec::new();
        for folder in folders {
            match Self::at(folder) {
                Some(found) if found.major >= OLDEST_MAJOR_VERSION => return Ok(found),
                Some(old) => looked.push(format!("{}: version {}", folder.display(), old.version)),
                None => looked.push(folder.display().to_string()),
            }
        }
        Err(Error::NotInstalled {
            wanted: OLDEST_MAJOR_VERSION,
            looked: looked.join(", "),
        })
    }

    /// The server in `folder`, of whatever version, if `initdb` and `postgres` are both there.
    fn at(folder: &Path) -> Option<Self> {
        if !folder.join("initdb").is_file() {
            return None;
        }
        let output = Command::new(folder.join("postgres"))
            .arg("--version")
            .output()
            .ok()?;
        let version = parse_version(&String::from_utf8_lossy(&output.stdout))?;
        let major = version
            .split(|c: char| !c.is_ascii_digit())
            .next()?
            .parse()
            .ok()?;
        Some(Self {
            folder: folder.to_path_buf(),
            version,
            major,
        })
    }

    /// Full path of one program, such as `initdb`.
    #[must_use]
    pub fn program(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Version as the server prints it, such as `15.14`.
    #[must_use]
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Major version, such as 15.
    #[must_use]
    pub fn major(&self) -> u32 {
        self.major
    }
}

/// `postgres (PostgreSQL) 15.14 (Debian …)` gives `15.14`.
fn parse_version(line: &str) -> Option<String> {
    let version = line.split_whitespace().nth(2)?;
    version
        .starts_with(|c: char| c.is_ascii_digit())
        .then(|| version.to_owned())
}

fn candidates() -> Vec<PathBuf> {
    if let Some(folder) = env::var_os("PG_BIN_DIR") {
        return vec![PathBuf::from(folder)];
    }
    let mut folders = Vec::new();
    for parent in ["/usr/lib/postgresql", "/opt/homebrew/opt", "/usr/local/opt"] {
        folders.extend(version_folders(Path::new(parent)));
    }
    folders.extend(pg_config_folder());
    folders.extend(env::var_os("PATH").iter().flat_map(env::split_paths));
    folders.retain(|folder| folder.is_dir());
    folders
}

/// `PARENT/17/bin` and `PARENT/postgresql@17/bin`, newest first.
fn version_folders(parent: &Path) -> Vec<PathBuf> {
    let Ok(entries) = parent.read_dir() else {
        return Vec::new();
    };
    let mut found: Vec<(u32, PathBuf)> = entries
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            let version = name
                .strip_prefix("postgresql@")
                .unwrap_or(&name)
                .parse()
                .ok()?;
            Some((version, entry.path().join("bin")))
        })
        .collect();
    found.sort_by_key(|(version, _)| std::cmp::Reverse(*version));
    found.into_iter().map(|(_, folder)| folder).collect()
}

fn pg_config_folder() -> Option<PathBuf> {
    let output = Command::new("pg_config").arg("--bindir").output().ok()?;
    let folder = String::from_utf8(output.stdout).ok()?;
    output
        .status
        .success()
        .then(|| PathBuf::from(folder.trim()))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn fake_server(parent: &Path, folder: &str, version: &str) -> PathBuf {
        let bin = parent.join(folder).join("bin");
        fs::create_dir_all(&bin).expect("folder");
        for name in ["initdb", "postgres"] {
            let script = format!("#!/bin/sh\necho 'postgres (PostgreSQL) {version}'\n");
            fs::write(bin.join(name), script).expect("program");
            fs::set_permissions(bin.join(name), fs::Permissions::from_mode(0o755)).expect("mode");
        }
        bin
    }

    #[test]
    fn the_newest_version_is_taken_by_number_not_by_spelling() {
        let parent = tempfile::tempdir().expect("folder");
        for version in ["9", "15", "16"] {
            fake_server(parent.path(), version, &format!("{version}.1"));
        }
        let newest = fake_server(parent.path(), "postgresql@17", "17beta1 (Debian 17)");
        let found = Binaries::find_in(&version_folders(parent.path())).expect("a server");
        assert_eq!(found.folder, newest);
        assert_eq!((found.version(), found.major()), ("17beta1", 17));
    }

    #[test]
    fn an_old_server_alone_is_refused_and_named() {
        let parent = tempfile::tempdir().expect("folder");
        let old = fake_server(parent.path(), "14", "14.9");
        let message = Binaries::find_in(&[old]).expect_err("too old").to_string();
        assert!(
            message.contains("version 14.9") && message.contains("apt-get install"),
            "{message}"
        );
    }

    #[test]
    fn this_machine_has_a_usable_server() {
        assert!(Binaries::find().expect("a server").major() >= OLDEST_MAJOR_VERSION);
    }
}
