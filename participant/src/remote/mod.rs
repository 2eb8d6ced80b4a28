//! A participant behind gRPC: the client's side.
//!
//! Invariants:
//! - A prepare and a decide are sent once. Neither this module nor tonic, hyper or h2 below it
//!   sends a call again; what to do about a lost answer is the driver's business.
//! - A transport error proves nothing about what happened on the shard, so each call has a value
//!   for "unknown", and gets it. The one exception is an error while the connection was still
//!   being made, or before: then the request certainly never left.
//! - An answer from another shard, to another question, or one that cannot be read completely,
//!   counts as no answer.

mod attendance;
mod call;
mod check;
mod participant;

use gavel_protocol::{Limits, ShardTag};
use gavel_tls::Connector;
use gavel_wire::participant::participant_service_client::ParticipantServiceClient;
use gavel_wire::sizes;
use std::time::Duration;
use tonic::transport::{Channel, Endpoint};
use tower::service_fn;

use crate::serve::{PING_INTERVAL, PING_TIMEOUT};

/// When the operating system starts to probe a silent connection: behind the HTTP/2 pings.
pub const TCP_KEEPALIVE: Duration = Duration::from_secs(10);

/// The address of a participant is none.
#[derive(Debug, thiserror::Error)]
#[error("`{endpoint}` is not the address of a participant: use {scheme}://host:port")]
pub struct InvalidEndpoint {
    /// What was given.
    pub endpoint: String,
    /// What it should begin with.
    pub scheme: &'static str,
    /// What is wrong with it.
    #[source]
    pub source: Option<tonic::transport::Error>,
}

/// The participant of one shard, over the network.
pub struct RemoteParticipant {
    tag: ShardTag,
    client: ParticipantServiceClient<Channel>,
    deadlines: Deadlines,
    request_bytes_max: usize,
}

/// How long to wait for each kind of answer.
#[derive(Debug, Clone, Copy)]
struct Deadlines {
    prepare: Duration,
    decide: Duration,
    /// Everything that runs no client SQL.
    service: Duration,
}

impl RemoteParticipant {
    /// The participant of shard `tag` at `endpoint`: `http://host:port`, or `https://host:port`
    /// with a [`Connector`], which makes sure that it is that shard's. Connects with the first
    /// call, and again after a connection was lost. Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// When `endpoint` is not an address.
    pub fn connect_lazy(
        tag: ShardTag,
        endpoint: &str,
        limits: &Limits,
        connector: Option<Connector>,
    ) -> Result<Self, InvalidEndpoint> {
        let channel = channel(endpoint, limits, connector)?;
        let client = ParticipantServiceClient::new(channel)
            .max_encoding_message_size(sizes::request_bytes_max(limits))
            .max_decoding_message_size(sizes::answer_bytes_max(limits));
        Ok(Self {
            tag,
            client,
            deadlines: Deadlines {
                prepare: Duration::from_millis(limits.prepare_timeout_ms),
                decide: Duration::from_millis(limits.decide_timeout_ms),
                service: Duration::from_millis(limits.resolve_timeout_ms),
            },
            request_bytes_max: sizes::request_bytes_max(limits),
        })
    }
}

/// A channel to the service at `endpoint`, as to a participant: connected with the first call,
/// probed while it is idle.
///
/// # Errors
/// When `endpoint` is not an address.
pub fn channel(
    endpoint: &str,
    limits: &Limits,
    connector: Option<Connector>,
) -> Result<Channel, InvalidEndpoint> {
    let scheme = match connector {
        Some(_) => "https",
        None => "http",
    };
    let invalid = |source| InvalidEndpoint {
        endpoint: endpoint.to_owned(),
        scheme,
        source,
    };
    let parsed =
        Endpoint::from_shared(endpoint.to_owned()).map_err(|error| invalid(Some(error)))?;
    if parsed.uri().scheme_str() != Some(scheme) || parsed.uri().port_u16().is_none() {
        return Err(invalid(None));
    }
    let endpoint = without_tls_of_its_own(parsed)
        .connect_timeout(Duration::from_millis(limits.connect_timeout_ms))
        .tcp_nodelay(true)
        .tcp_keepalive(Some(TCP_KEEPALIVE))
        .http2_keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT)
        // The connection is idle most of the time for a driver that only attends, and it is
        // then that a silent death must be noticed.
        .keep_alive_while_idle(true)
        .initial_stream_window_size(sizes::STREAM_WINDOW_BYTES)
        .initial_connection_window_size(sizes::CONNECTION_WINDOW_BYTES);
    Ok(match connector {
        None => endpoint.connect_lazy(),
        Some(connector) => {
            let connect = service_fn(move |uri| connector.clone().connect(uri));
            endpoint.connect_with_connector_lazy(connect)
        }
    })
}

/// tonic refuses `https` where it is built with TLS and has not been told about any: ours is in the
/// connector. The requests keep their origin.
fn without_tls_of_its_own(endpoint: Endpoint) -> Endpoint {
    let origin = endpoint.uri().clone();
    let address = match origin.authority() {
        Some(authority) => format!("http://{authority}"),
        None => return endpoint,
    };
    match Endpoint::from_shared(address) {
        Ok(plain) => plain.origin(origin),
        Err(_) => endpoint,
    }
}
