//! What is in the files, as configurations of rustls.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::{Error as PemError, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::version::TLS13;
use rustls::{ClientConfig, RootCertStore, ServerConfig};

use crate::certificate;
use crate::identity::Identity;
use crate::tls::TlsFiles;

/// Certificates or keys that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("{path} cannot be read")]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        cause: io::Error,
    },
    /// A file is not what it should be.
    #[error("{path} holds no {what} in PEM")]
    NotPem {
        /// Which.
        path: PathBuf,
        /// What it should hold.
        what: &'static str,
        /// What is wrong.
        #[source]
        cause: PemError,
    },
    /// The certificate has ended.
    #[error("the certificate {path} is not valid any more: have it signed again")]
    Expired {
        /// Which.
        path: PathBuf,
    },
    /// Somebody else's certificate.
    #[error("the certificate {path} is that of `{found}`, not one of deployment `{wanted}`")]
    OtherDeployment {
        /// Which.
        path: PathBuf,
        /// What it says.
        found: Identity,
        /// What it should say.
        wanted: gavel_protocol::DeploymentName,
    },
    /// Key, certificate and authority do not fit together.
    #[error("{certificate} and {key} cannot be used together")]
    Mismatch {
        /// The certificate.
        certificate: PathBuf,
        /// The key.
        key: PathBuf,
        /// What rustls says.
        #[source]
        cause: rustls::Error,
    },
    /// The authority's file cannot be used.
    #[error("{path} holds no authority that can be trusted: {what}")]
    Authority {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
}

/// One reading of the files.
pub(crate) struct Material {
    /// For listeners that do with callers without a certificate.
    pub(crate) optional: Arc<ServerConfig>,
    /// For listeners that do not.
    pub(crate) required: Arc<ServerConfig>,
    pub(crate) client: Arc<ClientConfig>,
    pub(crate) not_after: Option<SystemTime>,
    pub(crate) identity: Option<Identity>,
}

/// The bytes of the files: when they are the same, nothing has changed.
#[derive(PartialEq, Eq)]
pub(crate) struct Contents {
    authority: Vec<u8>,
    certificate: Vec<u8>,
    key: Vec<u8>,
}

impl Contents {
    pub(crate) fn read(files: &TlsFiles) -> Result<Self, TlsError> {
        Ok(Self {
            authority: read(&files.ca)?,
            certificate: read(&files.certificate)?,
            key: read(&files.key)?,
        })
    }

    pub(crate) fn material(&self, files: &TlsFiles) -> Result<Material, TlsError> {
        let roots = Arc::new(roots(&files.ca, &self.authority)?);
        let chain = certificates(&files.certificate, &self.certificate)?;
        let own = chain.first();
        let not_after = own.and_then(certificate::not_after);
        if not_after.is_some_and(|end| end <= SystemTime::now()) {
            let path = files.certificate.clone();
            return Err(TlsError::Expired { path });
        }
        let key = PrivateKeyDer::from_pem_slice(&self.key).map_err(|cause| TlsError::NotPem {
            path: files.key.clone(),
            what: "private key",
            cause,
        })?;
        let mismatch = |cause| TlsError::Mismatch {
            certificate: files.certificate.clone(),
            key: files.key.clone(),
            cause,
        };
        let verifier = |is_optional: bool| {
            let builder = WebPkiClientVerifier::builder_with_provider(roots.clone(), provider());
            let builder = match is_optional {
                true => builder.allow_unauthenticated(),
                false => builder,
            };
            builder.build().map_err(|error| TlsError::Authority {
                path: files.ca.clone(),
                what: error.to_string(),
            })
        };
        let server = |is_optional| {
            let mut config = ServerConfig::builder_with_provider(provider())
                .with_protocol_versions(&[&TLS13])
                .map_err(mismatch)?
                .with_client_cert_verifier(verifier(is_optional)?)
                .with_single_cert(chain.clone(), key.clone_key())
                .map_err(mismatch)?;
            config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
            Ok(Arc::new(config))
        };
        let mut client = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&TLS13])
            .map_err(mismatch)?
            .with_root_certificates(roots.clone())
            .with_client_auth_cert(chain.clone(), key.clone_key())
            .map_err(mismatch)?;
        client.alpn_protocols = vec![b"h2".to_vec()];
        Ok(Material {
            optional: server(true)?,
            required: server(false)?,
            client: Arc::new(client),
            not_after,
            identity: own.and_then(certificate::identity),
        })
    }
}

/// One implementation of cryptography everywhere, whatever other crates set as the process's.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

pub(crate) fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    fs::read(path).map_err(|cause| TlsError::Unreadable {
        path: path.to_owned(),
        cause,
    })
}

pub(crate) fn certificates(
    path: &Path,
    pem: &[u8],
) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let not_pem = |cause| TlsError::NotPem {
        path: path.to_owned(),
        what: "certificate",
        cause,
    };
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let found = found.map_err(not_pem)?;
    match found.is_empty() {
        true => Err(not_pem(PemError::NoItemsFound)),
        false => Ok(found),
    }
}

pub(crate) fn roots(path: &Path, pem: &[u8]) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path, pem)? {
        roots
            .add(certificate)
            .map_err(|error| TlsError::Authority {
                path: path.to_owned(),
                what: error.to_string(),
            })?;
    }
    Ok(roots)
}
