//! What runs out.

use std::process::Command;
use std::time::{Duration, Instant};

use gavel_devkit::Role;
use local_postgres::Server;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_postgres::{Client, SimpleQueryMessage};

use super::aim::nobody;
use super::{Strikes, Struck};
use crate::arena::{COORDINATORS, SMALL_DISK_SHARD, prepare_foreign};
use crate::error::ChaosError;
use crate::proxy::{Passage, Step};

/// More than any server of a run has.
const SLOTS_MAX: usize = 1_000;
const FILLER: &str = "filler";
/// Below what a process has open already, so that nothing new fits.
const LOWEST: u64 = 8;
const ANSWER_LIMIT: Duration = Duration::from_secs(1);
/// How long a server may take to need more space than it has.
const DISK_LIMIT: Duration = Duration::from_secs(15);
const LOOK_EVERY: Duration = Duration::from_millis(50);

impl Strikes {
    /// Fills every slot between a branch's work and its PREPARE.
    pub(super) async fn no_slots(&mut self, step: Step) -> Result<Struck, ChaosError> {
        let wants = |passage: &Passage| passage.gid.is_some();
        let Some(caught) = self.catch_where(step, wants).await else {
            return Ok(nobody(step));
        };
        let what = self.name(&caught);
        let shard = caught.passage.shard;
        let superuser = self.arena.superuser(shard).await?;
        let filled = fill(&superuser).await;
        caught.release();
        tokio::time::sleep(self.a_while(500)).await;
        empty(&superuser).await?;
        Ok(match filled {
            Some(count) => Ok(format!("{what}, {count} slots taken")),
            None => Err("the slots did not run out".to_owned()),
        })
    }

    /// A coordinator that cannot take a new connection must go on with those that it has, and be
    /// well again when it can.
    pub(super) async fn few_descriptors(&mut self, _step: Step) -> Result<Struck, ChaosError> {
        let coordinator = rand::random_range(0..COORDINATORS);
        self.aimed_at_coordinator(coordinator);
        let role = Role::Coordinator(coordinator);
        let Some(pid) = self.arena.dev.pid(role) else {
            return Ok(Err("the coordinator does not run".to_owned()));
        };
        let (Some(limit), true) = (descriptors(pid), limit_descriptors(pid, LOWEST)) else {
            return Ok(Err("its limit could not be set".to_owned()));
        };
        // Clients have to come again.
        self.arena.front(coordinator).gate().cut();
        let url = self.arena.dev.coordinator_urls().swap_remove(coordinator);
        let is_deaf = !answers(&url).await;
        tokio::time::sleep(self.a_while(500)).await;
        if !limit_descriptors(pid, limit) {
            let message = format!("coordinator {} stays without descriptors", coordinator + 1);
            return Err(ChaosError::NeverWorked(message));
        }
        Ok(if is_deaf {
            Ok(format!(
                "coordinator {}, limit {limit} set to {LOWEST}",
                coordinator + 1
            ))
        } else {
            Err("it still took connections".to_owned())
        })
    }

    pub(super) async fn disk_full(&mut self, step: Step) -> Result<Struck, ChaosError> {
        let arena = self.arena.clone();
        let Some(disk) = &arena.small_disk else {
            return Ok(Err("no server has a small disk".to_owned()));
        };
        let on_it = |passage: &Passage| passage.shard == SMALL_DISK_SHARD;
        let Some(caught) = self.catch_where(step, on_it).await else {
            return Ok(nobody(step));
        };
        let what = self.name(&caught);
        let lines = |server: &Server| -> Result<usize, ChaosError> {
            let log = server.log_tail(usize::MAX);
            Ok(log.matches("No space left on device").count())
        };
        let before = self.on_server(SMALL_DISK_SHARD, lines).await?;
        let failed = |source| ChaosError::Write {
            what: "the ballast".to_owned(),
            source,
        };
        disk.fill().map_err(failed)?;
        drop(caught);
        let deadline = Instant::now() + DISK_LIMIT;
        let mut after = before;
        while after == before && Instant::now() < deadline {
            tokio::time::sleep(LOOK_EVERY).await;
            after = self.on_server(SMALL_DISK_SHARD, lines).await?;
        }
        tokio::time::sleep(self.a_while(500)).await;
        disk.empty().map_err(failed)?;
        // It may have given up altogether.
        self.on_server(SMALL_DISK_SHARD, |server| {
            server.start()?;
            Ok(server.wait_ready()?)
        })
        .await?;
        Ok(match after - before {
            0 => Err("nobody needed space while there was none".to_owned()),
            count => Ok(format!("{what}, {count} writes failed")),
        })
    }
}

/// The soft limit of a process's descriptors.
fn descriptors(pid: u32) -> Option<u64> {
    let limits = std::fs::read_to_string(format!("/proc/{pid}/limits")).ok()?;
    let line = limits
        .lines()
        .find(|line| line.starts_with("Max open files"))?;
    line.split_whitespace().nth(3)?.parse().ok()
}

/// Only the soft limit, which whoever owns the process can raise again.
fn limit_descriptors(pid: u32, limit: u64) -> bool {
    let set = Command::new("prlimit")
        .arg(format!("--pid={pid}"))
        .arg(format!("--nofile={limit}:"))
        .status();
    set.is_ok_and(|status| status.success())
}

/// Whether somebody answers there soon.
async fn answers(url: &str) -> bool {
    let address = url.trim_start_matches("http://").to_owned();
    let asking = async {
        let mut stream = tokio::net::TcpStream::connect(&address).await?;
        stream
            .write_all(b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n")
            .await?;
        stream.read_u8().await
    };
    let answer = tokio::time::timeout(ANSWER_LIMIT, asking).await;
    answer.is_ok_and(|answer| answer.is_ok())
}

/// Prepares until PostgreSQL has no slot left. Gives how many it took.
async fn fill(superuser: &Client) -> Option<usize> {
    for number in 0..SLOTS_MAX {
        let sql = prepare_foreign(&format!("{FILLER}-{number}"));
        if superuser.simple_query(&sql).await.is_err() {
            return Some(number);
        }
    }
    None
}

async fn empty(superuser: &Client) -> Result<(), ChaosError> {
    let find = format!("SELECT gid FROM pg_prepared_xacts WHERE gid LIKE '{FILLER}-%'");
    for message in superuser.simple_query(&find).await? {
        if let SimpleQueryMessage::Row(row) = message
            && let Some(gid) = row.get(0)
        {
            let rollback = format!("ROLLBACK PREPARED '{gid}'");
            superuser.simple_query(&rollback).await?;
        }
    }
    Ok(())
}
