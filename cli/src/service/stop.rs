//! When to stop: SIGTERM, SIGINT, or the end of a parent.

use std::io::Read as _;

use tokio::signal::unix::{SignalKind, signal};

/// Resolves at SIGTERM or SIGINT.
pub(crate) async fn stop_signal() {
    let (Ok(mut terminate), Ok(mut interrupt)) = (
        signal(SignalKind::terminate()),
        signal(SignalKind::interrupt()),
    ) else {
        // Without handlers the default action ends the process, which is what is asked for.
        return std::future::pending().await;
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}

/// Ends this process when standard input ends, at once: the parent that held the other end was
/// killed, and its PostgreSQL servers are going down with it, so there is nobody to finish for.
pub(crate) fn exit_with_stdin() {
    std::thread::spawn(|| {
        let mut buffer = [0; 64];
        let mut stdin = std::io::stdin();
        while matches!(stdin.read(&mut buffer), Ok(length) if length > 0) {}
        tracing::warn!("the parent process is gone");
        std::process::exit(1);
    });
}
