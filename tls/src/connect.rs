//! A caller's side of a connection.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use gavel_protocol::ShardName;
use http::Uri;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use rustls::version::TLS13;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::certificate;
use crate::identity::{Identity, Role};
use crate::tls::Tls;
use crate::trust::Trust;

/// Connects to addresses with TLS.
#[derive(Clone)]
pub struct Connector {
    credentials: Credentials,
    keepalive: Duration,
}

#[derive(Clone)]
enum Credentials {
    /// Whoever has the host's name may be at the other end: the authority gives it to no other.
    Client(Trust),
    /// Only the participant of this shard: behind a wrong address may be another one's.
    Service(Tls, ShardName),
}

impl Connector {
    /// To coordinators, for clients. `keepalive` is when the operating system starts to probe a
    /// silent connection.
    pub fn of_client(trust: Trust, keepalive: Duration) -> Self {
        Self {
            credentials: Credentials::Client(trust),
            keepalive,
        }
    }

    /// To the participant of `shard`, for services.
    pub fn to_participant(tls: Tls, shard: ShardName, keepalive: Duration) -> Self {
        Self {
            credentials: Credentials::Service(tls, shard),
            keepalive,
        }
    }

    /// Connects to `uri`'s host and port.
    ///
    /// # Errors
    /// Nobody is there, or somebody else.
    pub async fn connect(self, uri: Uri) -> io::Result<TokioIo<TlsStream<TcpStream>>> {
        let invalid = |what: &str| io::Error::new(io::ErrorKind::InvalidInput, what.to_owned());
        let host = uri.host().ok_or_else(|| invalid("no host"))?;
        let port = uri.port_u16().ok_or_else(|| invalid("no port"))?;
        let host = host.trim_matches(['[', ']']);
        let name = ServerName::try_from(host.to_owned())
            .map_err(|_| invalid("a host that no certificate can name"))?;
        let stream = TcpStream::connect((host, port)).await?;
        stream.set_nodelay(true)?;
        let probes = socket2::TcpKeepalive::new().with_time(self.keepalive);
        socket2::SockRef::from(&stream).set_tcp_keepalive(&probes)?;
        let stream = match &self.credentials {
            Credentials::Client(trust) => {
                let mut config = trust
                    .client_config(&[&TLS13])
                    .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
                config.alpn_protocols = vec![b"h2".to_vec()];
                let connector = TlsConnector::from(Arc::new(config));
                connector.connect(name, stream).await?
            }
            Credentials::Service(tls, shard) => {
                let connector = TlsConnector::from(tls.current().client.clone());
                let stream = connector.connect(name, stream).await?;
                check(&stream, tls, shard)?;
                stream
            }
        };
        Ok(TokioIo::new(stream))
    }
}

fn check(stream: &TlsStream<TcpStream>, tls: &Tls, shard: &ShardName) -> io::Result<()> {
    let certificates = stream.get_ref().1.peer_certificates().unwrap_or_default();
    let found = certificates.first().and_then(certificate::identity);
    let expected = Identity {
        deployment: tls.deployment().clone(),
        role: Role::Participant,
        name: shard.to_string(),
    };
    match found {
        Some(found) if found == expected => Ok(()),
        Some(found) => Err(other(&format!("`{found}` instead of `{expected}`"))),
        None => Err(other(&format!("nobody known instead of `{expected}`"))),
    }
}

fn other(what: &str) -> io::Error {
    io::Error::new(
        io::ErrorKind::PermissionDenied,
        format!("another service is at this address: {what}"),
    )
}
