//! Whom a caller trusts, and which certificate it shows.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};

use crate::material::{TlsError, certificates, provider, read, roots};

/// Whom a caller trusts, and which certificate it shows, if any. Files are read for each
/// connection: what was replaced is used by the next one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Trust {
    authorities: Option<PathBuf>,
    own: Option<(PathBuf, PathBuf)>,
}

impl Trust {
    /// Trusts the authorities of this machine's operating system, and shows no certificate.
    pub fn new() -> Self {
        Self::default()
    }

    /// Trusts those in this file instead, in PEM.
    pub fn authorities(mut self, file: impl AsRef<Path>) -> Self {
        self.authorities = Some(file.as_ref().to_owned());
        self
    }

    /// Shows this certificate, whose private key is there; both in PEM.
    pub fn certificate(mut self, certificate: impl AsRef<Path>, key: impl AsRef<Path>) -> Self {
        self.own = Some((certificate.as_ref().to_owned(), key.as_ref().to_owned()));
        self
    }

    /// The file with the authorities, if it is not the system that knows them.
    pub(crate) fn authorities_file(&self) -> Option<&Path> {
        self.authorities.as_deref()
    }

    /// Certificate and key.
    pub(crate) fn own_files(&self) -> Option<&(PathBuf, PathBuf)> {
        self.own.as_ref()
    }

    /// Reads the files.
    ///
    /// # Errors
    /// What is wrong with which file.
    pub fn client_config(
        &self,
        versions: &[&'static SupportedProtocolVersion],
    ) -> Result<ClientConfig, TlsError> {
        let roots = match &self.authorities {
            Some(path) => roots(path, &read(path)?)?,
            None => system_roots().clone(),
        };
        let builder = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(versions)
            .expect("ring has the cipher suites of these versions")
            .with_root_certificates(roots);
        let Some((certificate, key)) = &self.own else {
            return Ok(builder.with_no_client_auth());
        };
        let chain = certificates(certificate, &read(certificate)?)?;
        let secret =
            PrivateKeyDer::from_pem_slice(&read(key)?).map_err(|cause| TlsError::NotPem {
                path: key.clone(),
                what: "private key",
                cause,
            })?;
        let config = builder.with_client_auth_cert(chain, secret);
        config.map_err(|cause| TlsError::Mismatch {
            certificate: certificate.clone(),
            key: key.clone(),
            cause,
        })
    }
}

/// Read once: there are more than a hundred.
fn system_roots() -> &'static RootCertStore {
    static ROOTS: OnceLock<RootCertStore> = OnceLock::new();
    ROOTS.get_or_init(|| {
        let found = rustls_native_certs::load_native_certs();
        for error in &found.errors {
            tracing::warn!(%error, "some of the system's authorities cannot be read");
        }
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(found.certs);
        roots
    })
}
