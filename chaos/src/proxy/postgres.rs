//! The proxy between a participant and its server.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};

use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::connection::serve;
use super::gate::Gate;
use super::step::{Passage, Step};
use super::trap::{Order, Trap};
use crate::witness::Witness;

/// The proxy of one shard. Ends when dropped.
#[derive(Debug)]
pub struct PgProxy {
    port: u16,
    shared: Arc<Shared>,
    over: CancellationToken,
}

/// What the connections of a proxy share.
pub(super) struct Shared {
    pub(super) shard: usize,
    target: AtomicU16,
    traps: Mutex<Vec<Trap>>,
    pub(super) gate: Gate,
    pub(super) witness: Arc<Witness>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared")
            .field("shard", &self.shard)
            .field("target", &self.target)
            .finish_non_exhaustive()
    }
}

impl PgProxy {
    /// A proxy for shard `shard` that leads nowhere yet.
    ///
    /// # Errors
    /// No port is free.
    pub async fn open(shard: usize, witness: Arc<Witness>) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let proxy = Self {
            port: listener.local_addr()?.port(),
            shared: Arc::new(Shared {
                shard,
                target: AtomicU16::new(0),
                traps: Mutex::new(Vec::new()),
                gate: Gate::default(),
                witness,
            }),
            over: CancellationToken::new(),
        };
        let accepting = accept(listener, Arc::clone(&proxy.shared));
        let over = proxy.over.clone();
        tokio::spawn(async move { over.run_until_cancelled(accepting).await });
        Ok(proxy)
    }

    /// Its port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its switch.
    #[must_use]
    pub fn gate(&self) -> &Gate {
        &self.shared.gate
    }

    /// Leads new connections to a server on this port of this machine.
    pub fn lead_to(&self, port: u16) {
        self.shared.target.store(port, Ordering::Release);
    }

    pub(super) fn set_trap(&self, trap: Trap) {
        let mut traps = self.shared.traps.lock();
        traps.retain(|each| !each.is_stale());
        traps.push(trap);
    }
}

impl Drop for PgProxy {
    fn drop(&mut self) {
        self.over.cancel();
        self.shared.gate.cut();
    }
}

impl Shared {
    pub(super) fn target(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.target.load(Ordering::Acquire)).into()
    }

    /// Whether somebody wants this message; if so, what is to be done with it comes here.
    pub(super) fn catch(
        &self,
        step: Step,
        passage: &Passage,
    ) -> Option<mpsc::UnboundedReceiver<Order>> {
        let traps = self.traps.lock();
        traps.iter().find_map(|trap| trap.catch(step, passage))
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    loop {
        // Out of descriptors, say: the next one may do.
        let Ok((client, _)) = listener.accept().await else {
            tokio::task::yield_now().await;
            continue;
        };
        if shared.gate.refuses() {
            shared.gate.note_struck();
            continue;
        }
        let shared = Arc::clone(&shared);
        tokio::spawn(async move {
            let cut = shared.gate.cut_token();
            if cut
                .run_until_cancelled(serve(client, &shared))
                .await
                .is_none()
            {
                shared.gate.note_struck();
            }
        });
    }
}
