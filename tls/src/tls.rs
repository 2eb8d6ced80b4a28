//! The certificate of this process, read again when its files change.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use gavel_protocol::DeploymentName;
use parking_lot::RwLock;

use crate::identity::Identity;
use crate::material::{Contents, Material, TlsError};

/// How often the files are compared with what is in use. Reading three small files costs less
/// than missing the events of a file system: Kubernetes swaps a link two folders up.
const RELOAD_EVERY: Duration = Duration::from_secs(5);

/// Where certificates are, in PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// The authorities that sign for this deployment; while one takes over from another, both.
    pub ca: PathBuf,
    /// This process's certificate, then those between it and the authority.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// The certificate of this process, and whom it trusts. Cheap to clone.
#[derive(Clone)]
pub struct Tls(Arc<Inner>);

struct Inner {
    files: TlsFiles,
    deployment: DeploymentName,
    current: RwLock<Arc<Material>>,
}

impl Tls {
    /// Reads the files, and again every five seconds, as long as the answer or a clone of it
    /// lives. Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// What is wrong with which file.
    pub fn load(files: TlsFiles, deployment: DeploymentName) -> Result<Self, TlsError> {
        let contents = Contents::read(&files)?;
        let material = usable(&contents, &files, &deployment)?;
        let inner = Arc::new(Inner {
            files,
            deployment,
            current: RwLock::new(Arc::new(material)),
        });
        tokio::spawn(reload(Arc::downgrade(&inner), contents));
        Ok(Self(inner))
    }

    /// The installation whose identities count.
    pub fn deployment(&self) -> &DeploymentName {
        &self.0.deployment
    }

    /// Who this process is.
    pub fn identity(&self) -> Option<Identity> {
        self.current().identity.clone()
    }

    /// When this process's certificate ends.
    pub fn not_after(&self) -> Option<SystemTime> {
        self.current().not_after
    }

    pub(crate) fn current(&self) -> Arc<Material> {
        self.0.current.read().clone()
    }
}

fn usable(
    contents: &Contents,
    files: &TlsFiles,
    deployment: &DeploymentName,
) -> Result<Material, TlsError> {
    let material = contents.material(files)?;
    match &material.identity {
        Some(found) if found.deployment != *deployment => Err(TlsError::OtherDeployment {
            path: files.certificate.clone(),
            found: found.clone(),
            wanted: deployment.clone(),
        }),
        Some(_) | None => Ok(material),
    }
}

async fn reload(inner: std::sync::Weak<Inner>, mut seen: Contents) {
    // A file that is missing is complained about once, not every five seconds.
    let mut complaint = String::new();
    loop {
        tokio::time::sleep(RELOAD_EVERY).await;
        let Some(inner) = inner.upgrade() else { return };
        let read = Contents::read(&inner.files);
        if read.as_ref().is_ok_and(|contents| *contents == seen) {
            continue;
        }
        let changed = read.and_then(|contents| {
            let material = usable(&contents, &inner.files, &inner.deployment)?;
            Ok((contents, material))
        });
        match changed {
            Ok((contents, material)) => {
                seen = contents;
                complaint.clear();
                *inner.current.write() = Arc::new(material);
                tracing::info!(file = %inner.files.certificate.display(), "a new certificate is in use");
            }
            Err(error) => {
                let message = error.to_string();
                if message != complaint {
                    tracing::error!(
                        error = &error as &dyn std::error::Error,
                        "the new certificate cannot be used; the one before stays"
                    );
                    complaint = message;
                }
            }
        }
    }
}
