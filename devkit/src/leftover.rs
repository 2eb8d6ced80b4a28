//! Ends processes that a killed owner left behind.
//!
//! They leave by themselves when their pipe closes; one that is stopped (SIGSTOP) or stuck does
//! not, and would hold its port. A process id on disk may name a stranger by now, so the command
//! line has to carry this folder's configuration before anything is killed.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::Error;
use crate::probe::wait_until;

const GONE_LIMIT: Duration = Duration::from_secs(5);

/// Kills what is named in `pid_files` and runs with `config`, and waits until it is gone.
pub(crate) fn end_all(pid_files: &Path, config: &Path) -> Result<(), Error> {
    let entries = fs::read_dir(pid_files).map_err(Error::io("read", pid_files))?;
    for entry in entries.flatten() {
        let path = entry.path();
        let text = fs::read_to_string(&path).unwrap_or_default();
        if let Ok(pid) = text.trim().parse::<i32>() {
            end(pid, config);
        }
        fs::remove_file(&path).map_err(Error::io("remove", &path))?;
    }
    Ok(())
}

fn end(pid: i32, config: &Path) {
    let is_ours =
        || command_line(pid).is_some_and(|line| line.contains(&*config.to_string_lossy()));
    if !is_ours() {
        return;
    }
    tracing::warn!(pid, "ending a process that an earlier run left behind");
    let _gone_already = kill(Pid::from_raw(pid), Signal::SIGKILL);
    if !wait_until(GONE_LIMIT, || !is_ours()) {
        tracing::warn!(pid, "it does not go away");
    }
}

/// The program and its arguments; `None` if the process is gone or a zombie.
fn command_line(pid: i32) -> Option<String> {
    if fs::exists("/proc/self/cmdline").unwrap_or(false) {
        let bytes = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        // A zombie's is empty.
        return (!bytes.is_empty()).then(|| String::from_utf8_lossy(&bytes).replace('\0', " "));
    }
    let output = Command::new("ps")
        .args(["-ww", "-o", "args=", "-p", &pid.to_string()])
        .output()
        .ok()?;
    String::from_utf8(output.stdout).ok()
}

#[cfg(test)]
mod tests {
    use std::process::Stdio;

    use super::*;

    #[test]
    fn only_processes_of_this_folder_are_ended() {
        let folder = tempfile::tempdir().expect("a folder");
        let config = folder.path().join("gavel.toml");
        let start = |argument: &str| {
            let started = Command::new("sh")
                .args(["-c", "read -r line", argument])
                .stdin(Stdio::piped())
                .spawn()
                .expect("a process");
            // Linux resumes the parent before the new program's arguments can be read.
            let pid = started.id().cast_signed();
            assert!(wait_until(GONE_LIMIT, || command_line(pid).is_some()));
            started
        };
        let mut ours = start(&config.to_string_lossy());
        let mut stranger = start("other.toml");
        let files = folder.path().join("run");
        fs::create_dir(&files).expect("a folder");
        fs::write(files.join("ours.pid"), ours.id().to_string()).expect("a file");
        fs::write(files.join("stranger.pid"), stranger.id().to_string()).expect("a file");
        fs::write(files.join("odd.pid"), "not a number").expect("a file");

        end_all(&files, &config).expect("cleaned up");
        assert!(!ours.wait().expect("an end").success());
        assert!(stranger.try_wait().expect("a look").is_none());
        assert_eq!(fs::read_dir(&files).expect("a folder").count(), 0);
        stranger.kill().expect("a kill");
        stranger.wait().expect("an end");
    }
}
