//! Our part of the server's configuration.
//!
//! It is a file beside the data folder that `postgresql.conf` includes, rewritten at every start:
//! what people write into `postgresql.conf` after the include, or set with ALTER SYSTEM, wins and
//! stays. Beside, not inside: as root we do not write where an unprivileged account may plant links.

use std::path::Path;

use crate::{Error, Options};

/// The line that `postgresql.conf` gets once; the path is relative to the data folder.
pub(crate) const INCLUDE_LINE: &str = "include = '../local-postgres.conf'";

/// All settings as the text of a configuration file.
pub(crate) fn text(options: &Options, port: u16, sockets: &Path) -> Result<String, Error> {
    let fsync = if options.fsync { "on" } else { "off" };
    let ours = [
        ("listen_addresses", "127.0.0.1".to_owned()),
        ("port", port.to_string()),
        ("unix_socket_directories", sockets.display().to_string()),
        ("max_connections", options.max_connections.to_string()),
        (
            "max_prepared_transactions",
            options.max_prepared_transactions.to_string(),
        ),
        ("fsync", fsync.to_owned()),
        ("full_page_writes", "on".to_owned()),
        ("synchronous_commit", "on".to_owned()),
        ("password_encryption", "scram-sha-256".to_owned()),
        // Several servers share one small machine.
        ("shared_buffers", "64MB".to_owned()),
        ("logging_collector", "off".to_owned()),
        ("log_line_prefix", "%m [%p] %q%u@%d ".to_owned()),
    ];
    let mut text =
        String::from("# Written at every start: change postgresql.conf or use ALTER SYSTEM.\n");
    let chosen = options
        .settings
        .iter()
        .map(|(name, value)| (name.as_str(), value));
    for (name, value) in ours
        .iter()
        .map(|(name, value)| (*name, value))
        .chain(chosen)
    {
        text.push_str(&setting_line(name, value)?);
    }
    Ok(text)
}

/// One line of a configuration file; quotes double, as PostgreSQL wants them.
fn setting_line(name: &str, value: &str) -> Result<String, Error> {
    let good_name = !name.is_empty()
        && name
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '.');
    if !good_name || value.contains(['\n', '\r', '\0']) {
        return Err(Error::BadSetting(name.to_owned()));
    }
    Ok(format!(
        "{name} = '{}'\n",
        value.replace('\\', "\\\\").replace('\'', "''")
    ))
}
