//! The way to a coordinator, for the commands that ask one.

use std::time::Duration;

use anyhow::Context as _;
use gavel_client::{Gavel, Options, Trust};

use crate::args::ClientArgs;
use crate::config::Config;
use crate::service::security;

/// Connects to the coordinators that the command line, the configuration or the default names.
pub(crate) async fn connect(config: Option<&Config>, args: &ClientArgs) -> anyhow::Result<Gavel> {
    let mut options = Options::new().deadline(Duration::from_millis(args.deadline_ms));
    if let Some(file) = &args.token_file {
        options = options
            .token_file(file)
            .with_context(|| format!("cannot read the token from {}", file.display()))?;
    }
    options = options.trust(trust(config, args));
    let endpoints = endpoints(config, args);
    Gavel::connect_with(endpoints.clone(), options)
        .await
        .with_context(|| format!("cannot use the coordinator at {}", endpoints.join(", ")))
}

/// What the command line says, then what the configuration says of `operator`.
pub(crate) fn trust(config: Option<&Config>, args: &ClientArgs) -> Trust {
    let configured = config.and_then(|config| config.tls.as_ref());
    let configured = configured.map(|tls| tls.files(security::OPERATOR));
    let mut trust = Trust::new();
    let authorities = args.ca_file.as_ref();
    if let Some(file) = authorities.or(configured.as_ref().map(|files| &files.ca)) {
        trust = trust.authorities(file);
    }
    if let (Some(certificate), Some(key)) = (&args.certificate_file, &args.key_file) {
        return trust.certificate(certificate, key);
    }
    match configured {
        Some(files) if args.token_file.is_none() && files.certificate.exists() => {
            trust.certificate(files.certificate, files.key)
        }
        Some(_) | None => trust,
    }
}

/// The coordinators that the command line, the configuration or the default names.
pub(crate) fn endpoints(config: Option<&Config>, args: &ClientArgs) -> Vec<String> {
    if !args.endpoint.is_empty() {
        return args.endpoint.clone();
    }
    let mut listen = match config {
        Some(config) => config.coordinator.listen,
        None => crate::config::CoordinatorConfig::default().listen,
    };
    // An address to listen on everywhere is none to connect to.
    if listen.ip().is_unspecified() {
        listen.set_ip([127, 0, 0, 1].into());
    }
    let scheme = match config.and_then(|config| config.tls.as_ref()) {
        Some(_) => "https",
        None => "http",
    };
    vec![format!("{scheme}://{listen}")]
}
