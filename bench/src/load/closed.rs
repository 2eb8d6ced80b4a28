//! Clients in a closed loop: each sends its next transfer when the last one is applied.

use std::sync::Arc;

use tokio::task::JoinSet;
use tokio::time::Instant;

use super::{Counted, Tallies, Timing, Window, first_round, join_all, watch};
use crate::process::Processes;
use crate::scenario::Draw;
use crate::variants::Variant;

/// Runs `clients` against a variant.
pub async fn run(
    variant: &Arc<dyn Variant>,
    draw: Arc<Draw>,
    clients: usize,
    timing: Timing,
    processes: &Processes,
) -> anyhow::Result<Counted> {
    let tallies = Arc::new(Tallies::new());
    first_round(variant, &draw, clients, &tallies).await?;
    let window = timing.window_from_now();
    let tasks = start(variant, &draw, clients, window, &tallies);
    let mut counted = watch(window, processes).await;
    join_all(tasks).await?;
    counted.tally = tallies.take();
    Ok(counted)
}

/// Starts the clients, who go on until the window's end.
pub fn start(
    variant: &Arc<dyn Variant>,
    draw: &Arc<Draw>,
    clients: usize,
    window: Window,
    tallies: &Arc<Tallies>,
) -> JoinSet<anyhow::Result<()>> {
    let mut tasks = JoinSet::new();
    for number in 0..clients {
        let (variant, draw, tallies) = (variant.clone(), draw.clone(), tallies.clone());
        tasks.spawn(async move {
            // The last transfer may end after the window, and is then not measured.
            while Instant::now() < window.end {
                let work = draw.next(number);
                let started = Instant::now();
                let ended = variant.run(&work).await?;
                tallies.count(number, &work, ended, started, window)?;
            }
            Ok(())
        });
    }
    tasks
}
