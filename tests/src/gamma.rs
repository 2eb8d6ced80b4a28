//! A shard that a fleet does not begin with.

use std::process::{Child, Command, Stdio};

use gavel_client::{Gavel, Outcome, params};
use local_postgres::{Cluster, Options, Server};

use crate::bank::{self, DATABASE, UPDATE};
use crate::fleet::Fleet;

/// Its tag; those of a fleet's own shards are small.
pub const TAG: u16 = 4711;

/// The shard `gamma`: its server, its table for the configuration, and its participant.
pub struct Gamma {
    cluster: Cluster,
    table: String,
    participant: Option<Participant>,
}

/// A process; ends with this.
pub struct Participant(Child);

impl Drop for Participant {
    fn drop(&mut self) {
        let _gone_already = self.0.kill();
        let _reaped = self.0.wait();
    }
}

impl Gamma {
    /// Its configuration says where its participant is.
    pub fn at_a_fixed_address() -> Self {
        let port = local_postgres::free_port().expect("a port");
        Self::prepare(&format!("http://127.0.0.1:{port}"))
    }

    /// Its participant says where it is.
    pub fn announced() -> Self {
        Self::prepare("announced")
    }

    fn prepare(participant: &str) -> Self {
        let options = [Options::for_tests("gamma")];
        let cluster = Cluster::temporary_with(&options).expect("start a server");
        let server = &cluster.servers()[0];
        let database_url = bank::create(server);
        let admin_url = server.url(DATABASE);
        let table = format!(
            "\n[[shard]]\nname = \"gamma\"\ntag = {TAG}\ndatabase_url = \"{database_url}\"\n\
             admin_url = \"{admin_url}\"\nparticipant = \"{participant}\"\n"
        );
        Self {
            cluster,
            table,
            participant: None,
        }
    }

    /// Its table in the configuration.
    pub fn table(&self) -> &str {
        &self.table
    }

    /// Its server.
    pub fn server(&self) -> &Server {
        &self.cluster.servers()[0]
    }

    /// Migrates it, and starts its participant with these arguments.
    pub fn start(&mut self, fleet: &Fleet, arguments: &[&str]) {
        let migrated = fleet
            .command(&["migrate", "--shard", "gamma"], None)
            .output();
        let migrated = migrated.expect("run gavel");
        let said = String::from_utf8_lossy(&migrated.stderr);
        assert!(migrated.status.success(), "{said}");
        self.participant = Some(Self::participant(fleet, arguments));
    }

    /// One more participant of the shard.
    pub fn participant(fleet: &Fleet, arguments: &[&str]) -> Participant {
        let mut command = fleet.command(&["participant", "--shard", "gamma"], None);
        command.args(arguments);
        Self::run(command)
    }

    /// One more, as this command starts it.
    pub fn run(mut command: Command) -> Participant {
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        Participant(child.expect("start a participant"))
    }

    /// Ends its participant at once.
    pub fn kill(&mut self) {
        self.participant = None;
    }
}

/// Moves money from `shard` to gamma.
pub async fn transfer(gavel: &Gavel, shard: &str) -> Outcome {
    let submitted = gavel
        .transaction()
        .on(shard)
        .execute(UPDATE, params![-1, 49])
        .expect_rows(1)
        .on("gamma")
        .execute(UPDATE, params![1, 49])
        .expect_rows(1)
        .submit();
    submitted.await.expect("it is well-formed")
}
