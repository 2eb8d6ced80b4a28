//! Arrivals in an open loop: transfers start at random moments, whether earlier ones are done or
//! not.
//!
//! A latency is counted from the moment at which a transfer was meant to start. If it starts later,
//! because this process had no time or the system under test stood still, the wait is counted: there
//! is no coordinated omission. Arrivals come from a thread of their own, since the runtime's timer
//! only knows milliseconds.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use rand::Rng as _;
use tokio::runtime::Handle;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::{Counted, Tallies, Timing, Window, first_round, join_all, watch};
use crate::process::Processes;
use crate::scenario::Draw;
use crate::variants::Variant;

/// Transfers at once before the first arrival.
const FIRST_ROUND: usize = 16;

/// Lets transfers arrive at `rate` per second.
pub async fn run(
    variant: &Arc<dyn Variant>,
    draw: Arc<Draw>,
    rate: f64,
    timing: Timing,
    processes: &Processes,
) -> anyhow::Result<Counted> {
    ensure!(rate > 0.0, "nothing arrives at a rate of {rate}");
    let tallies = Arc::new(Tallies::new());
    first_round(variant, &draw, FIRST_ROUND, &tallies).await?;
    let window = timing.window_from_now();
    let (arrivals, arrived) = unbounded_channel();
    let clock = thread::spawn(move || arrive(&arrivals, rate, window.end));
    let runtime = Handle::current();
    let serving = runtime.spawn(serve(
        arrived,
        variant.clone(),
        draw,
        tallies.clone(),
        window,
    ));
    let mut counted = watch(window, processes).await;
    serving.await.context("the clients panicked")??;
    clock.join().ok().context("the clock panicked")?;
    counted.tally = tallies.take();
    Ok(counted)
}

/// Sends the intended start of one transfer after the other. The gaps of a Poisson process are
/// exponentially distributed.
fn arrive(arrivals: &UnboundedSender<Instant>, rate: f64, end: Instant) {
    let mut random = rand::rng();
    let mut next = Instant::now();
    loop {
        let uniform: f64 = random.random();
        next += Duration::from_secs_f64(-(1.0 - uniform).ln() / rate);
        if next >= end {
            return;
        }
        thread::sleep(next.saturating_duration_since(Instant::now()));
        if arrivals.send(next).is_err() {
            return;
        }
    }
}

async fn serve(
    mut arrived: UnboundedReceiver<Instant>,
    variant: Arc<dyn Variant>,
    draw: Arc<Draw>,
    tallies: Arc<Tallies>,
    window: Window,
) -> anyhow::Result<()> {
    let mut tasks = JoinSet::new();
    let mut number = 0;
    while let Some(intended) = arrived.recv().await {
        number += 1;
        let (variant, draw, tallies) = (variant.clone(), draw.clone(), tallies.clone());
        tasks.spawn(async move {
            let work = draw.next(number);
            let ended = variant.run(&work).await?;
            tallies.count(number, &work, ended, intended, window)
        });
        // Those that have ended need not be kept.
        while let Some(ended) = tasks.try_join_next() {
            ended.context("a client panicked")??;
        }
    }
    join_all(tasks).await
}
