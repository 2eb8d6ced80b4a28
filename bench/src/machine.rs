//! What the numbers were measured on.

use std::fs::{self, File};
use std::io::{Seek as _, SeekFrom, Write as _};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use crate::world::{NO_CHECKPOINTS, SETTINGS, World, text};

/// How often the disk is asked to make 8 KiB durable.
const FLUSHES: usize = 200;

/// The machine and the servers' settings.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Machine {
    /// Cores that this process may use.
    pub cores: usize,
    /// Memory in GiB.
    pub memory_gib: Option<f64>,
    /// As the kernel names it.
    pub cpu_model: Option<String>,
    /// Operating system and kernel release.
    pub kernel: String,
    /// PostgreSQL's version.
    pub postgres: String,
    /// Median and 99th percentile of writing 8 KiB and `fdatasync`, in microseconds, where the
    /// servers keep their data.
    pub fdatasync_us: [u64; 2],
    /// How many cores were busy in the second before the measurement, with others' work.
    pub busy_before: Option<f64>,
    /// Server settings, as the servers show them.
    pub settings: Vec<(String, String)>,
}

/// Looks at the machine.
pub fn describe(world: &World) -> anyhow::Result<Machine> {
    let server = &world.servers(1)[0];
    let durable = [
        "fsync",
        "synchronous_commit",
        "full_page_writes",
        "wal_sync_method",
    ];
    let names = durable.into_iter().chain(
        SETTINGS
            .iter()
            .chain(&NO_CHECKPOINTS)
            .map(|(name, _)| *name),
    );
    let settings: anyhow::Result<Vec<_>> = names
        .map(|name| Ok((name.to_owned(), text(server, &format!("SHOW {name}"))?)))
        .collect();
    Ok(Machine {
        cores: std::thread::available_parallelism()?.get(),
        memory_gib: memory_gib(),
        cpu_model: field("/proc/cpuinfo", "model name"),
        kernel: kernel(),
        postgres: text(server, "SHOW server_version")?,
        fdatasync_us: fdatasync_us(server.folder())?,
        busy_before: busy_cores(),
        settings: settings?,
    })
}

fn memory_gib() -> Option<f64> {
    let total = field("/proc/meminfo", "MemTotal")?;
    let kib: f64 = total.split_whitespace().next()?.parse().ok()?;
    Some((kib / 1024.0 / 1024.0 * 10.0).round() / 10.0)
}

/// How many cores are busy for a second. Not the load average, which remembers for minutes that
/// this was compiled.
fn busy_cores() -> Option<f64> {
    let [idle_before, all_before] = processor_ticks()?;
    std::thread::sleep(Duration::from_secs(1));
    let [idle, all] = processor_ticks()?;
    let elapsed = all - all_before;
    let busy_share = (elapsed > 0.0).then(|| 1.0 - (idle - idle_before) / elapsed)?;
    let cores = std::thread::available_parallelism().ok()?.get();
    Some((busy_share * cores as f64 * 100.0).round() / 100.0)
}

/// Ticks in which all cores idled, and all of their ticks, since the machine started.
fn processor_ticks() -> Option<[f64; 2]> {
    let text = fs::read_to_string("/proc/stat").ok()?;
    let all_cores = text.lines().find_map(|line| line.strip_prefix("cpu "))?;
    let ticks: Vec<f64> = all_cores
        .split_whitespace()
        .map_while(|number| number.parse().ok())
        .collect();
    // user, nice, system, idle, iowait
    let idle = ticks.get(3)? + ticks.get(4)?;
    Some([idle, ticks.iter().sum()])
}

/// The value behind `name:` in one of the kernel's files.
fn field(path: &str, name: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    let line = text.lines().find(|line| line.starts_with(name))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

fn kernel() -> String {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!("{} {}", std::env::consts::OS, release.trim())
        .trim()
        .to_owned()
}

/// Overwrites one file again and again, as the servers do with recycled WAL.
fn fdatasync_us(folder: &Path) -> anyhow::Result<[u64; 2]> {
    let path = folder.join("flush-probe");
    let mut file = File::create(&path).context("cannot probe the disk")?;
    file.write_all(&vec![0; 1 << 20])?;
    file.sync_all()?;
    let mut times = Vec::with_capacity(FLUSHES);
    for _ in 0..FLUSHES {
        file.seek(SeekFrom::Start(0))?;
        file.write_all(&[1; 8192])?;
        let started = Instant::now();
        file.sync_data()?;
        times.push(u64::try_from(started.elapsed().as_micros())?);
    }
    fs::remove_file(&path)?;
    times.sort_unstable();
    Ok([times[FLUSHES / 2], times[FLUSHES * 99 / 100]])
}
