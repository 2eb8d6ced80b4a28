//! The handle on a running deployment.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use gavel_tls::Trust;
use local_postgres::{Cluster, Mode, Server};
use nix::sys::signal::Signal;

use crate::child::{Plan, Slot};
use crate::folder::{Folder, write_secret};
use crate::probe::Readiness;
use crate::security::Certificates;
use crate::state::{ShardState, State, coordinator_name, participant_name};
use crate::supervisor::Supervisor;
use crate::{Error, Options, Role, Shard, config_file, leftover, shards};

/// A first start runs migrations' worth of checks on a busy machine.
const READY_LIMIT: Duration = Duration::from_secs(60);
/// Longer than the bound that the services themselves put on what is in flight.
const STOP_LIMIT: Duration = Duration::from_secs(15);
/// What a coordinator answers with 200 when it can commit on every shard. Asked where its metrics are:
/// where transactions are, it wants to know who asks.
const READY_PATH: &str = "/health/shards";

/// A deployment that runs until [`Dev::stop`] or drop. Fields are dropped in order: processes
/// before servers before the lock.
#[derive(Debug)]
pub struct Dev {
    supervisor: Option<Supervisor>,
    participants: Vec<Arc<Slot>>,
    coordinators: Vec<Arc<Slot>>,
    shards: Vec<Shard>,
    cluster: Cluster,
    folder: Folder,
    certificates: Option<Certificates>,
    metrics_ports: BTreeMap<String, u16>,
}

impl Dev {
    /// Makes or resumes the deployment in `options.folder`, and waits until it can commit.
    ///
    /// # Errors
    /// A folder or port in use, no PostgreSQL, a process that does not become ready; see [`Error`].
    /// What did start is stopped again.
    pub fn start(options: &Options) -> Result<Self, Error> {
        let mut dev = Self::prepare(options)?;
        // One after the other: a coordinator that starts first complains about every participant.
        for slots in [&dev.participants, &dev.coordinators] {
            slots.iter().try_for_each(|slot| slot.start(&[]))?;
            slots
                .iter()
                .try_for_each(|slot| slot.wait_ready(READY_LIMIT))?;
        }
        dev.supervise(options);
        Ok(dev)
    }

    /// As [`Dev::start`], without waiting: for tests whose children crash on the way up.
    ///
    /// # Errors
    /// As [`Dev::start`].
    pub fn launch(options: &Options) -> Result<Self, Error> {
        let mut dev = Self::prepare(options)?;
        dev.slots().try_for_each(|slot| slot.start(&[]))?;
        dev.supervise(options);
        Ok(dev)
    }

    /// Everything but the processes of Gavel itself.
    fn prepare(options: &Options) -> Result<Self, Error> {
        options.validate()?;
        let folder = Folder::open(&options.folder)?;
        leftover::end_all(&folder.pid_files(), &folder.config())?;
        let mut state = State::settle(&folder, options)?;
        let (cluster, shards) = shards::start(&folder, options, &mut state)?;
        let ports = &state.coordinator_ports[..options.coordinators];
        let certificates = options.tls.then(|| Certificates::of(&folder));
        let config = config_file::render(
            &shards,
            ports[0],
            certificates.as_ref(),
            &options.extra_config,
        );
        write_secret(&folder.config(), &config)?;
        let probe = match &certificates {
            Some(certificates) => {
                certificates.set_up(&folder, options, &cluster)?;
                Some(certificates.client_config()?)
            }
            None => None,
        };
        let env = |role, plan: Plan| Plan {
            env: env(options, role, &shards),
            tls: probe.clone(),
            ..plan
        };
        let participants = slots(&state.shards, |index, shard| {
            env(
                Role::Participant(index),
                participant(&folder, options, &state, shard),
            )
        });
        let coordinators = slots(ports, |index, port| {
            let plan = coordinator(&folder, options, &state, (index, *port));
            env(Role::Coordinator(index), plan)
        });
        Ok(Self {
            supervisor: None,
            participants,
            coordinators,
            shards,
            cluster,
            folder,
            certificates,
            metrics_ports: state.metrics_ports,
        })
    }

    fn supervise(&mut self, options: &Options) {
        if options.restart {
            self.supervisor = Some(Supervisor::start(self.slots().cloned().collect()));
        }
    }

    /// The shards, in the order of their servers and participants.
    #[must_use]
    pub fn shards(&self) -> &[Shard] {
        &self.shards
    }

    /// The shards' servers.
    #[must_use]
    pub fn servers(&self) -> &[Server] {
        self.cluster.servers()
    }

