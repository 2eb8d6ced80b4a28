//! What a caller can choose about a server.

use crate::Error;

/// How to set up a server. Start from [`Options::new`] and change what differs.
#[derive(Clone, Debug)]
pub struct Options {
    /// Name used in messages and as the folder's name in a [`crate::Cluster`].
    pub name: String,
    /// TCP port on 127.0.0.1; `None` keeps the port of earlier runs, or picks a free one.
    pub port: Option<u16>,
    /// Prepared transactions the server can hold at once; 0 refuses every PREPARE TRANSACTION.
    pub max_prepared_transactions: u32,
    /// Client connections the server accepts.
    pub max_connections: u32,
    /// Whether commits reach the disk; off only where losing data is the purpose.
    pub fsync: bool,
    /// Further settings for `postgresql.conf`: name and unquoted value. They win over the above.
    pub settings: Vec<(String, String)>,
    /// `true`: run `initdb`, so that the server has a system identifier of its own.
    /// `false`: copy a cached data folder, which is quicker, but such servers share the identifier.
    pub fresh_initdb: bool,
}

impl Options {
    /// Durable defaults: free port, 64 prepared transactions, 200 connections, own `initdb`.
    ///
    /// `name` must match `^[a-z][a-z0-9_]{0,62}$`; that is checked when the server is created.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            port: None,
            max_prepared_transactions: 64,
            max_connections: 200,
            fsync: true,
            settings: Vec::new(),
            fresh_initdb: true,
        }
    }

    /// As [`Options::new`], but copied from the cached template: for tests.
    #[must_use]
    pub fn for_tests(name: &str) -> Self {
        Self {
            fresh_initdb: false,
            ..Self::new(name)
        }
    }

    /// Adds one line to `postgresql.conf`; the value is quoted for you.
    #[must_use]
    pub fn setting(mut self, name: &str, value: &str) -> Self {
        self.settings.push((name.to_owned(), value.to_owned()));
        self
    }
}

/// How a server is told to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Ends sessions, writes a checkpoint, leaves a clean data folder (SIGINT).
    Fast,
    /// Ends at once without a checkpoint; the next start recovers from WAL (SIGQUIT).
    Immediate,
}

/// Accepts names that need no quoting in SQL, in paths or in URLs.
pub(crate) fn check_name(name: &str) -> Result<(), Error> {
    let tail = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    let good = name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.len() <= 63
        && name.chars().all(tail);
    if good {
        Ok(())
    } else {
        Err(Error::BadName(name.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::check_name;

    #[test]
    fn names_that_would_need_quoting_are_refused() {
        for bad in [
            "",
            "1a",
            "A",
            "a-b",
            "a b",
            "a\"b",
            "_a",
            "é",
            &"a".repeat(64),
        ] {
            assert!(check_name(bad).is_err(), "{bad:?}");
        }
        for good in ["a", "bank_1", &"a".repeat(63)] {
            assert!(check_name(good).is_ok(), "{good:?}");
        }
    }
}
