//! How commands reach a coordinator.

use std::path::PathBuf;

use clap::Args;

/// How to reach a coordinator.
#[derive(Debug, Clone, Args)]
pub struct ClientArgs {
    /// Addresses of coordinators [default: coordinator.listen, or http://127.0.0.1:7400]
    #[arg(
        long,
        env = "GAVEL_ENDPOINT",
        value_delimiter = ',',
        value_name = "URL"
    )]
    pub endpoint: Vec<String>,
    /// File with the bearer token
    #[arg(long, env = "GAVEL_TOKEN_FILE", value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// Authorities to trust, in PEM [default: those of the configuration, or the system's]
    #[arg(long, env = "GAVEL_CA_FILE", value_name = "FILE")]
    pub ca_file: Option<PathBuf>,
    /// Certificate to show, in PEM [default: that of the configuration, if there is no token]
    #[arg(
        long,
        env = "GAVEL_CERTIFICATE_FILE",
        value_name = "FILE",
        requires = "key_file"
    )]
    pub certificate_file: Option<PathBuf>,
    /// Its private key
    #[arg(
        long,
        env = "GAVEL_KEY_FILE",
        value_name = "FILE",
        requires = "certificate_file"
    )]
    pub key_file: Option<PathBuf>,
    /// How long to try, retries included
    #[arg(long, default_value_t = 30_000, value_name = "MILLISECONDS")]
    pub deadline_ms: u64,
}
