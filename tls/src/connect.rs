//! A caller's side of a connection.

use std::fmt;
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
use crate::identity::Role;
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
    /// Only this service: behind a wrong address may be another one.
    Service(Tls, Expected),
}

/// Which service is meant.
#[derive(Debug, Clone)]
enum Expected {
    /// The participant of this shard.
    Participant(ShardName),
    /// Any coordinator.
    Coordinator,
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
            credentials: Credentials::Service(tls, Expected::Participant(shard)),
            keepalive,
        }
    }

    /// To a coordinator, for services: it sees who calls.
    pub fn to_coordinator(tls: Tls, keepalive: Duration) -> Self {
        Self {
            credentials: Credentials::Service(tls, Expected::Coordinator),
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
            Credentials::Service(tls, expected) => {
                let connector = TlsConnector::from(tls.current().client.clone());
                let stream = connector.connect(name, stream).await?;
                check(&stream, tls, expected)?;
                stream
            }
        };
        Ok(TokioIo::new(stream))
    }
}

fn check(stream: &TlsStream<TcpStream>, tls: &Tls, expected: &Expected) -> io::Result<()> {
    let certificates = stream.get_ref().1.peer_certificates().unwrap_or_default();
    let Some(found) = certificates.first().and_then(certificate::identity) else {
        return Err(other(&format!("nobody known instead of {expected}")));
    };
    let is_meant = found.deployment == *tls.deployment()
        && match expected {
            Expected::Participant(shard) => {
                found.role == Role::Participant && found.name == shard.as_str()
            }
            Expected::Coordinator => found.role == Role::Coordinator,
        };
    match is_meant {
        true => Ok(()),
        false => Err(other(&format!("`{found}` instead of {expected}"))),
    }
}

impl fmt::Display for Expected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Participant(shard) => write!(f, "the participant of shard `{shard}`"),
            Self::Coordinator => f.write_str("a coordinator"),
        }
    }
}

fn other(what: &str) -> io::Error {
    io::Error::new(
        io::ErrorKind::PermissionDenied,
        format!("another service is at this address: {what}"),
    )
}
