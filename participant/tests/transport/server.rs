//! A participant's server with a runtime of its own, so that a test can take it away at once.

use std::net::SocketAddr;
use std::sync::Arc;

use gavel_participant::api::Participant;
use gavel_participant::remote::RemoteParticipant;
use gavel_participant::serve::ParticipantServer;
use gavel_protocol::{Limits, ShardTag};
use gavel_tls::Acceptor;
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};
use tokio_util::sync::CancellationToken;

/// A server that runs until it is killed or dropped.
pub struct Server {
    pub address: SocketAddr,
    pub shutdown: CancellationToken,
    runtime: Option<Runtime>,
}

impl Server {
    /// Serves on a free port.
    pub async fn start(participant: Arc<dyn Participant>, limits: &Limits) -> Self {
        Self::start_with(participant, limits, Acceptor::Plain).await
    }

    /// Serves on a free port those whom `acceptor` lets in.
    pub async fn start_with(
        participant: Arc<dyn Participant>,
        limits: &Limits,
        acceptor: Acceptor,
    ) -> Self {
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        Self::serve_at(address, participant, limits, acceptor).await
    }

    /// Serves on this address, as soon as a server that was killed has let go of it.
    pub async fn start_at(
        address: SocketAddr,
        participant: Arc<dyn Participant>,
        limits: &Limits,
    ) -> Self {
        Self::serve_at(address, participant, limits, Acceptor::Plain).await
    }

    async fn serve_at(
        address: SocketAddr,
        participant: Arc<dyn Participant>,
        limits: &Limits,
        acceptor: Acceptor,
    ) -> Self {
        let bind = async {
            loop {
                match TcpListener::bind(address).await {
                    Ok(listener) => return listener.into_std().unwrap(),
                    Err(_) => tokio::task::yield_now().await,
                }
            }
        };
        let listener = tokio::time::timeout(crate::PATIENCE, bind)
            .await
            .expect("the address becomes free");
        let address = listener.local_addr().unwrap();
        let server = ParticipantServer::new(participant, limits);
        let shutdown = server.shutdown();
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        runtime.spawn(async move {
            let listener = TcpListener::from_std(listener).unwrap();
            server.serve(listener, acceptor).await.unwrap();
        });
        Self {
            address,
            shutdown,
            runtime: Some(runtime),
        }
    }

    /// A client of this server's, which takes it for the participant of `tag`.
    pub fn client(&self, tag: ShardTag, limits: &Limits) -> RemoteParticipant {
        client_of(self.address, tag, limits)
    }

    /// Ends everything in the server at once: sockets close, calls are cut off.
    pub fn kill(mut self) {
        self.stop();
    }

    fn stop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

/// A client for an address.
pub fn client_of(address: SocketAddr, tag: ShardTag, limits: &Limits) -> RemoteParticipant {
    RemoteParticipant::connect_lazy(tag, &format!("http://{address}"), limits, None).unwrap()
}
