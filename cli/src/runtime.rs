//! The async runtime that a process computes on.

use std::future::Future;
use std::num::NonZeroUsize;
use std::thread::available_parallelism;

use anyhow::Context as _;
use tokio::runtime::{Builder, Runtime};

use crate::exit::Exit;

/// Runs a service on `threads`, or on half of the machine's cores: its databases, or its clients,
/// are often on the same machine, and a service needs less of it than they do.
///
/// One thread is a runtime of another kind: nothing is handed from thread to thread, so nobody has
/// to be woken for it, which is a fifth of a service's CPU time under load (docs/performance.md).
///
/// # Errors
/// What the service ended with, or the system gives no threads.
pub fn serve(
    threads: Option<NonZeroUsize>,
    work: impl Future<Output = anyhow::Result<Exit>>,
) -> anyhow::Result<Exit> {
    let threads = threads.map_or_else(half_of_the_cores, NonZeroUsize::get);
    let runtime = match threads {
        1 => Builder::new_current_thread().enable_all().build(),
        _ => Builder::new_multi_thread()
            .worker_threads(threads)
            .enable_all()
            .build(),
    };
    block_on(runtime, work)
}

/// Runs a command.
///
/// # Errors
/// What the command ended with, or the system gives no threads.
pub fn run(work: impl Future<Output = anyhow::Result<Exit>>) -> anyhow::Result<Exit> {
    block_on(Runtime::new(), work)
}

fn half_of_the_cores() -> usize {
    let cores = available_parallelism().map_or(1, NonZeroUsize::get);
    (cores / 2).max(1)
}

fn block_on(
    runtime: std::io::Result<Runtime>,
    work: impl Future<Output = anyhow::Result<Exit>>,
) -> anyhow::Result<Exit> {
    let runtime = runtime.context("cannot start the async runtime")?;
    runtime.block_on(async {
        let ended = work.await;
        // Blocks, and needs the runtime.
        let _flushed = tokio::task::spawn_blocking(gavel_spans::flush).await;
        ended
    })
}
