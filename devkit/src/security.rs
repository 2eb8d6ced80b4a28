//! Certificates for everything: `gavel certs` signs them, the servers and processes use them.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use gavel_tls::Trust;
use local_postgres::Cluster;
use rustls::ClientConfig;
use rustls::version::TLS13;

use crate::folder::Folder;
use crate::{Error, Options};

/// Where servers and processes are.
const HOST: &str = "127.0.0.1";

/// The principal that may do everything.
pub(crate) const OPERATOR: &str = "operator";

/// The folder with the certificates of a deployment.
#[derive(Debug)]
pub(crate) struct Certificates {
    folder: PathBuf,
}

impl Certificates {
    /// Where they are kept.
    pub(crate) fn of(folder: &Folder) -> Self {
        Self {
            folder: folder.root().join("tls"),
        }
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Signs what is missing, for the configuration in `folder`, and lets the servers use it.
    pub(crate) fn set_up(
        &self,
        folder: &Folder,
        options: &Options,
        cluster: &Cluster,
    ) -> Result<(), Error> {
        let signed = Command::new(&options.executable)
            .arg("--config")
            .arg(folder.config())
            .args(["certs", "--postgres", HOST, "--out"])
            .arg(&self.folder)
            .output()
            .map_err(Error::io("run", &options.executable))?;
        if !signed.status.success() {
            let message = String::from_utf8_lossy(&signed.stderr).trim().to_owned();
            return Err(Error::Certificates { message });
        }
        let own = format!("postgres-{HOST}");
        let (certificate, key) = (self.read(&own, "pem")?, self.read(&own, "key")?);
        for server in cluster.servers() {
            server.encrypt(&certificate, &key)?;
        }
        Ok(())
    }

    /// What to add to the address of a database.
    pub(crate) fn parameters(&self) -> String {
        let authorities = self.folder.join("ca.pem");
        format!("?sslmode=verify-full&sslrootcert={}", authorities.display())
    }

    /// What the principal `name` trusts and shows.
    pub(crate) fn trust(&self, name: &str) -> Trust {
        let file = |suffix| self.folder.join(format!("{name}.{suffix}"));
        Trust::new()
            .authorities(self.folder.join("ca.pem"))
            .certificate(file("pem"), file("key"))
    }

    /// For the probe of readiness.
    pub(crate) fn client_config(&self) -> Result<Arc<ClientConfig>, Error> {
        let config = self.trust(OPERATOR).client_config(&[&TLS13]);
        config.map(Arc::new).map_err(|error| Error::Certificates {
            message: error.to_string(),
        })
    }

    fn read(&self, name: &str, suffix: &str) -> Result<String, Error> {
        let path = self.folder.join(format!("{name}.{suffix}"));
        std::fs::read_to_string(&path).map_err(Error::io("read", &path))
    }
}
