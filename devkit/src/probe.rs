//! Asks whether a process is ready, over plain sockets: one request does not need an HTTP client.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};

const POLL_EVERY: Duration = Duration::from_millis(20);
const ANSWER_LIMIT: Duration = Duration::from_secs(3);

/// What counts as ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Readiness {
    /// It accepts connections on this port: a participant listens only when its shard has been checked.
    Accepts(u16),
    /// It answers this path with 200, on this port.
    Answers(u16, &'static str),
}

pub(crate) fn is_ready(readiness: Readiness, tls: Option<&Arc<ClientConfig>>) -> bool {
    let (Readiness::Accepts(port) | Readiness::Answers(port, _)) = readiness;
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let Ok(stream) = TcpStream::connect_timeout(&address, ANSWER_LIMIT) else {
        return false;
    };
    match readiness {
        Readiness::Accepts(_) => true,
        Readiness::Answers(_, path) => answers(stream, path, tls).unwrap_or(false),
    }
}

fn answers(
    stream: TcpStream,
    path: &str,
    tls: Option<&Arc<ClientConfig>>,
) -> std::io::Result<bool> {
    stream.set_read_timeout(Some(ANSWER_LIMIT))?;
    let Some(tls) = tls else {
        return asks(stream, path);
    };
    let name = ServerName::IpAddress(Ipv4Addr::LOCALHOST.into());
    let session = ClientConnection::new(tls.clone(), name).map_err(std::io::Error::other)?;
    asks(StreamOwned::new(session, stream), path)
}

fn asks(mut stream: impl Read + Write, path: &str) -> std::io::Result<bool> {
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut status = [0; "HTTP/1.1 200".len()];
    stream.read_exact(&mut status)?;
    Ok(status.ends_with(b" 200"))
}

/// Whether a process of ours could listen on `port`.
pub(crate) fn is_free(port: u16) -> bool {
    // The standard library sets SO_REUSEADDR, so closed connections of earlier runs do not count.
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}

/// Waits until `condition` holds; `false` if it did not within `limit`.
pub(crate) fn wait_until(limit: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + limit;
    while !condition() {
        if Instant::now() >= deadline {
            return false;
        }
        thread::sleep(POLL_EVERY);
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Answers one request with `status`.
    fn serve_once(status: &'static str) -> u16 {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let port = listener.local_addr().expect("an address").port();
        thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("a connection");
            let mut request = [0; 1024];
            let _length = stream.read(&mut request).expect("a request");
            write!(stream, "HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n").expect("an answer");
        });
        port
    }

    #[test]
    fn ready_is_200_and_nothing_else() {
        let is_well = |status| is_ready(Readiness::Answers(serve_once(status), "/"), None);
        assert!(is_well("200 OK"));
        assert!(!is_well("503 Service Unavailable"));
        let closed = local_postgres::free_port().expect("a port");
        assert!(is_free(closed));
        assert!(!is_ready(Readiness::Accepts(closed), None));
    }
}
