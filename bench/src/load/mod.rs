//! Clients, and what they count.

pub mod closed;
pub mod open;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, bail};
use hdrhistogram::Histogram;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use crate::process::Processes;
use crate::scenario::Draw;
use crate::variants::{Ended, Variant};
use crate::work::Work;

/// How long a run is.
#[derive(Debug, Clone, Copy)]
pub struct Timing {
    /// Not measured.
    pub warm_up: Duration,
    /// Measured.
    pub window: Duration,
}

/// The moments between which is measured.
#[derive(Debug, Clone, Copy)]
pub struct Window {
    /// From.
    pub begin: Instant,
    /// To.
    pub end: Instant,
}

/// What clients came to.
#[derive(Debug)]
pub struct Tally {
    /// Committed in all, warm-up and leftovers included.
    pub committed: u64,
    /// Rows that were returned, in all.
    pub rows: u64,
    /// Healthy transfers that came to nothing, in the measured window; and those that were meant to
    /// fail, but were refused before they could.
    pub aborted: u64,
    /// Transfers that were meant to fail and did, in the measured window.
    pub failed: u64,
    /// Transfers whose clients were told of the commit before all shards showed it, in all.
    pub late: u64,
    /// Latencies of what was committed in the measured window, in microseconds.
    pub latencies: Histogram<u64>,
}

/// What a run came to.
#[derive(Debug)]
pub struct Counted {
    /// All clients together.
    pub tally: Tally,
    /// The measured window's real length.
    pub window: Duration,
    /// CPU time in the window, by process.
    pub cpu: Vec<(String, Option<Duration>)>,
    /// Peak of resident memory in MiB, by process.
    pub peak_mib: Vec<(String, Option<f64>)>,
}

/// The longest latency that is told apart: 60 s, in microseconds.
const LATENCY_MAX_US: u64 = 60_000_000;
/// Clients share tallies: one each would take gigabytes with ten thousand of them.
const TALLIES: usize = 8;

/// The tallies of all clients.
#[derive(Debug)]
pub struct Tallies(Vec<Mutex<Tally>>);

impl Timing {
    fn window_from_now(self) -> Window {
        let begin = Instant::now() + self.warm_up;
        Window {
            begin,
            end: begin + self.window,
        }
    }
}

impl Tally {
    /// Nothing yet.
    pub fn new() -> Self {
        let latencies = Histogram::new_with_max(LATENCY_MAX_US, 3);
        Self {
            committed: 0,
            rows: 0,
            aborted: 0,
            failed: 0,
            late: 0,
            latencies: latencies.expect("the bounds are constants"),
        }
    }

    /// Adds what others have counted.
    pub fn add(&mut self, other: &Self) {
        self.committed += other.committed;
        self.rows += other.rows;
        self.aborted += other.aborted;
        self.failed += other.failed;
        self.late += other.late;
        let added = self.latencies.add(&other.latencies);
        added.expect("all histograms have the same bounds");
    }
}

impl Tallies {
    /// Nothing yet.
    pub fn new() -> Self {
        Self((0..TALLIES).map(|_| Mutex::new(Tally::new())).collect())
    }

    /// Counts one transfer that was meant to start at `started` and has just ended.
    pub fn count(
        &self,
        client: usize,
        work: &Work,
        ended: Ended,
        started: Instant,
        window: Window,
    ) -> anyhow::Result<()> {
        let now = Instant::now();
        let measured = (window.begin..window.end).contains(&now);
        let mut tally = self.lock(client);
        match (ended, work.healthy) {
            (Ended::Committed { .. } | Ended::Late, false) => {
                bail!("{work:?} had to fail, and was committed")
            }
            (Ended::Committed { rows }, true) => {
                tally.committed += 1;
                tally.rows += rows;
                if measured {
                    let micros = u64::try_from((now - started).as_micros())?;
                    tally.latencies.saturating_record(micros.max(1));
                }
            }
            (Ended::Late, true) => {
                tally.committed += 1;
                tally.late += 1;
            }
            (Ended::Failed, false) => tally.failed += u64::from(measured),
            (Ended::Failed | Ended::Refused, true) | (Ended::Refused, false) => {
                tally.aborted += u64::from(measured);
            }
        }
        Ok(())
    }

    /// Takes what has been counted since the last time.
    pub fn take(&self) -> Tally {
        let mut all = Tally::new();
        for index in 0..self.0.len() {
            all.add(&std::mem::replace(&mut *self.lock(index), Tally::new()));
        }
        all
    }

    fn lock(&self, client: usize) -> std::sync::MutexGuard<'_, Tally> {
        let tally = &self.0[client % self.0.len()];
        // A client that panicked fails the run where its task is joined.
        tally.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Lets every client make one transfer, so that whatever is opened on first use is open before the
/// warm-up begins.
async fn first_round(
    variant: &Arc<dyn Variant>,
    draw: &Arc<Draw>,
    clients: usize,
    tallies: &Arc<Tallies>,
) -> anyhow::Result<()> {
    let now = Instant::now();
    let never = Window {
        begin: now,
        end: now,
    };
    let mut tasks = JoinSet::new();
    for number in 0..clients {
        let (variant, draw, tallies) = (variant.clone(), draw.clone(), tallies.clone());
        tasks.spawn(async move {
            let work = draw.next(number);
            let ended = variant.run(&work).await?;
            tallies.count(number, &work, ended, now, never)
        });
    }
    join_all(tasks).await
}

/// Waits for the window, and looks at the processes at its begin and end.
async fn watch(window: Window, processes: &Processes) -> Counted {
    sleep_until(window.begin).await;
    let (before, began) = (processes.cpu(), Instant::now());
    sleep_until(window.end).await;
    let after = processes.cpu().into_iter();
    let cpu = after.zip(before).map(|((name, now), (_, then))| {
        let used = now.zip(then).map(|(now, then)| now.saturating_sub(then));
        (name, used)
    });
    Counted {
        tally: Tally::new(),
        window: began.elapsed(),
        cpu: cpu.collect(),
        peak_mib: processes.peak_mib(),
    }
}

async fn join_all(mut tasks: JoinSet<anyhow::Result<()>>) -> anyhow::Result<()> {
    while let Some(ended) = tasks.join_next().await {
        ended.context("a client panicked")??;
    }
    Ok(())
}
