//! How a client behaves towards its coordinators.

use std::fmt;
use std::path::Path;
use std::time::Duration;

use gavel_protocol::ShardMap;
use gavel_tls::Trust;

/// Options of [`crate::Gavel::connect_with`].
#[derive(Clone)]
pub struct Options {
    pub(crate) token: Option<String>,
    pub(crate) trust: Trust,
    pub(crate) connect_timeout: Duration,
    pub(crate) attempt_timeout: Duration,
    pub(crate) deadline: Duration,
    pub(crate) backoff_first: Duration,
    pub(crate) backoff_max: Duration,
    pub(crate) shards: Option<ShardMap>,
    pub(crate) message_bytes_max: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            token: None,
            trust: Trust::new(),
            connect_timeout: Duration::from_secs(2),
            attempt_timeout: Duration::from_secs(12),
            deadline: Duration::from_secs(30),
            backoff_first: Duration::from_millis(20),
            backoff_max: Duration::from_millis(500),
            shards: None,
            // Results of 16 shards at the default `result_bytes_max`, with framing.
            message_bytes_max: 80 << 20,
        }
    }
}

impl Options {
    /// The defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// The bearer token that says who this client is.
    pub fn token(mut self, token: impl Into<String>) -> Self {
        self.token = Some(token.into());
        self
    }

    /// The same, from a file, where secrets belong. White space around it is dropped.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn token_file(self, path: impl AsRef<Path>) -> std::io::Result<Self> {
        let token = std::fs::read_to_string(path)?;
        Ok(self.token(token.trim()))
    }

    /// Whom to trust at `https://…`, and which certificate to show. The default trusts the
    /// authorities of the operating system, and shows none.
    ///
    /// ```
    /// use gavel_client::{Options, Trust};
    ///
    /// let trust = Trust::new()
    ///     .authorities("tls/ca.pem")
    ///     .certificate("tls/orders.pem", "tls/orders.key");
    /// let options = Options::new().trust(trust);
    /// ```
    pub fn trust(mut self, trust: Trust) -> Self {
        self.trust = trust;
        self
    }

    /// How long to try to connect to one coordinator. Default 2 s.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// How long to wait for one answer before it counts as lost and is asked for again. Keep it
    /// above the coordinators' `submit_timeout_ms`, so that they answer first. Default 12 s.
    pub fn attempt_timeout(mut self, timeout: Duration) -> Self {
        self.attempt_timeout = timeout;
        self
    }

    /// How long a call may take in all, retries included. Default 30 s.
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// The pause before the first retry, and the longest pause. Pauses double, and each is
    /// drawn at random from the upper half of its length. Default 20 ms and 500 ms.
    pub fn backoff(mut self, first: Duration, max: Duration) -> Self {
        self.backoff_first = first;
        self.backoff_max = max.max(first);
        self
    }

    /// The shards, for a client that must start while no coordinator can be reached. Without
    /// it, the client asks a coordinator when it connects.
    pub fn shards(mut self, shards: ShardMap) -> Self {
        self.shards = Some(shards);
        self
    }

    /// The largest answer to accept, in bytes. Default 80 MiB.
    pub fn message_bytes_max(mut self, bytes: usize) -> Self {
        self.message_bytes_max = bytes;
        self
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("token", &self.token.as_ref().map(|_| "redacted"))
            .field("trust", &self.trust)
            .field("connect_timeout", &self.connect_timeout)
            .field("attempt_timeout", &self.attempt_timeout)
            .field("deadline", &self.deadline)
            .field("backoff_first", &self.backoff_first)
            .field("backoff_max", &self.backoff_max)
            .field("shards", &self.shards)
            .field("message_bytes_max", &self.message_bytes_max)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_never_shows() {
        let shown = format!("{:?}", Options::new().token("s3cret"));
        assert!(!shown.contains("s3cret"), "{shown}");
    }
}
