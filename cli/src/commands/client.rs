//! The way to a coordinator, for the commands that ask one.

use std::time::Duration;

use anyhow::Context as _;
use gavel_client::{Gavel, Options};

use crate::args::ClientArgs;
use crate::config::Config;

/// Connects to the coordinators that the command line, the configuration or the default names.
pub(crate) async fn connect(config: Option<&Config>, args: &ClientArgs) -> anyhow::Result<Gavel> {
    let mut options = Options::new().deadline(Duration::from_millis(args.deadline_ms));
    if let Some(file) = &args.token_file {
        options = options
            .token_file(file)
            .with_context(|| format!("cannot read the token from {}", file.display()))?;
    }
    let endpoints = endpoints(config, args);
    Gavel::connect_with(endpoints.clone(), options)
        .await
        .with_context(|| format!("cannot use the coordinator at {}", endpoints.join(", ")))
}

fn endpoints(config: Option<&Config>, args: &ClientArgs) -> Vec<String> {
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
    vec![format!("http://{listen}")]
}
