//! What some faults need from the machine.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::unistd::geteuid;

/// Where distributions put the library that turns clocks.
const FAKETIME: &str = "faketime/libfaketimeMT.so.1";

/// Without it a process's limits cannot be changed from outside.
pub(super) fn prlimit() -> Option<String> {
    let runs = Command::new("prlimit")
        .arg("--version")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    let is_there = runs.is_ok_and(|status| status.success());
    (!is_there).then(|| "there is no program `prlimit`".to_owned())
}

/// Without it one process cannot have a clock of its own.
pub(super) fn faketime() -> Option<String> {
    faketime_library()
        .is_none()
        .then(|| "libfaketime is not installed (package `libfaketime`)".to_owned())
}

/// The library that turns the clocks of whoever preloads it.
pub(super) fn faketime_library() -> Option<PathBuf> {
    let folders = std::fs::read_dir("/usr/lib").ok()?;
    let inner = folders.filter_map(Result::ok).map(|entry| entry.path());
    let all = std::iter::once(PathBuf::from("/usr/lib")).chain(inner);
    all.map(|folder| folder.join(FAKETIME))
        .find(|path| path.exists())
}

/// Only root may mount, and only where the kernel has the file system.
pub(super) fn mount() -> Option<String> {
    if !geteuid().is_root() {
        return Some("only root can mount a small disk".to_owned());
    }
    let has_tmpfs = std::fs::read_to_string("/proc/filesystems")
        .is_ok_and(|names| names.lines().any(|line| line.ends_with("\ttmpfs")));
    if !has_tmpfs {
        return Some("this kernel has no tmpfs to make a small disk of".to_owned());
    }
    may_mount().err()
}

/// Containers often have a root who may not mount: trying is the only way to know.
fn may_mount() -> Result<(), String> {
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    let disk = crate::small_disk::SmallDisk::mount(folder.path());
    disk.map(drop)
        .map_err(|error| format!("a small disk cannot be mounted: {error}"))
}

/// Whether a process has loaded a library.
pub(super) fn has_loaded(pid: u32, library: &Path) -> bool {
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).unwrap_or_default();
    maps.contains(&library.display().to_string())
}
