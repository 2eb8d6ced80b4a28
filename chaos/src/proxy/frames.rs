//! PostgreSQL's messages, cut out of a stream of bytes and kept whole.

use std::io;

use bytes::{Bytes, BytesMut};
use postgres_protocol::message::backend::Header;
use tokio::io::{AsyncRead, AsyncReadExt};

/// One message, tag and length included.
#[derive(Debug, Clone)]
pub(super) struct Frame {
    pub(super) tag: u8,
    pub(super) bytes: Bytes,
}

impl Frame {
    /// What follows tag and length.
    pub(super) fn body(&self) -> Bytes {
        self.bytes.slice(5..)
    }
}

/// The messages of one direction of a connection, after its start-up packet.
#[derive(Debug, Default)]
pub(super) struct Frames {
    buffer: BytesMut,
}

impl Frames {
    /// The next message that has arrived already.
    pub(super) fn arrived(&mut self) -> io::Result<Option<Frame>> {
        let Some(header) = Header::parse(&self.buffer)? else {
            return Ok(None);
        };
        let length = usize::try_from(header.len()).map_err(io::Error::other)? + 1;
        if self.buffer.len() < length {
            self.buffer.reserve(length - self.buffer.len());
            return Ok(None);
        }
        Ok(Some(Frame {
            tag: header.tag(),
            bytes: self.buffer.split_to(length).freeze(),
        }))
    }

    /// Waits for the next message; `None` at the end.
    pub(super) async fn next(
        &mut self,
        stream: &mut (impl AsyncRead + Unpin),
    ) -> io::Result<Option<Frame>> {
        loop {
            if let Some(frame) = self.arrived()? {
                return Ok(Some(frame));
            }
            if stream.read_buf(&mut self.buffer).await? == 0 {
                return Ok(None);
            }
        }
    }
}

/// Reads fields of a message's body; `None` where it ends too soon.
pub(super) struct Fields(pub(super) Bytes);

impl Fields {
    pub(super) fn text(&mut self) -> Option<String> {
        let end = self.0.iter().position(|byte| *byte == 0)?;
        let text = String::from_utf8_lossy(&self.0[..end]).into_owned();
        self.0 = self.0.slice(end + 1..);
        Some(text)
    }

    pub(super) fn short(&mut self) -> Option<usize> {
        let bytes = self.take(2)?;
        Some(usize::from(u16::from_be_bytes([bytes[0], bytes[1]])))
    }

    /// A value that carries its length; -1 is NULL.
    pub(super) fn value(&mut self) -> Option<Option<Bytes>> {
        let bytes = self.take(4)?;
        let length = i32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        match usize::try_from(length) {
            Ok(length) => Some(Some(self.take(length)?)),
            Err(_) => Some(None),
        }
    }

    pub(super) fn take(&mut self, count: usize) -> Option<Bytes> {
        if self.0.len() < count {
            return None;
        }
        Some(self.0.split_to(count))
    }
}
