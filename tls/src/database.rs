//! Connections to PostgreSQL: the address says whether they are encrypted.
//!
//! There are two ways, and no third: `sslmode=disable`, and `sslmode=verify-full`, which is what an
//! address beyond loopback means when it says nothing. Modes that encrypt without knowing for whom
//! (`prefer`, `require`, `verify-ca`) keep out only those who do not try.

use std::fmt;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use rustls::pki_types::ServerName;
use rustls::{ALL_VERSIONS, ClientConfig};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_postgres::config::{Host, SslMode};
use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres_rustls::MakeRustlsConnect;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::certificate;
use crate::material::TlsError;
use crate::trust::Trust;

/// An encrypted connection, and what binds a password exchange to it (RFC 5929,
/// `tls-server-end-point`), if the server's certificate has a hash function.
pub type DatabaseStream<S> = (TlsStream<S>, Option<Vec<u8>>);

/// The address of a database, with the parameters that are about TLS taken out.
#[derive(Clone)]
pub struct DatabaseUrl {
    /// Everything else. Its `ssl_mode` fits `tls`.
    pub config: tokio_postgres::Config,
    /// How connections are encrypted.
    pub tls: DatabaseTls,
}

/// An address that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseUrlError {
    /// PostgreSQL's own part.
    #[error("{0}")]
    Address(String),
    /// A mode that does not know the server.
    #[error(
        "sslmode={0} does not check who the server is: use sslmode=verify-full (with \
         sslrootcert=FILE, or the system's authorities), or sslmode=disable"
    )]
    WeakMode(String),
    /// Parameters about TLS without TLS.
    #[error("{0} needs sslmode=verify-full")]
    NeedsTls(&'static str),
    /// A second address beside the name.
    #[error("hostaddr is not supported: put the address into host")]
    TwoAddresses,
    /// Half of a pair.
    #[error("sslcert and sslkey belong together")]
    HalfCertificate,
}

impl FromStr for DatabaseUrl {
    type Err = DatabaseUrlError;
    fn from_str(url: &str) -> Result<Self, DatabaseUrlError> {
        Self::parse(url)
    }
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Without the password.
        fmt::Debug::fmt(&self.config, f)
    }
}

impl DatabaseUrl {
    /// Reads `postgres://…` with libpq's `sslmode` (`disable` or `verify-full`), `sslrootcert` (a
    /// file, or `system`), `sslcert` and `sslkey`.
    ///
    /// # Errors
    /// What cannot be used. The message has no password in it.
    pub fn parse(url: &str) -> Result<Self, DatabaseUrlError> {
        let (plain, asked) = split(url);
        let mut config: tokio_postgres::Config = plain.parse().map_err(not_an_address)?;
        if !config.get_hostaddrs().is_empty() {
            return Err(DatabaseUrlError::TwoAddresses);
        }
        let is_local = config.get_hosts().iter().all(is_local);
        let is_verified = match asked.mode.as_deref() {
            None => !is_local,
            Some("disable") => false,
            Some("verify-full") => true,
            Some(weak) => return Err(DatabaseUrlError::WeakMode(weak.to_owned())),
        };
        if !is_verified {
            config.ssl_mode(SslMode::Disable);
            let tls = DatabaseTls(None);
            return match asked.first_file() {
                Some(name) => Err(DatabaseUrlError::NeedsTls(name)),
                None => Ok(Self { config, tls }),
            };
        }
        config.ssl_mode(SslMode::Require);
        let mut trust = Trust::new();
        if let Some(file) = asked.authorities.filter(|file| file != Path::new("system")) {
            trust = trust.authorities(file);
        }
        trust = match (asked.certificate, asked.key) {
            (None, None) => trust,
            (Some(certificate), Some(key)) => trust.certificate(certificate, key),
            _ => return Err(DatabaseUrlError::HalfCertificate),
        };
        let tls = DatabaseTls(Some(trust));
        Ok(Self { config, tls })
    }

