//! Connections of a participant's server, each with who is at its other end.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use gavel_tls::{Acceptor, Peer, ServerStream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::{self, Sender};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::server::Connected;

/// The pause after a failed accept, when descriptors may have run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Handshakes that have come to their end and wait to be served.
const WAITING_MAX: usize = 16;

/// A connection that has been accepted.
pub(super) struct Conversation {
    stream: ServerStream,
    peer: Peer,
}

/// Accepts until the stream is dropped. Handshakes are made side by side: one that takes its time
/// holds nobody up.
pub(super) fn incoming(
    listener: TcpListener,
    acceptor: Acceptor,
) -> ReceiverStream<io::Result<Conversation>> {
    let (sender, receiver) = mpsc::channel(WAITING_MAX);
    tokio::spawn(async move {
        loop {
            let accepted = tokio::select! {
                () = sender.closed() => return,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, from)) => {
                    tokio::spawn(greet(stream, from, acceptor.clone(), sender.clone()));
                }
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    });
    ReceiverStream::new(receiver)
}

async fn greet(
    stream: TcpStream,
    from: SocketAddr,
    acceptor: Acceptor,
    sender: Sender<io::Result<Conversation>>,
) {
    // Answers are small: waiting to fill a packet would only delay them.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "no TCP_NODELAY");
    }
    let accepted = tokio::select! {
        () = sender.closed() => return,
        accepted = acceptor.accept(stream) => accepted,
    };
    match accepted {
        Ok((stream, peer)) => {
            // Nobody is served any more: the connection ends here.
            let _ = sender.send(Ok(Conversation { stream, peer })).await;
        }
        Err(error) => {
            tracing::warn!(target: "gavel::audit", %from, %error, what = "handshake failed");
        }
    }
}

impl Connected for Conversation {
    type ConnectInfo = Peer;
    fn connect_info(&self) -> Peer {
        self.peer.clone()
    }
}

impl AsyncRead for Conversation {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Conversation {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
