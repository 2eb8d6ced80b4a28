//! Clients in a closed loop.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use gavel_protocol::{ShardTag, Txid};
use hdrhistogram::Histogram;
use rand::Rng as _;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use crate::cpu::Cpu;
use crate::measure::Timing;
use crate::variants::{Ended, Session, Variant};
use crate::world::{SHARDS, World};

/// One transfer: what is added to which account on each shard. The amounts cancel out.
#[derive(Debug, Clone)]
pub struct Transfer {
    /// Its id, on every mark; a new one for every try.
    pub txid: Txid,
    /// One per shard.
    pub entries: [Entry; SHARDS.len()],
}

/// One side of a transfer.
#[derive(Debug, Clone, Copy)]
pub struct Entry {
    /// Whose balance changes.
    pub account: i64,
    /// By how much.
    pub amount: i64,
}

/// What a run came to.
#[derive(Debug)]
pub struct Counted {
    /// Committed in all, warm-up and leftovers included.
    pub committed: u64,
    /// Aborted or refused in the measured window.
    pub aborted: u64,
    /// Latencies of what was committed in the measured window, in microseconds.
    pub latencies: Histogram<u64>,
    /// The measured window's real length.
    pub window: Duration,
    /// CPU time in the window.
    pub cpu: Cpu,
}

/// The longest latency that is told apart: 60 s, in microseconds.
const LATENCY_MAX_US: u64 = 60_000_000;

/// Runs `clients` against a variant.
pub async fn run(
    variant: &dyn Variant,
    clients: usize,
    timing: Timing,
    world: &World,
) -> anyhow::Result<Counted> {
    let mut sessions = Vec::new();
    for _ in 0..clients {
        sessions.push(variant.session().await?);
    }
    let begin = Instant::now() + timing.warm_up;
    let end = begin + timing.window;
    let mut tasks = JoinSet::new();
    for session in sessions {
        tasks.spawn(client(session, world.accounts, begin, end));
    }
    let postmasters: Vec<u32> = world
        .servers()
        .iter()
        .filter_map(local_postgres::Server::postmaster_pid)
        .collect();
    let gavel = variant.pids();
    sleep_until(begin).await;
    let (cpu, began) = (Cpu::now(&gavel, &postmasters), Instant::now());
    sleep_until(end).await;
    let cpu = Cpu::now(&gavel, &postmasters).since(cpu);
    let mut counted = Counted {
        committed: 0,
        aborted: 0,
        latencies: Histogram::new_with_max(LATENCY_MAX_US, 3)?,
        window: began.elapsed(),
        cpu,
    };
    while let Some(ended) = tasks.join_next().await {
        let (committed, aborted, latencies) = ended.context("a client panicked")??;
        counted.committed += committed;
        counted.aborted += aborted;
        counted.latencies.add(latencies)?;
    }
    Ok(counted)
}

/// One client until `end`; its last transfer may end later, and is then not measured.
async fn client(
    mut session: Box<dyn Session>,
    accounts: i64,
    begin: Instant,
    end: Instant,
) -> anyhow::Result<(u64, u64, Histogram<u64>)> {
    let (mut committed, mut aborted) = (0, 0);
    let mut latencies = Histogram::new_with_max(LATENCY_MAX_US, 3)?;
    while Instant::now() < end {
        let transfer = random_transfer(accounts);
        let started = Instant::now();
        let ended = session.transfer(&transfer).await?;
        let now = Instant::now();
        let measured = (begin..end).contains(&now);
        committed += u64::from(ended == Ended::Committed);
        if measured && ended == Ended::Committed {
            let micros = u64::try_from((now - started).as_micros())?;
            latencies.saturating_record(micros.max(1));
        }
        aborted += u64::from(measured && ended == Ended::Aborted);
    }
    Ok((committed, aborted, latencies))
}

fn random_transfer(accounts: i64) -> Transfer {
    let mut random = rand::rng();
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH);
    let unix_ms = since_epoch.map_or(0, |time| time.as_millis() as u64);
    // Either shard pays: home is the lowest tag all the same.
    let amount = random.random_range(1..=100) * if random.random() { 1 } else { -1 };
    let mut entry = |amount| Entry {
        account: random.random_range(1..=accounts),
        amount,
    };
    let entries = [entry(amount), entry(-amount)];
    Transfer {
        txid: Txid::mint(unix_ms, ShardTag(1), random.random()),
        entries,
    }
}