    /// The same address with its `sslmode` written out, for libraries that have other defaults.
    ///
    /// # Errors
    /// As [`Self::parse`].
    pub fn spelled_out(url: &str) -> Result<String, DatabaseUrlError> {
        let parsed = Self::parse(url)?;
        let (plain, _) = split(url);
        let mut all = format!("{plain}{}", if plain.contains('?') { '&' } else { '?' });
        let Some(trust) = parsed.tls.0 else {
            all.push_str("sslmode=disable");
            return Ok(all);
        };
        all.push_str("sslmode=verify-full");
        let authorities = trust.authorities_file().map(|file| ("sslrootcert", file));
        let own = trust.own_files().into_iter();
        let own = own.flat_map(|(certificate, key)| {
            [
                ("sslcert", certificate.as_path()),
                ("sslkey", key.as_path()),
            ]
        });
        for (name, file) in authorities.into_iter().chain(own) {
            let file = file.to_string_lossy();
            let file = utf8_percent_encode(&file, NON_ALPHANUMERIC);
            all.push_str(&format!("&{name}={file}"));
        }
        Ok(all)
    }

    /// Whether passwords and rows cross a network in the clear.
    pub fn is_exposed(&self) -> bool {
        self.tls.0.is_none() && !self.config.get_hosts().iter().all(is_local)
    }
}

fn not_an_address(error: tokio_postgres::Error) -> DatabaseUrlError {
    // The parser's cause names the option, never its value.
    let cause = std::error::Error::source(&error).map(ToString::to_string);
    DatabaseUrlError::Address(cause.unwrap_or_else(|| error.to_string()))
}

fn is_local(host: &Host) -> bool {
    match host {
        Host::Unix(_) => true,
        Host::Tcp(name) => {
            let ip = name.parse::<IpAddr>();
            name == "localhost" || ip.is_ok_and(|ip| ip.to_canonical().is_loopback())
        }
    }
}

/// What an address asks of TLS.
#[derive(Default)]
struct Asked {
    mode: Option<String>,
    authorities: Option<PathBuf>,
    certificate: Option<PathBuf>,
    key: Option<PathBuf>,
}

impl Asked {
    fn first_file(&self) -> Option<&'static str> {
        let files = [
            ("sslrootcert", &self.authorities),
            ("sslcert", &self.certificate),
            ("sslkey", &self.key),
        ];
        let mut given = files.into_iter().filter(|(_, file)| file.is_some());
        given.next().map(|(name, _)| name)
    }
}

/// The address without what `tokio-postgres` does not know, and that.
fn split(url: &str) -> (String, Asked) {
    // A password may have a question mark.
    let credentials_end = url.find('@').unwrap_or(0);
    let Some(query) = url[credentials_end..].find('?') else {
        return (url.to_owned(), Asked::default());
    };
    let (address, query) = url.split_at(credentials_end + query);
    let mut asked = Asked::default();
    let kept = query[1..].split('&').filter(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let value = percent_decode_str(value).decode_utf8_lossy().into_owned();
        match name {
            "sslmode" => asked.mode = Some(value),
            "sslrootcert" => asked.authorities = Some(value.into()),
            "sslcert" => asked.certificate = Some(value.into()),
            "sslkey" => asked.key = Some(value.into()),
            _ => return !pair.is_empty(),
        }
        false
    });
    let kept = kept.collect::<Vec<_>>().join("&");
    let plain = match kept.is_empty() {
        true => address.to_owned(),
        false => format!("{address}?{kept}"),
    };
    (plain, asked)
}

/// How connections to a database are encrypted, for [`tokio_postgres`] and for streams. Files are
/// read for each connection: a certificate that was replaced is used by the next one.
#[derive(Clone)]
pub struct DatabaseTls(Option<Trust>);

impl DatabaseTls {
    /// Whether there is any encryption.
    pub fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// Makes a connection to `host`, whose server has agreed to TLS, an encrypted one.
    ///
    /// # Errors
    /// A file cannot be used, or the server is another one.
    pub async fn encrypt<S>(&self, host: &str, stream: S) -> io::Result<DatabaseStream<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let name = ServerName::try_from(host.to_owned())
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        let config = self.client_config().map_err(io::Error::other)?;
        let connector = TlsConnector::from(Arc::new(config));
        let stream = connector.connect(name, stream).await?;
        let certificates = stream.get_ref().1.peer_certificates().unwrap_or_default();
        let binding = certificates.first().and_then(certificate::end_point);
        Ok((stream, binding))
    }

    fn client_config(&self) -> Result<ClientConfig, TlsError> {
        // Never used without TLS: `tokio-postgres` wants one, even for `sslmode=disable`.
        let trust = self.0.clone().unwrap_or_default();
        trust.client_config(ALL_VERSIONS)
    }
}

