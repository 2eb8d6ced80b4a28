//! The port: HTTP/1.1 and HTTP/2 (prior knowledge) on one listener.
//!
//! `axum::serve` sets no timer, so that a caller who sends his headers byte by byte would hold a
//! connection for ever; this loop is the same with limits.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use axum::extract::ConnectInfo;
use axum::{Extension, Router};
use gavel_tls::Acceptor;
use gavel_wire::sizes;
use http::Request;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

/// How long a caller may take to send the headers of a request.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);

/// How often a silent HTTP/2 connection is probed, and how long it may take to answer.
const KEEP_ALIVE: Duration = Duration::from_secs(20);

/// Calls that one HTTP/2 connection may have open. A client library keeps one connection per
/// coordinator; the engine's own limits decide what is too much.
const STREAMS_MAX: u32 = 20_000;

/// How long requests under way may take to end after `shutdown`.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(15);

/// The pause after a failed accept, when descriptors may have run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Tells the requests of a server that it closes: those that wait for a caller's next message
/// must end by themselves, as no connection ends before its requests.
#[derive(Debug, Clone, Default)]
pub(super) struct Closing(CancellationToken);

impl Closing {
    /// Waits until the server closes.
    pub(super) async fn begun(&self) {
        self.0.cancelled().await;
    }
}

/// Serves until `shutdown` resolves, then lets requests under way end. `acceptor` says who is at
/// the other end of a connection; requests carry it as an extension, a
/// [`gavel_tls::Peer`], beside the other end's address, a [`ConnectInfo`].
///
/// # Errors
/// None today: a failed accept is logged and tried again, as other callers are still served.
pub async fn serve(
    listener: TcpListener,
    acceptor: Acceptor,
    router: Router,
    shutdown: impl Future<Output = ()>,
) -> io::Result<()> {
    let graceful = GracefulShutdown::new();
    let closing = Closing::default();
    let router = router.layer(Extension(closing.clone()));
    let mut shutdown = std::pin::pin!(shutdown);
    loop {
        let accepted = tokio::select! {
            () = &mut shutdown => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, from)) => {
                let conversation = Conversation {
                    from,
                    router: router.clone(),
                    closing: closing.clone(),
                    watcher: graceful.watcher(),
                };
                tokio::spawn(conversation.hold(stream, acceptor.clone()));
            }
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    closing.0.cancel();
    if tokio::time::timeout(DRAIN_TIMEOUT, graceful.shutdown())
        .await
        .is_err()
    {
        tracing::warn!("requests were still under way after {DRAIN_TIMEOUT:?}");
    }
    Ok(())
}

/// One connection.
struct Conversation {
    from: SocketAddr,
    router: Router,
    closing: Closing,
    watcher: Watcher,
}

impl Conversation {
    async fn hold(self, stream: TcpStream, acceptor: Acceptor) {
        // Answers are small: waiting to fill a packet would only delay them.
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "no TCP_NODELAY");
        }
        let accepted = tokio::select! {
            () = self.closing.begun() => return,
            accepted = acceptor.accept(stream) => accepted,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(target: "gavel::audit", from = %self.from, %error, what = "handshake failed");
                return;
            }
        };
        let router = self.router.map_request(move |mut request: Request<_>| {
            request.extensions_mut().insert(peer.clone());
            request.extensions_mut().insert(ConnectInfo(self.from));
            request
        });
        let service = TowerToHyperService::new(router);
        let builder = builder();
        let connection = builder.serve_connection(TokioIo::new(stream), service);
        if let Err(error) = self.watcher.watch(connection.into_owned()).await {
            tracing::debug!(%error, "a connection ended badly");
        }
    }
}

fn builder() -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT);
    builder
        .http2()
        .timer(TokioTimer::new())
        .initial_stream_window_size(sizes::STREAM_WINDOW_BYTES)
        .initial_connection_window_size(sizes::CONNECTION_WINDOW_BYTES)
        .max_concurrent_streams(STREAMS_MAX)
        .keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE);
    builder
}
