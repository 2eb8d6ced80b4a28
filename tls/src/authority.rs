//! A certificate authority in two files, for development, tests, and whoever has none.
//!
//! Its key is on the machine that signs: keep it off the servers. Whoever has a PKI signs with
//! that; an identity is all that Gavel needs in a certificate.

use std::time::{Duration, SystemTime};

use gavel_protocol::DeploymentName;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, SanType,
};

use crate::identity::Identity;

/// How long the authority itself is good for.
const AUTHORITY_DAYS: u64 = 3650;

/// Clocks of other machines may be behind.
const BACKDATED: Duration = Duration::from_hours(24);

/// Signs certificates for one deployment.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: String,
}

/// A certificate and its private key, in PEM.
pub struct Issued {
    /// The certificate.
    pub certificate: String,
    /// The key.
    pub key: String,
}

/// What a certificate is to say.
pub struct Request {
    /// Who has it; nobody of Gavel's, such as a PostgreSQL server, without it.
    pub identity: Option<Identity>,
    /// Names and IP addresses under which others connect to it. Without any it is no server.
    pub hosts: Vec<String>,
    /// How long it is good for.
    pub days: u64,
}

/// Why nothing was signed.
#[derive(Debug, thiserror::Error)]
#[error("the certificate cannot be made")]
pub struct NotIssued(#[from] rcgen::Error);

impl Authority {
    /// A new authority with a new key.
    ///
    /// # Errors
    /// The system has no randomness.
    pub fn new(deployment: &DeploymentName) -> Result<(Self, Issued), NotIssued> {
        let key = KeyPair::generate()?;
        let params = parameters(deployment);
        let issued = Issued {
            certificate: params.self_signed(&key)?.pem(),
            key: key.serialize_pem(),
        };
        let authority = Self {
            certificate: issued.certificate.clone(),
            issuer: Issuer::new(params, key),
        };
        Ok((authority, issued))
    }

    /// The authority that [`Self::new`] made for the same deployment.
    ///
    /// # Errors
    /// The key is not one.
    pub fn open(deployment: &DeploymentName, issued: &Issued) -> Result<Self, NotIssued> {
        Ok(Self {
            issuer: Issuer::new(parameters(deployment), KeyPair::from_pem(&issued.key)?),
            certificate: issued.certificate.clone(),
        })
    }

    /// The authority's own certificate, which everybody must trust.
    pub fn certificate(&self) -> &str {
        &self.certificate
    }

    /// Signs. The purposes follow from the request: somebody without an address cannot pretend to
    /// be a server.
    ///
    /// # Errors
    /// A host that a certificate cannot name.
    pub fn issue(&self, request: &Request) -> Result<Issued, NotIssued> {
        let mut params = CertificateParams::new(request.hosts.clone())?;
        let mut name = DistinguishedName::new();
        let common = match (&request.identity, request.hosts.first()) {
            (Some(identity), _) => format!("{} {}", identity.role, identity.name),
            (None, host) => host.cloned().unwrap_or_default(),
        };
        name.push(DnType::CommonName, common);
        params.distinguished_name = name;
        if let Some(identity) = &request.identity {
            let uri = SanType::URI(identity.to_string().try_into()?);
            params.subject_alt_names.push(uri);
        }
        let is_server = !request.hosts.is_empty();
        // All of Gavel's call others.
        let is_client = request.identity.is_some();
        let usages = [
            (is_server, ExtendedKeyUsagePurpose::ServerAuth),
            (is_client, ExtendedKeyUsagePurpose::ClientAuth),
        ];
        let usages = usages.into_iter().filter(|(is_wanted, _)| *is_wanted);
        params.extended_key_usages = usages.map(|(_, usage)| usage).collect();
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.use_authority_key_identifier_extension = true;
        set_validity(&mut params, request.days);
        let key = KeyPair::generate()?;
        Ok(Issued {
            certificate: params.signed_by(&key, &self.issuer)?.pem(),
            key: key.serialize_pem(),
        })
    }
}

/// The same for the same deployment: with the key, all that it takes to sign again.
fn parameters(deployment: &DeploymentName) -> CertificateParams {
    let mut params = CertificateParams::default();
    let mut name = DistinguishedName::new();
    name.push(
        DnType::CommonName,
        format!("Gavel authority of {deployment}"),
    );
    params.distinguished_name = name;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    set_validity(&mut params, AUTHORITY_DAYS);
    params
}

fn set_validity(params: &mut CertificateParams, days: u64) {
    let now = SystemTime::now();
    params.not_before = (now - BACKDATED).into();
    params.not_after = (now + Duration::from_hours(24 * days)).into();
}
