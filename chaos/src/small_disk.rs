//! A disk so small that it can be filled: a file system in memory, mounted where a server's data
//! will be.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

/// A server with its write-ahead log fits, with some room to work.
const SIZE: &str = "size=400m,mode=755";
const BALLAST: &str = "ballast";
const CHUNK: usize = 1 << 20;

/// Mounted until it is dropped.
#[derive(Debug)]
pub struct SmallDisk {
    folder: PathBuf,
}

impl SmallDisk {
    /// Mounts one over a folder, which it makes if it is not there.
    ///
    /// # Errors
    /// Not permitted, or not supported.
    pub fn mount(folder: &Path) -> io::Result<Self> {
        std::fs::create_dir_all(folder)?;
        let mount = Command::new("mount")
            .args(["-t", "tmpfs", "-o", SIZE, "gavel-chaos"])
            .arg(folder)
            .output()?;
        if !mount.status.success() {
            let said = String::from_utf8_lossy(&mount.stderr).trim().to_owned();
            return Err(io::Error::other(said));
        }
        Ok(Self {
            folder: folder.to_owned(),
        })
    }

    /// Fills it to the last byte.
    ///
    /// # Errors
    /// Anything but the end of the space.
    pub fn fill(&self) -> io::Result<()> {
        let mut ballast = File::create(self.folder.join(BALLAST))?;
        let zeros = vec![0; CHUNK];
        let mut size = CHUNK;
        while size > 0 {
            match ballast.write(&zeros[..size]) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::StorageFull => size /= 2,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Takes the ballast away.
    ///
    /// # Errors
    /// It cannot be removed.
    pub fn empty(&self) -> io::Result<()> {
        std::fs::remove_file(self.folder.join(BALLAST))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: whoever still has a file open there keeps it, and nobody else sees it.
        let unmounted = Command::new("umount").arg("-l").arg(&self.folder).status();
        if !unmounted.is_ok_and(|status| status.success()) {
            tracing::warn!(folder = %self.folder.display(), "a small disk stays mounted");
        }
    }
}
