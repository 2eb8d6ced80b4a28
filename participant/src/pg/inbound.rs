//! Messages from a server, one at a time, without holding more of them than is wanted.
//!
//! `Message::parse` makes room for as much as a message's header announces, up to 4 GiB, and has
//! the whole message before anybody can say that it is too large. So headers are read here first:
//! a row beyond what its statement may still return is passed over as it arrives, and any other
//! message has a limit.

use std::io;

use bytes::{Buf, BytesMut};
use postgres_protocol::message::backend::{DATA_ROW_TAG, Header, Message};
use tokio::io::{AsyncRead, AsyncReadExt};

/// Longest message, other than a row with a limit of its own. Errors and notices carry texts of
/// the client's; Gavel's own statements return a few numbers.
const MESSAGE_BYTES_MAX: usize = 64 << 20;

/// A row's length and its number of columns, which stand before its values.
const ROW_HEADER_BYTES: usize = 6;

/// What a server said.
pub(super) enum Received {
    /// A message.
    Message(Message),
    /// A row with more bytes than were allowed, which are gone.
    RowTooLarge,
}

/// What has arrived and was not read yet.
pub(super) struct Inbound(BytesMut);

impl Inbound {
    pub(super) fn new() -> Self {
        Self(BytesMut::with_capacity(8192))
    }

    /// The next message. Rows may have `row_bytes_max` bytes; `usize::MAX` means that this is no
    /// result of a client's.
    pub(super) async fn next(
        &mut self,
        stream: &mut (impl AsyncRead + Unpin),
        row_bytes_max: usize,
    ) -> io::Result<Received> {
        loop {
            if let Some(header) = Header::parse(&self.0)? {
                let length = usize::try_from(header.len()).unwrap_or(usize::MAX);
                let is_limited_row = header.tag() == DATA_ROW_TAG && row_bytes_max < usize::MAX;
                if is_limited_row && length.saturating_sub(ROW_HEADER_BYTES) > row_bytes_max {
                    self.pass_over(stream, length.saturating_add(1)).await?;
                    return Ok(Received::RowTooLarge);
                }
                if !is_limited_row && length > MESSAGE_BYTES_MAX {
                    let message = format!("a message of {length} bytes from PostgreSQL");
                    return Err(io::Error::new(io::ErrorKind::InvalidData, message));
                }
                if let Some(message) = Message::parse(&mut self.0)? {
                    return Ok(Received::Message(message));
                }
            }
            self.read_more(stream).await?;
        }
    }

    async fn pass_over(
        &mut self,
        stream: &mut (impl AsyncRead + Unpin),
        mut bytes: usize,
    ) -> io::Result<()> {
        loop {
            let here = bytes.min(self.0.len());
            self.0.advance(here);
            bytes -= here;
            if bytes == 0 {
                return Ok(());
            }
            self.read_more(stream).await?;
        }
    }

    async fn read_more(&mut self, stream: &mut (impl AsyncRead + Unpin)) -> io::Result<()> {
        match stream.read_buf(&mut self.0).await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn received(bytes: &[u8], row_bytes_max: usize) -> (io::Result<Received>, Inbound) {
        let mut inbound = Inbound::new();
        let mut stream = bytes;
        (inbound.next(&mut stream, row_bytes_max).await, inbound)
    }

    fn header(kind: u8, length: u32) -> Vec<u8> {
        [&[kind][..], &length.to_be_bytes()].concat()
    }

    #[tokio::test]
    async fn no_room_is_made_for_what_was_only_announced() {
        for (kind, length) in [
            (b'D', u32::MAX),
            (b'D', 1 << 30),
            (b'E', 1 << 30),
            (b'N', 3),
        ] {
            let (received, inbound) = received(&header(kind, length), usize::MAX).await;
            let error = received.err().expect("an error");
            assert_ne!(error.kind(), io::ErrorKind::UnexpectedEof, "{length}");
            assert!(inbound.0.capacity() < 1 << 20);
        }
    }

    #[tokio::test]
    async fn a_row_that_is_too_large_is_passed_over_and_not_held() {
        const LENGTH: u32 = 8 << 20;
        let mut bytes = header(b'D', LENGTH);
        bytes.resize(LENGTH as usize + 1, b'x');
        bytes.extend(header(b's', 4));
        let mut stream = bytes.as_slice();
        let mut inbound = Inbound::new();
        let row = inbound.next(&mut stream, 1000).await.expect("a row");
        assert!(matches!(row, Received::RowTooLarge));
        assert!(inbound.0.capacity() < 1 << 20, "{}", inbound.0.capacity());
        let next = inbound.next(&mut stream, 1000).await.expect("the next");
        assert!(matches!(next, Received::Message(Message::PortalSuspended)));
    }

    #[tokio::test]
    async fn a_row_of_the_allowed_size_is_kept() {
        let row = [header(b'D', 11), vec![0, 1, 0, 0, 0, 1, b'x']].concat();
        let (kept, _) = received(&row, 5).await;
        assert!(matches!(kept, Ok(Received::Message(Message::DataRow(_)))));
        let (too_large, _) = received(&row, 4).await;
        assert!(matches!(too_large, Ok(Received::RowTooLarge)));
    }
}