    /// Connection URL of shard `shard`, as superuser.
    #[must_use]
    pub fn superuser_url(&self, shard: usize) -> &str {
        &self.shards[shard].superuser_url
    }

    /// Connection URL of shard `shard`, as the participant's login role.
    #[must_use]
    pub fn database_url(&self, shard: usize) -> &str {
        &self.shards[shard].database_url
    }

    /// Address of the first coordinator.
    #[must_use]
    pub fn coordinator_url(&self) -> String {
        self.url(&self.coordinators[0])
    }

    /// Addresses of all coordinators.
    #[must_use]
    pub fn coordinator_urls(&self) -> Vec<String> {
        self.coordinators
            .iter()
            .map(|slot| self.url(slot))
            .collect()
    }

    fn url(&self, slot: &Slot) -> String {
        format!("{}://127.0.0.1:{}", self.scheme(), slot.port())
    }

    fn scheme(&self) -> &'static str {
        match self.certificates {
            Some(_) => "https",
            None => "http",
        }
    }

    /// The folder with the certificates, if the deployment has any.
    #[must_use]
    pub fn certificates(&self) -> Option<&Path> {
        self.certificates.as_ref().map(Certificates::folder)
    }

    /// What the principal `name` trusts and shows, if the deployment has certificates.
    #[must_use]
    pub fn trust(&self, name: &str) -> Option<Trust> {
        let certificates = self.certificates.as_ref();
        certificates.map(|certificates| certificates.trust(name))
    }

    /// Where each process serves its metrics and its health, by the process' name.
    #[must_use]
    pub fn metrics_urls(&self) -> BTreeMap<String, String> {
        let slots = self.slots().map(|slot| slot.name().to_owned());
        slots
            .map(|name| {
                let port = self.metrics_ports[&name];
                (name, format!("{}://127.0.0.1:{port}", self.scheme()))
            })
            .collect()
    }

    /// The data folder.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.root()
    }

    /// The configuration that all processes share; `gavel --config` takes it.
    #[must_use]
    pub fn config_path(&self) -> PathBuf {
        self.folder.config()
    }

    /// The log of a process.
    #[must_use]
    pub fn log_path(&self, role: Role) -> PathBuf {
        self.folder.log(self.slot(role).name())
    }

    /// Process id, if it runs.
    #[must_use]
    pub fn pid(&self, role: Role) -> Option<u32> {
        self.slot(role).pid()
    }

    /// Kills a process as `kill -9` does, and waits for its end. It stays down until
    /// [`Dev::spawn`] or [`Dev::restart`].
    ///
    /// # Errors
    /// [`Error::NotRunning`].
    pub fn kill(&self, role: Role) -> Result<(), Error> {
        self.slot(role).kill9()
    }

    /// Starts a process that is down, without waiting until it is ready. `env` is for this one
    /// life only: a crash point does not strike again when the process is started again.
    ///
    /// # Errors
    /// [`Error::PortTaken`], [`Error::Spawn`].
    pub fn spawn(&self, role: Role, env: &[(String, String)]) -> Result<(), Error> {
        self.slot(role).start(env)
    }

    /// Kills a process if it runs, starts it and waits until it is ready.
    ///
    /// # Errors
    /// As [`Dev::start`].
    pub fn restart(&self, role: Role) -> Result<(), Error> {
        match self.kill(role) {
            Ok(()) | Err(Error::NotRunning(_)) => {}
            Err(error) => return Err(error),
        }
        self.spawn(role, &[])?;
        self.slot(role).wait_ready(READY_LIMIT)
    }

    /// Waits until a process has ended by itself, as at a crash point.
    ///
    /// # Errors
    /// [`Error::TooSlow`] after `limit`.
    pub fn wait_exit(&self, role: Role, limit: Duration) -> Result<ExitStatus, Error> {
        self.slot(role).wait_exit(limit)
    }

    /// Freezes a process (SIGSTOP).
    ///
    /// # Errors
    /// [`Error::NotRunning`].
    pub fn pause(&self, role: Role) -> Result<(), Error> {
        self.slot(role).signal(Signal::SIGSTOP)
    }

    /// Undoes [`Dev::pause`].
    ///
    /// # Errors
    /// [`Error::NotRunning`].
    pub fn resume(&self, role: Role) -> Result<(), Error> {
        self.slot(role).signal(Signal::SIGCONT)
    }

    /// Sends SIGTERM, waits for the end for at most 15 s, then kills. It stays down.
    pub fn terminate(&self, role: Role) {
        self.slot(role).stop(STOP_LIMIT);
    }

    /// Kills the participant of shard `shard`; see [`Dev::kill`].
    ///
    /// # Errors
    /// [`Error::NotRunning`].
    pub fn kill_participant(&self, shard: usize) -> Result<(), Error> {
        self.kill(Role::Participant(shard))
    }

    /// Kills a coordinator; see [`Dev::kill`].
    ///
    /// # Errors
    /// [`Error::NotRunning`].
    pub fn kill_coordinator(&self, index: usize) -> Result<(), Error> {
        self.kill(Role::Coordinator(index))
    }

    /// Starts the participant of shard `shard` again; see [`Dev::restart`].
    ///
    /// # Errors
    /// As [`Dev::start`].
    pub fn restart_participant(&self, shard: usize) -> Result<(), Error> {
        self.restart(Role::Participant(shard))
    }

    /// Starts a coordinator again; see [`Dev::restart`].
    ///
    /// # Errors
    /// As [`Dev::start`].
    pub fn restart_coordinator(&self, index: usize) -> Result<(), Error> {
        self.restart(Role::Coordinator(index))
    }

    /// Waits until every process does its work.
    ///
    /// # Errors
    /// [`Error::TooSlow`] with the end of the log of the one that does not.
    pub fn wait_ready(&self, limit: Duration) -> Result<(), Error> {
        self.slots().try_for_each(|slot| slot.wait_ready(limit))
    }

    /// Stops everything in order: coordinators, participants, servers.
    ///
    /// # Errors
    /// A server that does not stop.
    pub fn stop(mut self) -> Result<(), Error> {
        self.supervisor = None;
        stop_all(&self.coordinators);
        stop_all(&self.participants);
        self.cluster.stop(Mode::Fast)?;
        Ok(())
    }

    fn slots(&self) -> impl Iterator<Item = &Arc<Slot>> {
        self.participants.iter().chain(&self.coordinators)
    }

    fn slot(&self, role: Role) -> &Slot {
        match role {
            Role::Participant(index) => &self.participants[index],
            Role::Coordinator(index) => &self.coordinators[index],
        }
    }
}

