//! Everything that runs during the demo: servers, participants, a coordinator, the API.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use gavel_client::Gavel;
use gavel_devkit::{Dev, Options};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::Instant;

use super::DemoOptions;
use super::direct::Direct;
use super::show::Show;
use crate::bank::{Bank, BankOptions};
use crate::routes;

/// Shorter than the API's default, so that a client hears "not known yet" and asks again while
/// something is down.
const WRITE_DEADLINE: Duration = Duration::from_secs(4);

/// The running demo.
pub(super) struct Stage {
    pub(super) dev: Arc<Dev>,
    pub(super) direct: Arc<Direct>,
    api: String,
    server: JoinHandle<std::io::Result<()>>,
}

impl Stage {
    pub(super) async fn start(
        options: &DemoOptions,
        folder: &Folder,
        show: &Show,
    ) -> anyhow::Result<Self> {
        show.step(
            "Starting",
            "Three PostgreSQL servers, a participant beside each, a coordinator, and the bank's \
             API. Everything listens on this machine only.",
        );
        let began = Instant::now();
        let mut dev_options = Options::new(&folder.path, &options.executable);
        dev_options.shards = Some(3);
        let dev = spawn_blocking(move || Dev::start(&dev_options)).await??;
        let direct = Direct::new(dev.shards())?;
        let (api, server) = start_api(&dev).await?;
        show.fact(&format!(
            "Everything runs after {:.1} s.",
            began.elapsed().as_secs_f64()
        ));
        show.fact(&format!("Bank: {api} (try: curl {api}/audit)"));
        show.fact(&format!("Data and logs: {}", folder.path.display()));
        Ok(Self {
            dev: Arc::new(dev),
            direct: Arc::new(direct),
            api,
            server,
        })
    }

    /// Address of the bank's API.
    pub(super) fn api(&self) -> &str {
        &self.api
    }

    /// Stops everything.
    pub(super) async fn stop(self) -> anyhow::Result<()> {
        self.server.abort();
        self.direct.close().await;
        let dev = Arc::into_inner(self.dev).context("the servers are still in use")?;
        spawn_blocking(|| dev.stop()).await??;
        Ok(())
    }
}

/// Where everything is kept.
pub(super) struct Folder {
    path: PathBuf,
    temporary: Option<TempDir>,
}

impl Folder {
    pub(super) fn new(options: &DemoOptions) -> anyhow::Result<Self> {
        if let Some(path) = options.folder.clone() {
            let temporary = None;
            return Ok(Self { path, temporary });
        }
        let temporary = tempfile::Builder::new()
            .prefix("gavel-demo-")
            // The servers may run as another account, which has to pass through here.
            .permissions(Permissions::from_mode(0o755))
            .tempdir()
            .context("cannot create a temporary folder")?;
        Ok(Self {
            path: temporary.path().to_path_buf(),
            temporary: Some(temporary),
        })
    }

    /// Keeps the data of a demo that went wrong, to be looked into.
    pub(super) fn keep(self, show: &Show) {
        if let Some(temporary) = self.temporary {
            let kept = temporary.keep();
            show.bad(&format!("Data and logs are kept in {}", kept.display()));
        }
    }
}

async fn start_api(dev: &Dev) -> anyhow::Result<(String, JoinHandle<std::io::Result<()>>)> {
    let gavel = Gavel::connect(dev.coordinator_urls()).await?;
    let shards = dev.shards().iter();
    let mut options = BankOptions::new(
        shards
            .map(|s| (s.name.clone(), s.database_url.clone()))
            .collect(),
    );
    options.write_deadline = WRITE_DEADLINE;
    let bank = Arc::new(Bank::open(gavel, options).await?);
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = format!("http://{}", listener.local_addr()?);
    let serving = routes::serve(listener, bank, std::future::pending());
    Ok((address, tokio::spawn(serving)))
}
