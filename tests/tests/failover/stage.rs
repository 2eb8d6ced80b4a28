//! A deployment of which one server fails over, and what operators and auditors see of it.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use gavel_chaos::bank::{MARK, UPDATE};
use gavel_client::{Ack, Gavel, Outcome, Txid, params};
use gavel_devkit::Role;
use gavel_tests::bank::{self, Books, DATABASE};
use gavel_tests::fleet::Fleet;
use local_postgres::Server;
use serde_json::Value;

/// Indices of the shards; tags are one more.
pub(crate) const ALPHA: usize = 0;
pub(crate) const BETA: usize = 1;
pub(crate) const DECISIONS: usize = 2;
const NAMES: [&str; 3] = ["alpha", "beta", "decisions"];
/// Participants audit by themselves all the time, not once a minute.
const LIMITS: &str = "[limits]\naudit_interval_ms = 200";
const FOUND_WITHIN: Duration = Duration::from_secs(30);
/// Exit code of commands that know of damage.
const DAMAGE: i32 = 6;

/// Damage: batch, shard, kind.
pub(crate) type Damage = BTreeSet<(String, String, String)>;

/// A fleet, and a standby of one of its servers.
pub(crate) struct Stage {
    pub(crate) fleet: Fleet,
    pub(crate) gavel: Gavel,
    /// Of which shard.
    pub(crate) shard: usize,
    standby: Server,
    is_promoted: bool,
    accounts: i64,
}

impl Stage {
    /// A deployment whose shard `shard` has an asynchronous standby.
    pub(crate) async fn set(shard: usize) -> Self {
        let fleet = Fleet::start_with(|mut options| {
            options.extra_config = LIMITS.to_owned();
            options
        });
        let gavel = fleet.client().await;
        let standby = tokio::task::block_in_place(|| fleet.dev.servers()[shard].standby("heir"));
        Self {
            fleet,
            gavel,
            shard,
            standby: standby.expect("a standby"),
            is_promoted: false,
            accounts: 0,
        }
    }

    pub(crate) fn standby(&self) -> &Server {
        &self.standby
    }

    /// The server that is a shard's primary now.
    pub(crate) fn server(&self, shard: usize) -> &Server {
        match self.is_promoted && shard == self.shard {
            true => &self.standby,
            false => &self.fleet.dev.servers()[shard],
        }
    }

    fn servers(&self) -> Vec<&Server> {
        (0..NAMES.len()).map(|shard| self.server(shard)).collect()
    }

    /// A transaction on one shard only, which is its own home.
    pub(crate) async fn local(&mut self, shard: usize) -> Transfer {
        let transfer = self.next_transfer(shard);
        let (name, account) = (transfer.txid.to_string(), transfer.account);
        let transaction = self.gavel.transaction().txid(transfer.txid);
        let submitted = transaction
            .on(NAMES[shard])
            .execute(MARK, params![name.as_str(), account, 0])
            .submit();
        let outcome = submitted.await.expect("it is well-formed");
        assert!(outcome.is_committed(), "{outcome:?}");
        transfer
    }

    /// From here on nothing reaches the standby any more: it will be lost.
    pub(crate) fn cut_off_standby(&self) {
        tokio::task::block_in_place(|| {
            let primary = self.server(self.shard);
            self.standby.wait_caught_up(primary).expect("caught up");
            self.standby.stop_receiving().expect("cut off");
        });
    }

    /// A transfer between accounts of alpha and beta that nothing else uses.
    pub(crate) fn next_transfer(&mut self, home: usize) -> Transfer {
        self.accounts += 1;
        Transfer {
            gavel: self.gavel.clone(),
            txid: self.gavel.mint(NAMES[home]).expect("a shard"),
            account: self.accounts,
        }
    }

    /// Transfers that are acknowledged when every shard shows them.
    pub(crate) async fn transfers(&mut self, home: usize, count: usize) -> Vec<Transfer> {
        let mut all = Vec::new();
        for _ in 0..count {
            let transfer = self.next_transfer(home);
            let outcome = transfer.submit(Ack::Applied).await;
            let applied = matches!(&outcome, Outcome::Committed(done) if done.applied);
            assert!(applied, "{outcome:?}");
            all.push(transfer);
        }
        all
    }

