//! A participant behind gRPC: the server's side.
//!
//! Invariants:
//! - A call runs to its end in a task of its own. A client that hangs up in the middle of a
//!   prepare must not cut the conversation with PostgreSQL in half: the branch would be left
//!   neither prepared nor rolled back until the session's timeout.
//! - A request for another shard, or one that cannot be read completely, is refused before
//!   anything is done.
//! - An attendance lives exactly as long as its stream (R15): hyper drops the response stream
//!   when the client resets it, when the connection ends, and when keep-alive pings stay
//!   unanswered; the drop is what the participant hears.
//!
//! Failure model: whatever goes wrong here, the client sees an error or silence, and takes both
//! for "unknown".

mod attend;
mod authorize;
mod health;
mod incoming;
mod service;

use std::sync::Arc;
use std::time::Duration;

use gavel_protocol::Limits;
use gavel_tls::Acceptor;
use gavel_wire::participant::participant_service_server::ParticipantServiceServer;
use gavel_wire::sizes;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::server::NamedService as _;
use tonic::transport::Server;
use tonic_health::pb::health_server::HealthServer;

use self::authorize::Authorize;
pub use self::authorize::METHODS;
use crate::api::Participant;
pub use health::{HealthService, health_service};
pub use service::Served;

/// How often a silent connection is probed.
pub(crate) const PING_INTERVAL: Duration = Duration::from_secs(1);

/// How long a probe may stay unanswered. Long enough for a process that is short of CPU: a
/// connection that is given up for nothing turns every call on it into an unknown.
pub(crate) const PING_TIMEOUT: Duration = Duration::from_secs(3);

/// Streams of one connection. HTTP/2's usual limit of 100 or 200 would let prepares that wait
/// for locks hold back the decide or finish that could free them.
const STREAMS_MAX: u32 = 100_000;

/// A participant, ready to be served.
#[derive(Clone)]
pub struct ParticipantServer {
    participant: Arc<dyn Participant>,
    served: Served,
    limits: Limits,
    shutdown: CancellationToken,
}

impl ParticipantServer {
    /// Serves `participant`; `limits` bounds the messages.
    pub fn new(participant: Arc<dyn Participant>, limits: &Limits) -> Self {
        let shutdown = CancellationToken::new();
        Self {
            served: Served::new(participant.clone(), shutdown.clone()),
            participant,
            limits: limits.clone(),
            shutdown,
        }
    }

    /// The gRPC service, for a server of the caller's. Cancelling [`Self::shutdown`] ends its
    /// attendance streams, without which a graceful shutdown never finishes.
    pub fn service(&self) -> ParticipantServiceServer<Served> {
        ParticipantServiceServer::new(self.served.clone())
            .max_decoding_message_size(sizes::request_bytes_max(&self.limits))
            .max_encoding_message_size(sizes::answer_bytes_max(&self.limits))
    }

    /// Well is a participant whose database answers.
    fn health(&self) -> HealthServer<HealthService> {
        let participant = self.participant.clone();
        health_service(move |service| {
            let participant = participant.clone();
            Box::pin(async move {
                match service.as_str() {
                    "" | ParticipantServiceServer::<Served>::NAME => {
                        Some(participant.retention().await.is_ok())
                    }
                    _ => None,
                }
            })
        })
    }

    /// Ends [`Self::serve`] and all attendance streams when it is cancelled.
    pub fn shutdown(&self) -> CancellationToken {
        self.shutdown.clone()
    }

    /// Serves on `listener` until [`Self::shutdown`] is cancelled and calls under way have been
    /// answered. `acceptor` says who is at the other end of a connection; every role may call
    /// what [`METHODS`] lists for it.
    ///
    /// # Errors
    /// When the listener fails.
    pub async fn serve(
        self,
        listener: TcpListener,
        acceptor: Acceptor,
    ) -> Result<(), tonic::transport::Error> {
        let incoming = incoming::incoming(listener, acceptor);
        transport()
            .layer(Authorize)
            .add_service(self.service())
            .add_service(self.health())
            .serve_with_incoming_shutdown(incoming, self.shutdown.clone().cancelled_owned())
            .await
    }
}

/// A server with this module's HTTP/2 settings.
pub fn transport() -> Server {
    Server::builder()
        .initial_stream_window_size(sizes::STREAM_WINDOW_BYTES)
        .initial_connection_window_size(sizes::CONNECTION_WINDOW_BYTES)
        .max_concurrent_streams(STREAMS_MAX)
        .http2_keepalive_interval(Some(PING_INTERVAL))
        .http2_keepalive_timeout(Some(PING_TIMEOUT))
}
