//! A plain proxy between two services: it moves bytes, and knows nothing about them.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

use super::gate::{Direction, Gate};

const CHUNK: usize = 16 * 1024;

/// One link from one service to another. Ends when dropped.
#[derive(Debug)]
pub struct Link {
    port: u16,
    target: Arc<AtomicU16>,
    gate: Arc<Gate>,
    over: CancellationToken,
}

impl Link {
    /// A link that leads nowhere yet.
    ///
    /// # Errors
    /// No port is free.
    pub async fn open() -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let link = Self {
            port: listener.local_addr()?.port(),
            target: Arc::new(AtomicU16::new(0)),
            gate: Arc::new(Gate::default()),
            over: CancellationToken::new(),
        };
        let accepting = accept(listener, Arc::clone(&link.target), Arc::clone(&link.gate));
        let over = link.over.clone();
        tokio::spawn(async move { over.run_until_cancelled(accepting).await });
        Ok(link)
    }

    /// Its address for HTTP.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Leads new connections to a port of this machine.
    pub fn lead_to(&self, port: u16) {
        self.target.store(port, Ordering::Release);
    }

    /// Its switch.
    #[must_use]
    pub fn gate(&self) -> &Gate {
        &self.gate
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.over.cancel();
        self.gate.cut();
    }
}

async fn accept(listener: TcpListener, target: Arc<AtomicU16>, gate: Arc<Gate>) {
    loop {
        // Out of descriptors, say: the next one may do.
        let Ok((client, _)) = listener.accept().await else {
            tokio::task::yield_now().await;
            continue;
        };
        if gate.refuses() {
            gate.note_struck();
            continue;
        }
        let target = SocketAddr::from((Ipv4Addr::LOCALHOST, target.load(Ordering::Acquire)));
        let gate = Arc::clone(&gate);
        tokio::spawn(async move {
            let cut = gate.cut_token();
            let carried = cut.run_until_cancelled(carry(client, target, &gate)).await;
            if carried.is_none() {
                gate.note_struck();
            }
        });
    }
}

async fn carry(client: TcpStream, target: SocketAddr, gate: &Gate) {
    let Ok(server) = TcpStream::connect(target).await else {
        return;
    };
    for stream in [&client, &server] {
        // Only speed is lost without it.
        let _slower = stream.set_nodelay(true);
    }
    let ((client_read, client_write), (server_read, server_write)) =
        (client.into_split(), server.into_split());
    tokio::join!(
        forth(client_read, server_write, gate),
        back(server_read, client_write, gate),
    );
}

async fn forth(mut from: OwnedReadHalf, to: OwnedWriteHalf, gate: &Gate) {
    let mut to = Some(to);
    let mut buffer = vec![0; CHUNK];
    loop {
        let read = tokio::select! {
            read = from.read(&mut buffer) => read,
            () = gate.until_half_open(), if to.is_some() => {
                to = None;
                continue;
            }
        };
        let Ok(length @ 1..) = read else { break };
        if gate.is_half_open() {
            to = None;
        }
        gate.pass(Direction::Forth).await;
        match &mut to {
            Some(to) => {
                if to.write_all(&buffer[..length]).await.is_err() {
                    return;
                }
            }
            None => gate.note_struck(),
        }
    }
    if let Some(mut to) = to {
        let _gone_already = to.shutdown().await;
    }
}

async fn back(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, gate: &Gate) {
    let mut buffer = vec![0; CHUNK];
    loop {
        let read = tokio::select! {
            read = from.read(&mut buffer) => read,
            () = gate.until_half_open() => {
                drop(from);
                // The near end stays as it is until the gate is healed, which cuts it.
                return std::future::pending().await;
            }
        };
        let Ok(length @ 1..) = read else { break };
        gate.pass(Direction::Back).await;
        if to.write_all(&buffer[..length]).await.is_err() {
            return;
        }
    }
    let _gone_already = to.shutdown().await;
}
