//! A listener's side of a connection.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::either::Either;

use crate::certificate;
use crate::identity::Identity;
use crate::tls::Tls;

/// How long a caller may take for the handshake: one that never comes to its end must not hold a
/// connection.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// Whether callers must have a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientCertificates {
    /// There are other ways to say who one is.
    Optional,
    /// No connection without one.
    Required,
}

/// Who is at the other end of a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Peer {
    /// Without TLS: anybody who can reach this address.
    Unverified,
    /// With TLS, and without a certificate.
    Anonymous,
    /// Who has the key to a certificate of this deployment.
    Known(Arc<Identity>),
}

/// A connection, with or without TLS.
pub type ServerStream = Either<TcpStream, Box<TlsStream<TcpStream>>>;

/// Makes connections of sockets.
#[derive(Clone)]
pub enum Acceptor {
    /// As they are.
    Plain,
    /// After a handshake.
    Tls(Tls, ClientCertificates),
}

impl Acceptor {
    /// The connection, and who is at its other end. To be called in a task of the connection's
    /// own: it waits for the other side.
    ///
    /// # Errors
    /// The handshake failed or took longer than ten seconds, or the certificate is none of this
    /// deployment.
    pub async fn accept(&self, stream: TcpStream) -> io::Result<(ServerStream, Peer)> {
        let (tls, certificates) = match self {
            Self::Plain => return Ok((Either::Left(stream), Peer::Unverified)),
            Self::Tls(tls, certificates) => (tls, certificates),
        };
        let material = tls.current();
        let config = match certificates {
            ClientCertificates::Optional => &material.optional,
            ClientCertificates::Required => &material.required,
        };
        let handshake = TlsAcceptor::from(config.clone()).accept(stream);
        let stream = tokio::time::timeout(HANDSHAKE_TIMEOUT, handshake)
            .await
            .map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "no handshake in time"))??;
        let peer = match stream.get_ref().1.peer_certificates() {
            None | Some([]) => Peer::Anonymous,
            Some([own, ..]) => {
                let identity = certificate::identity(own).ok_or_else(|| {
                    refused("a certificate without exactly one identity of Gavel's")
                })?;
                if identity.deployment != *tls.deployment() {
                    return Err(refused(&format!("the certificate of `{identity}`")));
                }
                Peer::Known(Arc::new(identity))
            }
        };
        Ok((Either::Right(Box::new(stream)), peer))
    }
}

fn refused(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::PermissionDenied, what)
}
