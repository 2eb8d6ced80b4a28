//! `gavel-fleet` and `gavel-serve`: Gavel as processes of its own, and a client that speaks gRPC
//! with the coordinator.
//!
//! In the fleet, coordinator and participants are a process each, with gRPC between them; served,
//! they are one.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use async_trait::async_trait;
use gavel_client::{Gavel, Options, Trust};
use tempfile::TempDir;
use tokio::sync::Mutex;

use super::through_client::run;
use super::{Ended, Setting, Variant};
use crate::work::Work;
use crate::world::DEPLOYMENT;

const READY_LIMIT: Duration = Duration::from_secs(30);

pub struct Processes {
    named: Vec<(String, u32)>,
    children: Mutex<Children>,
    client: Gavel,
    endpoint: String,
    executable: PathBuf,
    /// Configuration and logs; removed last.
    folder: TempDir,
}

/// Coordinator first: it stops first. Killed when dropped.
struct Children(Vec<Child>);

impl Processes {
    pub async fn fleet(setting: Setting<'_>, tls: bool) -> anyhow::Result<Self> {
        let mut commands = vec![("coordinator".to_owned(), vec!["coordinator"])];
        for shard in setting.shards {
            let name = format!("participant {}", shard.name);
            commands.push((name, vec!["participant", "--shard", shard.name]));
        }
        Self::start(setting, commands, tls).await
    }

    pub async fn serve(setting: Setting<'_>) -> anyhow::Result<Self> {
        Self::start(setting, vec![("serve".to_owned(), vec!["serve"])], false).await
    }

    async fn start(
        setting: Setting<'_>,
        commands: Vec<(String, Vec<&str>)>,
        tls: bool,
    ) -> anyhow::Result<Self> {
        let executable = setting.executable;
        ensure!(
            executable.exists(),
            "there is no {}: build gavel-cli with the same profile, or name it with --gavel",
            executable.display()
        );
        let folder = tempfile::tempdir()?;
        let port = local_postgres::free_port()?;
        let mut file = File::options()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(folder.path().join("gavel.toml"))?;
        let text = render(&setting, port, tls)?;
        std::io::Write::write_all(&mut file, text.as_bytes())?;
        if tls {
            sign(executable, folder.path())?;
        }
        let mut children = Children(Vec::new());
        let mut named = Vec::new();
        for (name, args) in commands {
            let child = spawn(executable, folder.path(), &args)?;
            named.push((name, child.id()));
            children.0.push(child);
        }
        let ready = || is_ready(executable, folder.path());
        if let Err(error) = wait_until(ready, &mut children.0).await {
            let logs = fs::read_to_string(folder.path().join("log")).unwrap_or_default();
            return Err(error.context(logs));
        }
        let scheme = if tls { "https" } else { "http" };
        let endpoint = format!("{scheme}://127.0.0.1:{port}");
        let client = connect(&endpoint, tls.then_some(folder.path())).await?;
        Ok(Self {
            named,
            children: Mutex::new(children),
            client,
            endpoint,
            executable: executable.to_owned(),
            folder,
        })
    }
}

impl Processes {
    /// A client of the coordinator, who waits as long as clients do by default.
    pub fn client(&self) -> &Gavel {
        &self.client
    }

    /// Where the coordinator is.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }
}

#[async_trait]
impl Variant for Processes {
    async fn run(&self, work: &Work) -> anyhow::Result<Ended> {
        run(&self.client, work).await
    }

    fn processes(&self) -> Vec<(String, u32)> {
        self.named.clone()
    }

    async fn upkeep(&self) -> anyhow::Result<()> {
        let mut command = command(&self.executable, self.folder.path());
        command
            .args(["retention", "run", "--because", "the benchmark"])
            .stdin(Stdio::null());
        let ran = tokio::task::spawn_blocking(move || command.output()).await??;
        let said = String::from_utf8_lossy(&ran.stderr);
        ensure!(ran.status.success(), "gavel retention failed: {said}");
        Ok(())
    }

