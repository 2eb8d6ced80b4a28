//! A deployment, and everything that goes wrong with it.

use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use gavel_devkit::{Dev, Options};
use serde_json::{Value, json};

use crate::temporary::folder;

const GAVEL: &str = env!("CARGO_BIN_EXE_gavel");
const TOKEN: &str = "a-token-with-enough-characters";
const DATABASE: &str = "app";

/// The places of the shards.
pub(crate) const ALPHA: usize = 0;
pub(crate) const BETA: usize = 1;

pub(crate) struct Stage {
    pub(crate) dev: Dev,
    _folder: tempfile::TempDir,
}

impl Stage {
    /// Two shards; audits every second, and room for few transactions.
    pub(crate) fn start() -> Self {
        let folder = folder();
        let token = folder.path().join("token");
        std::fs::write(&token, TOKEN).expect("a file");
        let mut options = Options::for_tests(folder.path().join("data"), GAVEL);
        options.shards = Some(2);
        options.extra_config = format!(
            "[[principal]]\nname = \"tester\"\nrole = \"operator\"\ntoken_file = {:?}\n\n\
             [limits]\naudit_interval_ms = 1000\nin_flight_max = 4\n",
            token.display().to_string()
        );
        let dev = Dev::start(&options).expect("a deployment");
        Self {
            dev,
            _folder: folder,
        }
    }

    pub(crate) fn processes(&self) -> usize {
        self.dev.metrics_urls().len()
    }

    pub(crate) fn sql(&self, shard: usize, sql: &str) {
        let server = &self.dev.servers()[shard];
        server
            .sql(DATABASE, sql)
            .unwrap_or_else(|error| panic!("{sql}: {error}"));
    }

    async fn submit(&self, sql: &str) -> Value {
        self.submit_two(sql, sql).await
    }

    async fn submit_two(&self, on_alpha: &str, on_beta: &str) -> Value {
        let branch = |shard: &str, sql: &str| json!({"shard": shard, "statements": [{"sql": sql}]});
        let branches = [branch("alpha", on_alpha), branch("beta", on_beta)];
        let body = json!({"branches": branches, "timeout_ms": 4000});
        let url = format!("{}/v1/transactions", self.dev.coordinator_url());
        let sent = reqwest::Client::new()
            .post(url)
            .bearer_auth(TOKEN)
            .json(&body);
        let answer = sent.timeout(Duration::from_secs(10)).send().await;
        answer.expect("an answer").json().await.expect("JSON")
    }

    /// One transaction, which commits.
    pub(crate) async fn commit(&self) {
        let mut answer = self.try_to_commit().await;
        while answer["outcome"] == "refused" {
            // The circuit of a shard that has just come back lets one try at a time.
            answer = self.try_to_commit().await;
        }
        assert_eq!(answer["outcome"], "committed", "{answer}");
    }

    /// One transaction, which may be refused.
    pub(crate) async fn try_to_commit(&self) -> Value {
        self.submit("insert into hello (note) values ('x')").await
    }

    /// More transactions at once than there is room for.
    pub(crate) async fn overload(&self) {
        let slow = "insert into hello (note) select 'slow' from pg_sleep(0.2)";
        let crowd = (0..12).map(|_| self.submit(slow));
        futures::future::join_all(crowd).await;
    }

    /// A transaction whose home takes its time, so that its branch on beta can be rolled back by hand
    /// before home commits.
    pub(crate) async fn commit_what_somebody_rolls_back(&self) {
        let plain = "insert into hello (note) values ('x')";
        let slow = "insert into hello (note) select 'slow' from pg_sleep(2)";
        let by_hand = async {
            let prepared = loop {
                let sql = "SELECT gid FROM pg_prepared_xacts WHERE gid LIKE 'gavel:%'";
                let mut rows = self.dev.servers()[BETA].sql(DATABASE, sql).expect("SQL");
                if let Some(Some(gid)) = rows.pop().map(|mut row| row.remove(0)) {
                    break gid;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            };
            self.sql(BETA, &format!("ROLLBACK PREPARED '{prepared}'"));
        };
        let (answer, ()) = tokio::join!(self.submit_two(slow, plain), by_hand);
        // Decided is decided; that it is not applied everywhere is what the alarm is about.
        assert_eq!(answer["outcome"], "committed", "{answer}");
        assert_eq!(answer["applied"], false, "{answer}");
    }

    /// A call without a token that is known.
    pub(crate) async fn knock(&self) {
        let url = format!("{}/v1/shards", self.dev.coordinator_url());
        let answer = reqwest::Client::new()
            .get(url)
            .bearer_auth("guessed")
            .send()
            .await;
        assert_eq!(answer.expect("an answer").status(), 401);
    }

    /// Prepares transactions that are not Gavel's.
    pub(crate) fn prepare_theirs(&self, count: usize) {
        for number in 0..count {
            self.sql(
                BETA,
                &format!("BEGIN; PREPARE TRANSACTION 'theirs-{number}'"),
            );
        }
    }

    pub(crate) fn rollback_theirs(&self, count: usize) {
        for number in 0..count {
            self.sql(BETA, &format!("ROLLBACK PREPARED 'theirs-{number}'"));
        }
    }

    /// Prepares a branch on beta whose home is alpha, and whose batch was minted then.
    pub(crate) fn prepare_ours(&self, unix_ms: u64) -> String {
        let batch = gavel_protocol::BatchId::mint(unix_ms, rand::random());
        let gid = format!("gavel:dev:1:1:{batch}:2");
        // Who prepares a branch is who may finish it.
        let role = "SET SESSION AUTHORIZATION app";
        self.sql(BETA, &format!("{role}; BEGIN; PREPARE TRANSACTION '{gid}'"));
        gid
    }

    /// Makes alpha's floors those of a shard whose retention has dropped rows for a long time.
    pub(crate) fn age_home(&self) {
        let floor = gavel_protocol::BatchId::mint(days_ago(8), [0; 16]);
        let floors = ["floor", "verified_floor", "branch_floor", "dropped_floor"];
        let floors = floors.map(|name| format!("{name} = greatest({name}, '{floor}')"));
        let set = floors.join(", ");
        self.sql(ALPHA, &format!("UPDATE gavel.identity SET {set}"));
    }

    /// What the runbook says: look, deal with it, and say so.
    pub(crate) fn acknowledge_damage(&self) {
        let listed: Value =
            serde_json::from_str(&self.gavel(&["--json", "damage"], 6)).expect("JSON");
        for shard in listed["shards"].as_array().expect("shards") {
            let name = shard["shard"].as_str().expect("a name");
            for damage in shard["damage"].as_array().expect("damage") {
                let id = damage["id"].to_string();
                let because = ["--because", "the rows were a test's"];
                let acknowledge = ["damage", "acknowledge", "--shard", name, "--id", &id];
                self.gavel(&[&acknowledge[..], &because[..]].concat(), 0);
            }
        }
    }

    fn gavel(&self, arguments: &[&str], code: i32) -> String {
        let mut command = Command::new(GAVEL);
        command.arg("--config").arg(self.dev.config_path());
        let ran = command.args(arguments).output().expect("gavel runs");
        let said = String::from_utf8_lossy(&ran.stdout).into_owned();
        assert_eq!(ran.status.code(), Some(code), "{arguments:?}: {said}");
        said
    }
}

pub(crate) fn days_ago(days: u64) -> u64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("after 1970");
    let now_ms = u64::try_from(since.as_millis()).expect("before the year 500 million");
    now_ms - days * 24 * 60 * 60 * 1000
}
