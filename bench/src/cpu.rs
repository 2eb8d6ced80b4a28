//! CPU time of processes, read from `/proc`. Where there is no `/proc`, there is no number.

use std::fs;
use std::time::Duration;

/// Length of the ticks in `/proc/PID/stat`. The kernel's `USER_HZ` is 100 on every architecture
/// that Rust and PostgreSQL share, whatever the scheduler's own clock is.
const TICK: Duration = Duration::from_millis(10);

/// CPU time of the parties, at one moment or between two.
#[derive(Debug, Clone, Copy, Default)]
pub struct Cpu {
    /// This process.
    pub client: Option<Duration>,
    /// Gavel's own processes, if there are any.
    pub gavel: Option<Duration>,
    /// All PostgreSQL servers with their backends.
    pub postgres: Option<Duration>,
}

impl Cpu {
    /// What the parties have used so far.
    pub fn now(gavel: &[u32], postmasters: &[u32]) -> Self {
        let sum = |pids: &[u32], read: fn(u32) -> Option<Duration>| {
            pids.iter().map(|pid| read(*pid)).sum::<Option<Duration>>()
        };
        Self {
            client: own(std::process::id()),
            gavel: sum(gavel, own).filter(|_| !gavel.is_empty()),
            postgres: sum(postmasters, with_children),
        }
    }

    /// What was used since `earlier`.
    pub fn since(self, earlier: Self) -> Self {
        let between =
            |now: Option<Duration>, then: Option<Duration>| Some(now?.saturating_sub(then?));
        Self {
            client: between(self.client, earlier.client),
            gavel: between(self.gavel, earlier.gavel),
            postgres: between(self.postgres, earlier.postgres),
        }
    }
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
    let children = fs::read_dir("/proc").ok()?.filter_map(|entry| {
        let child: u32 = entry.ok()?.file_name().to_str()?.parse().ok()?;
        Stat::read(child).filter(|stat| stat.parent == pid)
    });
    let living: u32 = children.map(|child| child.own).sum();
    Some(TICK * (postmaster.own + postmaster.reaped + living))
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
}