    /// A transfer that is decided, and prepared on beta whose participant is dead.
    pub(crate) async fn stuck_transfer(&mut self, home: usize) -> Transfer {
        let beta = Role::Participant(BETA);
        let (fleet, limit) = (&self.fleet, FOUND_WITHIN);
        fleet.arm(beta, "participant.finish.received");
        fleet.dev.wait_ready(limit).expect("ready");
        let transfer = self.next_transfer(home);
        let outcome = transfer.submit(Ack::Decided).await;
        assert!(outcome.is_committed(), "{outcome:?}");
        let died = tokio::task::block_in_place(|| self.fleet.dev.wait_exit(beta, limit));
        died.expect("the participant reached the point");
        transfer
    }

    /// Kills the primary for good and promotes the standby. The participant is down until
    /// [`Stage::come_back`]. Gives the commit decisions that were lost: their batches.
    pub(crate) fn fail_over(&mut self) -> BTreeSet<String> {
        let before = self.commits(self.shard);
        let _dead_already = self.fleet.dev.kill(Role::Participant(self.shard));
        tokio::task::block_in_place(|| {
            self.server(self.shard).kill9().expect("kill the primary");
            self.standby.promote().expect("promote the standby");
        });
        let (old, new) = (self.server(self.shard).port(), self.standby.port());
        self.is_promoted = true;
        let path = self.fleet.dev.config_path();
        let config = std::fs::read_to_string(&path).expect("the configuration");
        let address = |port: u16| format!("@127.0.0.1:{port}/");
        assert!(config.contains(&address(old)));
        std::fs::write(&path, config.replace(&address(old), &address(new))).expect("write it");
        let after = self.commits(self.shard);
        before.difference(&after).cloned().collect()
    }

    fn commits(&self, shard: usize) -> BTreeSet<String> {
        let sql = "SELECT batch FROM gavel.decision WHERE outcome = 'commit'";
        let rows = self.server(shard).sql(DATABASE, sql).expect("SQL");
        rows.into_iter()
            .map(|mut row| row.remove(0).expect("a batch"))
            .collect()
    }

    /// What the documentation tells operators to do after data was lost.
    pub(crate) fn begin_new_incarnation(&self) {
        let name = NAMES[self.shard];
        let sure = "--i-restored-or-moved-this-database";
        let command = ["shard", "new-incarnation", "--shard", name];
        let because = ["--because", "data was lost"];
        let (code, said) = self.gavel(&[&command[..], &because, &["--dry-run"]].concat());
        assert_eq!(code, 0, "{said}");
        let (code, _) = self.gavel(&[&command[..], &because, &[sure]].concat());
        assert_eq!(code, 0);
        self.kill_coordinators();
    }

    pub(crate) fn kill_coordinators(&self) {
        for index in 0..2 {
            self.fleet.dev.kill_coordinator(index).expect("it runs");
        }
    }

    /// Starts whatever is down, and waits until everybody is ready.
    pub(crate) fn come_back(&self) {
        let participants = (0..NAMES.len()).map(Role::Participant);
        for role in participants.chain((0..2).map(Role::Coordinator)) {
            self.fleet.dev.spawn(role, &[]).expect("start it");
        }
        self.fleet.dev.wait_ready(FOUND_WITHIN).expect("ready");
    }

    /// Runs `gavel`; its exit code and what it says.
    pub(crate) fn gavel(&self, arguments: &[&str]) -> (i32, Value) {
        let mut command = self.fleet.command(arguments, None);
        let output = tokio::task::block_in_place(|| command.arg("--json").output());
        let output = output.expect("run gavel");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let said = serde_json::from_str(&text).unwrap_or_else(|error| {
            let errors = String::from_utf8_lossy(&output.stderr).into_owned();
            panic!("{arguments:?} said {text:?}: {error}\n{errors}")
        });
        (output.status.code().expect("an end of its own"), said)
    }

    /// What `gavel audit` finds. It has to have asked everybody.
    pub(crate) fn audit(&self) -> Damage {
        let (code, said) = self.gavel(&["audit"]);
        assert_eq!(said["not_audited"], serde_json::json!([]), "{said}");
        let found = said["damage"].as_array().expect("a list");
        let damage: Damage = found
            .iter()
            .map(|each| (text(each, "batch"), text(each, "shard"), text(each, "kind")))
            .collect();
        assert_eq!(code, if damage.is_empty() { 0 } else { DAMAGE }, "{said}");
        damage
    }

