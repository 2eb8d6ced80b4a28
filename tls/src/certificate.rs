//! What is read from a certificate.

use std::time::SystemTime;

use rustls::pki_types::CertificateDer;
use sha2::{Digest as _, Sha256, Sha384, Sha512};
use x509_cert::Certificate;
use x509_cert::der::Decode as _;
use x509_cert::der::oid::db::rfc5912::{
    ECDSA_WITH_SHA_256, ECDSA_WITH_SHA_384, ECDSA_WITH_SHA_512, SHA_1_WITH_RSA_ENCRYPTION,
    SHA_256_WITH_RSA_ENCRYPTION, SHA_384_WITH_RSA_ENCRYPTION, SHA_512_WITH_RSA_ENCRYPTION,
};
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;

use crate::identity::Identity;

/// The identity in a certificate, if it has exactly one: with two of them, who asks could choose.
pub(crate) fn identity(certificate: &CertificateDer<'_>) -> Option<Identity> {
    let parsed = Certificate::from_der(certificate).ok()?;
    let (_critical, names) = parsed.tbs_certificate.get::<SubjectAltName>().ok()??;
    let mut found = names.0.iter().filter_map(|name| match name {
        GeneralName::UniformResourceIdentifier(uri) => uri.as_str().parse().ok(),
        _ => None,
    });
    let identity = found.next();
    identity.filter(|_| found.next().is_none())
}

/// When a certificate ends to be valid.
pub(crate) fn not_after(certificate: &CertificateDer<'_>) -> Option<SystemTime> {
    let parsed = Certificate::from_der(certificate).ok()?;
    Some(parsed.tbs_certificate.validity.not_after.to_system_time())
}

/// What binds a password exchange to the server that has this certificate: a hash of it, with the
/// function of its signature, or SHA-256 for the two that are broken. `None` for signatures that
/// have none (Ed25519).
///
/// Source: RFC 5929, section 4.1; `be_tls_get_certificate_hash` in PostgreSQL's
/// `src/backend/libpq/be-secure-openssl.c`.
pub(crate) fn end_point(certificate: &CertificateDer<'_>) -> Option<Vec<u8>> {
    let parsed = Certificate::from_der(certificate).ok()?;
    match parsed.signature_algorithm.oid {
        SHA_1_WITH_RSA_ENCRYPTION | SHA_256_WITH_RSA_ENCRYPTION | ECDSA_WITH_SHA_256 => {
            Some(Sha256::digest(certificate).to_vec())
        }
        SHA_384_WITH_RSA_ENCRYPTION | ECDSA_WITH_SHA_384 => {
            Some(Sha384::digest(certificate).to_vec())
        }
        SHA_512_WITH_RSA_ENCRYPTION | ECDSA_WITH_SHA_512 => {
            Some(Sha512::digest(certificate).to_vec())
        }
        _ => None,
    }
}