    async fn stop(&self) -> anyhow::Result<()> {
        // Their standard input ends, which tells them to stop; all clients have their answers.
        for child in &mut self.children.lock().await.0 {
            drop(child.stdin.take());
            let deadline = Instant::now() + READY_LIMIT;
            while child.try_wait()?.is_none() {
                ensure!(Instant::now() < deadline, "a gavel process does not stop");
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
        Ok(())
    }
}

impl Drop for Children {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _gone_already = child.kill();
            let _reaped = child.wait();
        }
    }
}

async fn connect(endpoint: &str, certificates: Option<&Path>) -> anyhow::Result<Gavel> {
    let Some(folder) = certificates.map(|folder| folder.join("tls")) else {
        return Ok(Gavel::connect([endpoint]).await?);
    };
    let trust = Trust::new()
        .authorities(folder.join("ca.pem"))
        .certificate(folder.join("operator.pem"), folder.join("operator.key"));
    let options = Options::new().trust(trust);
    Ok(Gavel::connect_with([endpoint], options).await?)
}

/// Certificates for everybody in the configuration.
fn sign(executable: &Path, folder: &Path) -> anyhow::Result<()> {
    let mut certs = command(executable, folder);
    let signed = certs
        .args(["certs", "--out"])
        .arg(folder.join("tls"))
        .output()?;
    let said = String::from_utf8_lossy(&signed.stderr);
    ensure!(signed.status.success(), "gavel certs failed: {said}");
    Ok(())
}

fn render(setting: &Setting<'_>, port: u16, tls: bool) -> anyhow::Result<String> {
    let limits = setting.limits;
    let mut text = format!(
        "deployment = \"{DEPLOYMENT}\"\nmigrate_on_start = false\n\n\
         [coordinator]\nlisten = \"127.0.0.1:{port}\"\n\n[log]\nlevel = \"warn\"\n\n\
         [limits]\n{limits}"
    );
    let scheme = if tls { "https" } else { "http" };
    if tls {
        text.push_str("\n[tls]\n\n[[principal]]\nname = \"operator\"\nrole = \"operator\"\n");
    }
    for shard in setting.shards {
        write!(
            text,
            "\n[[shard]]\nname = \"{}\"\ntag = {}\nparticipant = \"{scheme}://127.0.0.1:{}\"\n\
             database_url = \"{}\"\n",
            shard.name,
            shard.tag.0,
            local_postgres::free_port()?,
            shard.url
        )?;
    }
    Ok(text)
}

fn command(executable: &Path, folder: &Path) -> Command {
    let mut command = Command::new(executable);
    command.arg("--config").arg(folder.join("gavel.toml"));
    command
}

fn spawn(executable: &Path, folder: &Path, args: &[&str]) -> anyhow::Result<Child> {
    let log = File::options()
        .create(true)
        .append(true)
        .open(folder.join("log"))?;
    command(executable, folder)
        .args(args)
        .arg("--exit-with-stdin")
        .stdin(Stdio::piped())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
        .with_context(|| format!("cannot run {}", executable.display()))
}

async fn wait_until(
    is_ready: impl Fn() -> anyhow::Result<bool>,
    children: &mut [Child],
) -> anyhow::Result<()> {
    let deadline = Instant::now() + READY_LIMIT;
    while !is_ready()? {
        for child in &mut *children {
            if let Some(status) = child.try_wait()? {
                bail!("a gavel process ended: {status}");
            }
        }
        ensure!(Instant::now() < deadline, "gavel is not ready");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

/// Ready is who can ask every shard; this fails while one is not in sight.
fn is_ready(executable: &Path, folder: &Path) -> anyhow::Result<bool> {
    let mut command = command(executable, folder);
    let asked = command.args(["in-doubt", "list", "--deadline-ms", "2000"]);
    Ok(asked.output()?.status.success())
}