impl Drop for Dev {
    /// Without [`Dev::stop`] nothing is asked nicely: a test that failed should end soon.
    fn drop(&mut self) {
        self.supervisor = None;
        for slot in self.slots() {
            let _down_already = slot.kill9();
        }
    }
}

fn stop_all(slots: &[Arc<Slot>]) {
    thread::scope(|scope| {
        for slot in slots {
            scope.spawn(|| slot.stop(STOP_LIMIT));
        }
    });
}

fn slots<T>(items: &[T], plan: impl Fn(usize, &T) -> Plan) -> Vec<Arc<Slot>> {
    let plans = items.iter().enumerate();
    plans
        .map(|(index, item)| Arc::new(Slot::new(plan(index, item))))
        .collect()
}

fn env(options: &Options, role: Role, shards: &[Shard]) -> Vec<(String, String)> {
    let mut env = options.env.clone();
    if let Some(env_of) = &options.env_of {
        env.extend(env_of.of(role, shards));
    }
    env
}

fn participant(folder: &Folder, options: &Options, state: &State, shard: &ShardState) -> Plan {
    let args = ["participant", "--shard", &shard.name].map(str::to_owned);
    Plan {
        port_hint: "",
        readiness: Readiness::Accepts(shard.participant_port),
        ..plan(
            folder,
            options,
            state,
            participant_name(&shard.name),
            shard.participant_port,
            &args,
        )
    }
}

fn coordinator(
    folder: &Folder,
    options: &Options,
    state: &State,
    (index, port): (usize, u16),
) -> Plan {
    let listen = format!("127.0.0.1:{port}");
    let args = ["coordinator", "--listen", &listen].map(str::to_owned);
    let name = coordinator_name(index);
    plan(folder, options, state, name, port, &args)
}

fn plan(
    folder: &Folder,
    options: &Options,
    state: &State,
    name: String,
    port: u16,
    args: &[String],
) -> Plan {
    let metrics_port = state.metrics_ports[&name];
    let config = folder.config().to_string_lossy().into_owned();
    let mut all = vec!["--config".to_owned(), config];
    all.extend_from_slice(args);
    all.push(format!("--metrics-listen=127.0.0.1:{metrics_port}"));
    all.push("--exit-with-stdin".to_owned());
    Plan {
        log: folder.log(&name),
        pid_file: folder.pid_files().join(format!("{name}.pid")),
        name,
        program: options.executable.clone(),
        args: all,
        env: Vec::new(),
        tls: None,
        port,
        port_hint: ", or choose another port with --port",
        readiness: Readiness::Answers(metrics_port, READY_PATH),
    }
}
