//! A server that speaks TLS.

use crate::folder::write_secret;
use crate::{Error, Mode, Server};

impl Server {
    /// Restarts the server with TLS: `certificate` and `key` in PEM. Connections without it stay
    /// possible.
    ///
    /// # Errors
    /// [`Error::Io`] if the files cannot be written, [`Error::DidNotStart`] if PostgreSQL cannot
    /// use them.
    pub fn encrypt(&self, certificate: &str, key: &str) -> Result<(), Error> {
        for (name, content) in [("server.crt", certificate), ("server.key", key)] {
            let path = self.folder().join("data").join(name);
            write_secret(&path, content.trim_end())?;
            self.account().take_over(&path)?;
        }
        self.sql("postgres", "ALTER SYSTEM SET ssl = on")?;
        self.restart(Mode::Fast)
    }
}
