//! The account that PostgreSQL runs as.
//!
//! PostgreSQL refuses to run as root. When we are root its programs run as `postgres` (or `nobody`),
//! which then owns the data folder; otherwise they run as ourselves.

use std::env;
use std::fs;
use std::os::unix::fs::{MetadataExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::unistd::{User, geteuid};

use crate::Error;

/// Whom PostgreSQL's programs run as.
#[derive(Clone, Debug)]
pub(crate) struct Account {
    name: String,
    /// User and group to change to; `None` when we are not root.
    switch_to: Option<(u32, u32)>,
}

impl Account {
    pub(crate) fn current() -> Result<Self, Error> {
        if !geteuid().is_root() {
            return Ok(Self {
                name: format!("uid{}", geteuid()),
                switch_to: None,
            });
        }
        let known = ["postgres", "_postgres", "nobody"]
            .iter()
            .find_map(|name| User::from_name(name).ok().flatten());
        let user = known.ok_or(Error::NoUnprivilegedUser)?;
        Ok(Self {
            name: user.name,
            switch_to: Some((user.uid.as_raw(), user.gid.as_raw())),
        })
    }

    /// Name for messages and cache keys.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// A command that runs as this account, in a process group of its own.
    ///
    /// Its own group, because Ctrl-C in a terminal signals the whole foreground group, and a server
    /// must stop after the programs that use it, not together with them. `PG*` variables of our own
    /// environment would silently change what PostgreSQL's programs do.
    pub(crate) fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        for (name, _) in env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("PG"))
        {
            command.env_remove(name);
        }
        command
            .env("LC_ALL", "C")
            .current_dir("/")
            .stdin(Stdio::null())
            .process_group(0);
        if let Some((uid, gid)) = self.switch_to {
            // Setting the user as root also clears the supplementary groups.
            command.uid(uid).gid(gid);
        }
        command
    }

    /// Hands `path` itself (not what is in it) to this account.
    pub(crate) fn take_over(&self, path: &Path) -> Result<(), Error> {
        let Some((uid, gid)) = self.switch_to else {
            return Ok(());
        };
        chown(path, Some(uid), Some(gid)).map_err(Error::io("change the owner of", path))
    }

    /// Fails unless this account can enter `folder`.
    pub(crate) fn check_reach(&self, folder: &Path) -> Result<(), Error> {
        if self.switch_to.is_none() {
            return Ok(());
        }
        // Asking the kernel by trying covers access lists, which mode bits do not.
        let mut probe = self.command(Path::new("/bin/sh"));
        probe
            .args(["-c", "cd -- \"$1\"", "sh"])
            .arg(folder)
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let status = probe
            .status()
            .map_err(Error::io("run", Path::new("/bin/sh")))?;
        if status.success() {
            return Ok(());
        }
        Err(Error::NotReachable {
            user: self.name.clone(),
            blocked_by: self.first_closed(folder),
        })
    }

    /// The outermost folder on the way to `folder` whose mode bits keep this account out.
    fn first_closed(&self, folder: &Path) -> PathBuf {
        let mut ancestors: Vec<&Path> = folder.ancestors().collect();
        ancestors.reverse();
        let closed = ancestors
            .into_iter()
            .find(|path| fs::metadata(path).is_ok_and(|meta| !self.may_enter(&meta)));
        closed.unwrap_or(folder).to_path_buf()
    }

    fn may_enter(&self, meta: &fs::Metadata) -> bool {
        let Some((uid, gid)) = self.switch_to else {
            return true;
        };
        let shift = if meta.uid() == uid {
            6
        } else if meta.gid() == gid {
            3
        } else {
            0
        };
        meta.mode() >> shift & 1 == 1
    }
}