impl<S> MakeTlsConnect<S> for DatabaseTls
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    type Stream = <MakeRustlsConnect as MakeTlsConnect<S>>::Stream;
    type TlsConnect = <MakeRustlsConnect as MakeTlsConnect<S>>::TlsConnect;
    type Error = TlsError;

    fn make_tls_connect(&mut self, host: &str) -> Result<Self::TlsConnect, TlsError> {
        let mut connector = MakeRustlsConnect::new(self.client_config()?);
        let made = MakeTlsConnect::<S>::make_tls_connect(&mut connector, host);
        made.map_err(|never| match never {})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(url: &str) -> Result<DatabaseUrl, DatabaseUrlError> {
        DatabaseUrl::parse(url)
    }

    #[test]
    fn beyond_loopback_encryption_is_what_nothing_means() {
        for (url, is_on) in [
            ("postgres://a@127.0.0.1/d", false),
            ("postgres://a@localhost:1/d", false),
            ("postgres://a@[::1]/d", false),
            ("postgres://a@%2Frun%2Fpostgresql/d", false),
            ("postgres:///d?host=/run/postgresql&user=a", false),
            ("postgres://a@db.example/d", true),
            ("postgres://a@10.0.0.1/d?application_name=x", true),
            ("postgres://a@db.example/d?sslmode=disable", false),
            ("postgres://a@127.0.0.1/d?sslmode=verify-full", true),
            ("postgres://a:b?c@db/d?sslmode=disable", false),
        ] {
            let parsed = parse(url).map_err(|error| panic!("{url}: {error}"));
            assert_eq!(parsed.unwrap().tls.is_on(), is_on, "{url}");
        }
    }

    #[test]
    fn what_is_exposed_is_known() {
        let exposed = |url: &str| parse(url).unwrap().is_exposed();
        assert!(exposed("postgres://a@db.example/d?sslmode=disable"));
        assert!(!exposed("postgres://a@db.example/d"));
        assert!(!exposed("postgres://a@127.0.0.1/d"));
    }

    #[test]
    fn parameters_about_tls_are_taken_out_and_others_stay() {
        let url = "postgres://a@db/d?sslmode=verify-full&sslrootcert=%2Fca%20file&application_name=x\
                   &sslcert=c&sslkey=k&connect_timeout=3";
        let parsed = parse(url).unwrap();
        assert_eq!(parsed.config.get_application_name(), Some("x"));
        assert!(parsed.config.get_connect_timeout().is_some());
        let expected = Trust::new().authorities("/ca file").certificate("c", "k");
        assert_eq!(parsed.tls.0, Some(expected));
    }

    #[test]
    fn an_address_that_is_spelled_out_means_the_same() {
        for (url, expected) in [
            (
                "postgres://a@localhost/d",
                "postgres://a@localhost/d?sslmode=disable",
            ),
            (
                "postgres://a@db/d?user=b",
                "postgres://a@db/d?user=b&sslmode=verify-full",
            ),
            (
                "postgres://a@db/d?sslrootcert=/ca",
                "postgres://a@db/d?sslmode=verify-full&sslrootcert=%2Fca",
            ),
        ] {
            let all = DatabaseUrl::spelled_out(url).unwrap();
            assert_eq!(all, expected);
            assert_eq!(DatabaseUrl::spelled_out(&all).unwrap(), expected);
        }
    }

    #[test]
    fn weak_and_contradictory_addresses_are_refused() {
        for (url, message) in [
            (
                "postgres://a:secret@db/d?sslmode=require",
                "sslmode=require",
            ),
            ("postgres://a:secret@db/d?sslmode=prefer", "sslmode=prefer"),
            ("postgres://a:secret@127.0.0.1/d?sslmode=", "sslmode="),
            (
                "postgres://a:secret@127.0.0.1/d?sslrootcert=x",
                "sslrootcert needs",
            ),
            ("postgres://a:secret@db/d?sslcert=x", "belong together"),
            (
                "postgres://a:secret@localhost/d?hostaddr=10.0.0.1",
                "hostaddr",
            ),
            ("postgres://a:secret@db/d?nonsense=1", "nonsense"),
        ] {
            let Err(error) = parse(url) else {
                panic!("{url}")
            };
            let text = error.to_string();
            assert!(text.contains(message), "{url}: {text}");
            assert!(!text.contains("secret"), "{text}");
        }
    }
}
