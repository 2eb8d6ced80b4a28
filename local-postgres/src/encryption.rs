//! A server that speaks TLS.

use crate::folder::write_secret;
use crate::{Error, Mode, Server};

impl Server {
    /// Restarts the server with TLS: `certificate` and `key` in PEM. Connections without it stay
    /// possible. Does nothing where it is so already.
    ///
    /// # Errors
    /// [`Error::Io`] if the files cannot be written, [`Error::DidNotStart`] if PostgreSQL cannot
    /// use them.
    pub fn encrypt(&self, certificate: &str, key: &str) -> Result<(), Error> {
        let data = self.folder().join("data");
        let is_same = |name: &str, content: &str| {
            std::fs::read_to_string(data.join(name)).is_ok_and(|old| old.trim() == content.trim())
        };
        let is_on = self.sql("postgres", "SELECT 1 WHERE current_setting('ssl') = 'on'")?;
        if !is_on.is_empty() && is_same("server.crt", certificate) && is_same("server.key", key) {
            return Ok(());
        }
        for (name, content) in [("server.crt", certificate), ("server.key", key)] {
            let path = data.join(name);
            write_secret(&path, content.trim_end())?;
            self.account().take_over(&path)?;
        }
        self.sql("postgres", "ALTER SYSTEM SET ssl = on")?;
        self.restart(Mode::Fast)
    }
}
