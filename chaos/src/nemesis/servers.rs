//! Faults of PostgreSQL servers.

use local_postgres::{Mode, Server};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::aim::{nobody, struck};
use super::{Strikes, Struck};
use crate::bank::DATABASE;
use crate::error::ChaosError;
use crate::proxy::{Caught, Step};

impl Strikes {
    pub(super) async fn kill_postgres(&mut self, step: Step) -> Result<Struck, ChaosError> {
        self.crash(step, |server| server.kill9()).await
    }

    pub(super) async fn stop_postgres(&mut self, step: Step) -> Result<Struck, ChaosError> {
        self.crash(step, |server| server.stop(Mode::Immediate))
            .await
    }

    pub(super) async fn pause_postgres(&mut self, step: Step) -> Result<Struck, ChaosError> {
        let Some(caught) = self.catch(step).await else {
            return Ok(nobody(step));
        };
        let shard = caught.passage.shard;
        let what = self.name(&caught);
        self.on_server(shard, |server| Ok(server.pause()?)).await?;
        caught.release();
        tokio::time::sleep(self.a_while(500)).await;
        self.on_server(shard, |server| {
            server.resume();
            Ok(())
        })
        .await?;
        Ok(Ok(what))
    }

    pub(super) async fn kill_backend(&mut self, step: Step) -> Result<Struck, ChaosError> {
        let Some(caught) = self.catch(step).await else {
            return Ok(nobody(step));
        };
        let what = self.name(&caught);
        let (shard, port) = (caught.passage.shard, caught.passage.backend_port);
        let killed = self
            .on_server(shard, move |server| {
                let Some(pid) = backend(server, port)? else {
                    return Ok(false);
                };
                let gone = kill(Pid::from_raw(pid), Signal::SIGKILL);
                Ok(gone.is_ok())
            })
            .await?;
        drop(caught);
        // PostgreSQL restarts by itself, because a backend that is killed may have broken memory.
        self.on_server(shard, |server| Ok(server.wait_ready()?))
            .await?;
        Ok(if killed { Ok(what) } else { gone() })
    }

    pub(super) async fn terminate_backend(&mut self, step: Step) -> Result<Struck, ChaosError> {
        let Some(caught) = self.catch(step).await else {
            return Ok(nobody(step));
        };
        let what = self.name(&caught);
        let (shard, port) = (caught.passage.shard, caught.passage.backend_port);
        let ended = self
            .on_server(shard, move |server| {
                let Some(pid) = backend(server, port)? else {
                    return Ok(false);
                };
                server.sql(DATABASE, &format!("SELECT pg_terminate_backend({pid})"))?;
                Ok(true)
            })
            .await?;
        drop(caught);
        Ok(if ended { Ok(what) } else { gone() })
    }

    /// Ends a server in the middle of a transaction, and starts it again.
    async fn crash(
        &mut self,
        step: Step,
        end: impl Fn(&Server) -> Result<(), local_postgres::Error> + Send + 'static,
    ) -> Result<Struck, ChaosError> {
        let Some(caught) = self.catch(step).await else {
            return Ok(nobody(step));
        };
        let what = self.name(&caught);
        let shard = caught.passage.shard;
        self.on_server(shard, move |server| Ok(end(server)?))
            .await?;
        drop(caught);
        self.on_server(shard, |server| {
            server.start()?;
            Ok(server.wait_ready()?)
        })
        .await?;
        Ok(Ok(what))
    }

    pub(super) async fn on_server<T: Send + 'static>(
        &self,
        shard: usize,
        work: impl FnOnce(&Server) -> Result<T, ChaosError> + Send + 'static,
    ) -> Result<T, ChaosError> {
        self.arena
            .on_primaries(move |servers| work(&servers[shard]))
            .await
    }

    pub(super) fn name(&self, caught: &Caught) -> String {
        let shard = self.arena.shard(caught.passage.shard);
        struck(&format!("server of {shard}"), caught)
    }
}

/// The process that serves a connection.
fn backend(server: &Server, client_port: u16) -> Result<Option<i32>, ChaosError> {
    let sql = format!("SELECT pid FROM pg_stat_activity WHERE client_port = {client_port}");
    let rows = server.sql(DATABASE, &sql)?;
    let pid = rows.first().and_then(|row| row[0].as_deref()?.parse().ok());
    Ok(pid)
}

fn gone() -> Struck {
    Err("its backend was gone".to_owned())
}