    /// Batch and kind of all damage that is recorded anywhere, as `gavel damage` lists it, which
    /// has to be what the tables hold.
    pub(crate) fn recorded(&self) -> BTreeSet<(String, String)> {
        let (code, said) = self.gavel(&["damage"]);
        let shards = said["shards"].as_array().expect("a list");
        let listed: BTreeSet<(String, String)> = shards
            .iter()
            .flat_map(|shard| shard["damage"].as_array().expect("it can be asked"))
            .map(|each| (text(each, "batch"), text(each, "kind")))
            .collect();
        assert_eq!(code, if listed.is_empty() { 0 } else { DAMAGE }, "{said}");
        assert_eq!(listed, self.recorded_rows());
        listed
    }

    fn recorded_rows(&self) -> BTreeSet<(String, String)> {
        let sql = "SELECT batch, kind FROM gavel.damage";
        let servers = self.servers().into_iter();
        let rows = servers.flat_map(|server| server.sql(DATABASE, sql).expect("SQL"));
        rows.map(|row| {
            let mut row = row.into_iter().map(|value| value.expect("not null"));
            (row.next().expect("batch"), row.next().expect("kind"))
        })
        .collect()
    }

    /// Waits until participants have recorded all of this by themselves.
    pub(crate) async fn until_recorded(&self, expected: &Damage) {
        let expected: BTreeSet<(String, String)> = expected
            .iter()
            .map(|(batch, _, kind)| (batch.clone(), kind.clone()))
            .collect();
        self.until("the auditors find it", || {
            expected.is_subset(&self.recorded_rows())
        })
        .await;
    }

    pub(crate) async fn until(&self, what: &str, mut holds: impl FnMut() -> bool) {
        let began = Instant::now();
        while !holds() {
            assert!(
                began.elapsed() < FOUND_WITHIN,
                "{what}: not within {FOUND_WITHIN:?}"
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// The shards on which a batch is applied, by their branch rows.
    pub(crate) fn applied_on(&self, batch: &str) -> Vec<&'static str> {
        let sql = format!("SELECT 1 FROM gavel.branch WHERE batch = '{batch}'");
        let applied = |shard: &usize| !self.server(*shard).sql(DATABASE, &sql).unwrap().is_empty();
        (0..NAMES.len())
            .filter(applied)
            .map(|shard| NAMES[shard])
            .collect()
    }

    /// gids that are prepared on a shard.
    pub(crate) fn prepared(&self, shard: usize) -> Vec<String> {
        let sql = "SELECT gid FROM pg_prepared_xacts WHERE gid LIKE 'gavel:%'";
        let rows = self.server(shard).sql(DATABASE, sql).expect("SQL");
        rows.into_iter()
            .map(|mut row| row.remove(0).expect("a gid"))
            .collect()
    }

    /// The books of all primaries.
    pub(crate) fn books(&self) -> Books {
        bank::read_books(&self.servers())
    }

    /// The shards that show a transfer, one entry per mark.
    pub(crate) fn marked(&self, transfer: &Transfer) -> Vec<usize> {
        let sql = format!("SELECT 1 FROM mark WHERE txid = '{}'", transfer.txid);
        let marks = |shard| {
            let rows = self.server(shard).sql(DATABASE, &sql).expect("SQL");
            rows.into_iter().map(move |_| shard)
        };
        (0..NAMES.len()).flat_map(marks).collect()
    }
}

/// A transfer from alpha to beta.
#[derive(Clone)]
pub(crate) struct Transfer {
    gavel: Gavel,
    pub(crate) txid: Txid,
    account: i64,
}

impl Transfer {
    /// Submits it; the same txid and content every time.
    pub(crate) async fn submit(&self, ack: Ack) -> Outcome {
        let name = self.txid.to_string();
        let transaction = self.gavel.transaction().txid(self.txid).ack(ack);
        let submitted = transaction
            .on(NAMES[ALPHA])
            .execute(UPDATE, params![-1, self.account])
            .expect_rows(1)
            .execute(MARK, params![name.as_str(), self.account, -1])
            .on(NAMES[BETA])
            .execute(UPDATE, params![1, self.account])
            .expect_rows(1)
            .execute(MARK, params![name.as_str(), self.account, 1])
            .submit();
        submitted.await.expect("the transfer is well-formed")
    }
}

fn text(value: &Value, key: &str) -> String {
    value[key].as_str().unwrap_or_default().to_owned()
}
