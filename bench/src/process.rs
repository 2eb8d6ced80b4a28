//! CPU time and memory of processes, read from `/proc`. Where there is no `/proc`, there is no
//! number.

use std::fs;
use std::time::Duration;

/// Length of the ticks in `/proc/PID/stat`. The kernel's `USER_HZ` is 100 on every architecture
/// that Rust and PostgreSQL share, whatever the scheduler's own clock is.
const TICK: Duration = Duration::from_millis(10);

/// The name of this process: the client, with all of Gavel where it is embedded.
pub const CLIENT: &str = "client";

/// Processes that take part in a run, by name.
#[derive(Debug, Clone, Default)]
pub struct Processes {
    /// Gavel's own.
    pub gavel: Vec<(String, u32)>,
    /// The servers' postmasters; their backends count with them.
    pub postmasters: Vec<(String, u32)>,
}

impl Processes {
    /// CPU time used so far, by name: the client first, the servers last.
    pub fn cpu(&self) -> Vec<(String, Option<Duration>)> {
        let client = (CLIENT.to_owned(), own(std::process::id()));
        let gavel = self
            .gavel
            .iter()
            .map(|(name, pid)| (name.clone(), own(*pid)));
        let servers = self
            .postmasters
            .iter()
            .map(|(name, pid)| (name.clone(), with_children(*pid)));
        [client].into_iter().chain(gavel).chain(servers).collect()
    }

    /// Peak of resident memory so far in MiB, of the client and of Gavel's own processes.
    pub fn peak_mib(&self) -> Vec<(String, Option<f64>)> {
        self.memory("VmHWM:")
    }

    /// Resident memory now in MiB, of the client and of Gavel's own processes.
    pub fn resident_mib(&self) -> Vec<(String, Option<f64>)> {
        self.memory("VmRSS:")
    }

    /// Private memory of each server in MiB, all backends added up; what they share is not in it.
    pub fn server_private_mib(&self) -> Vec<(String, Option<f64>)> {
        let each = self.postmasters.iter();
        each.map(|(name, pid)| {
            let all = [*pid].into_iter().chain(children(*pid));
            let known: Vec<f64> = all.filter_map(|pid| status_mib(pid, "RssAnon:")).collect();
            (
                name.clone(),
                (!known.is_empty()).then(|| known.iter().sum()),
            )
        })
        .collect()
    }

    fn memory(&self, field: &str) -> Vec<(String, Option<f64>)> {
        let client = (CLIENT.to_owned(), std::process::id());
        let all = [client].into_iter().chain(self.gavel.clone());
        all.map(|(name, pid)| (name, status_mib(pid, field)))
            .collect()
    }
}

/// Forgets the peak of this process's memory, so that the next run's can be told. Does nothing
/// where that is not possible: then the peak is that of all runs so far.
pub fn forget_own_peak() {
    let _not_possible = fs::write("/proc/self/clear_refs", "5");
}

/// The fields of `/proc/PID/stat` that matter here, in ticks.
#[derive(Debug, PartialEq, Eq)]
struct Stat {
    parent: u32,
    own: u32,
    /// Of children that have ended and been waited for.
    reaped: u32,
}

impl Stat {
    fn read(pid: u32) -> Option<Self> {
        Self::parse(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
    }

    /// The second field is the program's name in parentheses, and may contain anything.
    fn parse(line: &str) -> Option<Self> {
        let rest = &line[line.rfind(')')? + 1..];
        let fields: Vec<&str> = rest.split_whitespace().collect();
        let field = |number: usize| fields.get(number - 3)?.parse::<u32>().ok();
        Some(Self {
            parent: field(4)?,
            own: field(14)? + field(15)?,
            reaped: field(16)? + field(17)?,
        })
    }
}

fn own(pid: u32) -> Option<Duration> {
    Some(TICK * Stat::read(pid)?.own)
}

/// A postmaster with its backends, those that have ended included.
fn with_children(pid: u32) -> Option<Duration> {
    let postmaster = Stat::read(pid)?;
    let living: Duration = children(pid).filter_map(backend).sum();
    Some(TICK * (postmaster.own + postmaster.reaped) + living)
}

/// Of a process with one thread. The scheduler's own count is exact, where there is one; among
/// hundreds of backends that all work for less than a tick, ticks would count nothing.
fn backend(pid: u32) -> Option<Duration> {
    let counted = fs::read_to_string(format!("/proc/{pid}/schedstat")).ok();
    let nanos = counted.and_then(|text| text.split_whitespace().next()?.parse().ok());
    match nanos {
        Some(nanos) => Some(Duration::from_nanos(nanos)),
        None => own(pid),
    }
}

fn children(pid: u32) -> impl Iterator<Item = u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten();
    entries.filter_map(move |entry| {
        let child: u32 = entry.ok()?.file_name().to_str()?.parse().ok()?;
        Stat::read(child)
            .filter(|stat| stat.parent == pid)
            .map(|_| child)
    })
}

fn status_mib(pid: u32, field: &str) -> Option<f64> {
    parse_status_mib(
        &fs::read_to_string(format!("/proc/{pid}/status")).ok()?,
        field,
    )
}

fn parse_status_mib(status: &str, field: &str) -> Option<f64> {
    let line = status.lines().find(|line| line.starts_with(field))?;
    let kib: f64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib / 1024.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_and_spaces_moves_no_field() {
        let line = "7 (a) b (c)) S 3 7 7 0 -1 4194560 1 2 0 0 11 12 13 14 20 0 1 0 5";
        let wanted = Stat {
            parent: 3,
            own: 23,
            reaped: 27,
        };
        assert_eq!(Stat::parse(line), Some(wanted));
        assert_eq!(Stat::parse("7 (a"), None);
    }

    #[test]
    fn memory_is_told_in_mebibytes() {
        let status = "Name:\tpostgres\nVmHWM:\t    2048 kB\nVmRSS:\t    1024 kB\n";
        assert_eq!(parse_status_mib(status, "VmHWM:"), Some(2.0));
        assert_eq!(parse_status_mib(status, "RssAnon:"), None);
    }
}
