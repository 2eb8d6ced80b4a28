//! Looks at, signals and waits for processes that may not be our children.
//!
//! A zombie counts as gone: in a container nobody may reap orphans, and a zombie holds neither
//! memory nor files. Waiting polls, because there is no portable way to wait for a stranger.

use std::fs;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

const POLL_EVERY: Duration = Duration::from_millis(5);

/// One line of the process table.
struct Row {
    pid: i32,
    parent: i32,
    state: char,
}

/// Sends a signal; a process that has gone meanwhile is no error.
pub(crate) fn signal(pid: i32, signal: Signal) {
    let _gone_already = kill(Pid::from_raw(pid), signal);
}

/// Whether `pid` is running or stopped, but not a zombie.
pub(crate) fn is_alive(pid: i32) -> bool {
    state(pid).is_some_and(|state| state != 'Z')
}

/// Whether `pid` is stopped by SIGSTOP.
pub(crate) fn is_stopped(pid: i32) -> bool {
    state(pid) == Some('T')
}

/// Process ids of the living children of `parent`.
pub(crate) fn children(parent: i32) -> Vec<i32> {
    let rows = table()
        .into_iter()
        .filter(|row| row.parent == parent && row.state != 'Z');
    rows.map(|row| row.pid).collect()
}

/// The program and its arguments, separated by spaces.
pub(crate) fn command_line(pid: i32) -> Option<String> {
    if let Ok(bytes) = fs::read(format!("/proc/{pid}/cmdline")) {
        return Some(String::from_utf8_lossy(&bytes).replace('\0', " "));
    }
    ps(&["-ww", "-o", "args=", "-p", &pid.to_string()])
}

/// Waits until `condition` holds; `false` if it did not within `limit`.
pub(crate) fn wait_until(limit: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + limit;
    while !condition() {
        if Instant::now() >= deadline {
            return false;
        }
        thread::sleep(POLL_EVERY);
    }
    true
}

fn state(pid: i32) -> Option<char> {
    if has_proc() {
        return row_from_proc(pid).map(|row| row.state);
    }
    ps(&["-o", "stat=", "-p", &pid.to_string()])?
        .trim()
        .chars()
        .next()
}

fn table() -> Vec<Row> {
    if has_proc() {
        let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
        let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        return pids.filter_map(row_from_proc).collect();
    }
    let text = ps(&["-A", "-o", "pid=,ppid=,stat="]).unwrap_or_default();
    text.lines().filter_map(row_from_ps).collect()
}

fn has_proc() -> bool {
    fs::exists("/proc/self/stat").unwrap_or(false)
}

/// `/proc/PID/stat` is `pid (name) state ppid …`, and the name may hold spaces and brackets.
fn row_from_proc(pid: i32) -> Option<Row> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut words = text[text.rfind(')')? + 1..].split_whitespace();
    let state = words.next()?.chars().next()?;
    Some(Row {
        pid,
        state,
        parent: words.next()?.parse().ok()?,
    })
}

fn row_from_ps(line: &str) -> Option<Row> {
    let mut words = line.split_whitespace();
    let (pid, parent) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
    Some(Row {
        pid,
        parent,
        state: words.next()?.chars().next()?,
    })
}

fn ps(arguments: &[&str]) -> Option<String> {
    let output = Command::new("ps").args(arguments).output().ok()?;
    String::from_utf8(output.stdout).ok()
}
