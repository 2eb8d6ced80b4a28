//! Connections to a server whose answers are given, for property tests and fuzzing. Not compiled
//! otherwise.

use std::io::Cursor;

use bytes::Bytes;
use futures::stream;
use gavel_protocol::Limits;
use tokio::io::{join, sink};
use tokio_util::io::StreamReader;

use super::Target;
use super::connect::ConnectError;
use super::connection::{Connection, Stream};

/// A server that answers `bytes`, in reads of `piece` bytes at most, and then hangs up. What is
/// sent to it is dropped.
fn server(bytes: &[u8], piece: usize) -> Box<dyn Stream> {
    let pieces: Vec<_> = bytes
        .chunks(piece.max(1))
        .map(|piece| std::io::Result::Ok(Cursor::new(Bytes::copy_from_slice(piece))))
        .collect();
    Box::new(join(StreamReader::new(stream::iter(pieces)), sink()))
}

/// A connection that is open already.
pub fn connection(bytes: &[u8], piece: usize) -> Connection {
    Connection::new(server(bytes, piece))
}

/// A connection that is being opened, by a role with a password.
///
/// # Errors
/// As when connecting.
pub async fn greet(bytes: &[u8], piece: usize) -> Result<Connection, ConnectError> {
    let url = "postgres://role:password@127.0.0.1/database";
    let target = Target::from_url(url, &Limits::default())?;
    target.greet(server(bytes, piece)).await
}
