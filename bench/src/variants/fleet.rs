//! `gavel-fleet`: a coordinator and a participant per shard, each a process of its own; the client
//! speaks gRPC with the coordinator, and the coordinator with the participants.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use async_trait::async_trait;
use gavel_client::Gavel;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::through_client::ThroughClient;
use super::{Session, Variant};
use crate::world::{DEPLOYMENT, World};

const READY_LIMIT: Duration = Duration::from_secs(30);

pub struct Fleet {
    /// Coordinator first: it stops first.
    children: Vec<Child>,
    client: Gavel,
    /// Configuration and logs; removed last.
    _folder: TempDir,
}

impl Fleet {
    pub async fn start(world: &World, executable: &Path) -> anyhow::Result<Self> {
        ensure!(
            executable.exists(),
            "there is no {}: build gavel-cli with the same profile, or name it with --gavel",
            executable.display()
        );
        let folder = tempfile::tempdir()?;
        let port = local_postgres::free_port()?;
        let config = folder.path().join("gavel.toml");
        let mut file = File::options()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&config)?;
        std::io::Write::write_all(&mut file, render(world, port)?.as_bytes())?;
        let mut children = vec![spawn(executable, folder.path(), &["coordinator"])?];
        for shard in world.shards() {
            let args = ["participant", "--shard", shard.name];
            children.push(spawn(executable, folder.path(), &args)?);
        }
        if let Err(error) = wait_until_ready(port, &mut children).await {
            let logs = fs::read_to_string(folder.path().join("log")).unwrap_or_default();
            children.iter_mut().for_each(end);
            return Err(error.context(logs));
        }
        let client = Gavel::connect([format!("http://127.0.0.1:{port}")]).await?;
        Ok(Self {
            children,
            client,
            _folder: folder,
        })
    }
}

#[async_trait]
impl Variant for Fleet {
    async fn session(&self) -> anyhow::Result<Box<dyn Session>> {
        Ok(Box::new(ThroughClient(self.client.clone())))
    }

    fn pids(&self) -> Vec<u32> {
        self.children.iter().map(Child::id).collect()
    }

    async fn stop(mut self: Box<Self>) -> anyhow::Result<()> {
        // Their standard input ends, which tells them to stop; all clients have their answers.
        for child in &mut self.children {
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

impl Drop for Fleet {
    fn drop(&mut self) {
        self.children.iter_mut().for_each(end);
    }
}

fn end(child: &mut Child) {
    let _gone_already = child.kill();
    let _reaped = child.wait();
}

fn render(world: &World, port: u16) -> anyhow::Result<String> {
    let mut text = format!(
        "deployment = \"{DEPLOYMENT}\"\nmigrate_on_start = false\n\n\
         [coordinator]\nlisten = \"127.0.0.1:{port}\"\n\n[log]\nlevel = \"warn\"\n"
    );
    for shard in world.shards() {
        write!(
            text,
            "\n[[shard]]\nname = \"{}\"\ntag = {}\nparticipant = \"http://127.0.0.1:{}\"\n\
             database_url = \"{}\"\n",
            shard.name,
            shard.tag,
            local_postgres::free_port()?,
            shard.url
        )?;
    }
    Ok(text)
}

fn spawn(executable: &Path, folder: &Path, args: &[&str]) -> anyhow::Result<Child> {
    let log = File::options()
        .create(true)
        .append(true)
        .open(folder.join("log"))?;
    Command::new(executable)
        .args(args)
        .arg("--exit-with-stdin")
        .arg("--config")
        .arg(folder.join("gavel.toml"))
        .stdin(Stdio::piped())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
        .with_context(|| format!("cannot run {}", executable.display()))
}

async fn wait_until_ready(port: u16, children: &mut [Child]) -> anyhow::Result<()> {
    let deadline = Instant::now() + READY_LIMIT;
    while !is_ready(port).await.unwrap_or(false) {
        for child in &mut *children {
            if let Some(status) = child.try_wait()? {
                bail!("a gavel process ended: {status}");
            }
        }
        ensure!(Instant::now() < deadline, "the fleet is not ready");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

async fn is_ready(port: u16) -> std::io::Result<bool> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
    let request = "GET /health/ready HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer.starts_with("HTTP/1.1 200"))
}
