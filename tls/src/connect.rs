//! A caller's side of a connection.

use std::io;
use std::time::Duration;

use http::Uri;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::certificate;
use crate::identity::{Identity, Role};
use crate::tls::Tls;

/// Who must be at the other end, besides somebody whose certificate has the host's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expected {
    /// Whoever has that name: the authority does not give it to others.
    HostName,
    /// The participant of this shard: behind a wrong address may be another one's.
    Participant(String),
}

/// Connects to addresses with TLS.
#[derive(Clone)]
pub struct Connector {
    tls: Tls,
    expected: Expected,
    keepalive: Duration,
}

impl Connector {
    /// A connector that expects this; `keepalive` is when the operating system starts to probe a
    /// silent connection.
    pub fn new(tls: Tls, expected: Expected, keepalive: Duration) -> Self {
        Self {
            tls,
            expected,
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
        let connector = TlsConnector::from(self.tls.current().client.clone());
        let stream = connector.connect(name, stream).await?;
        self.check(&stream)?;
        Ok(TokioIo::new(stream))
    }

    fn check(&self, stream: &TlsStream<TcpStream>) -> io::Result<()> {
        let Expected::Participant(shard) = &self.expected else {
            return Ok(());
        };
        let certificates = stream.get_ref().1.peer_certificates().unwrap_or_default();
        let found = certificates.first().and_then(certificate::identity);
        let expected = Identity {
            deployment: self.tls.deployment().clone(),
            role: Role::Participant,
            name: shard.clone(),
        };
        match found {
            Some(found) if found == expected => Ok(()),
            Some(found) => Err(other(&format!("`{found}` instead of `{expected}`"))),
            None => Err(other(&format!("nobody known instead of `{expected}`"))),
        }
    }
}

fn other(what: &str) -> io::Error {
    io::Error::new(
        io::ErrorKind::PermissionDenied,
        format!("another service is at this address: {what}"),
    )
}
