//! What services say about themselves: metrics and health, of real processes over real servers.

mod temporary;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use gavel_devkit::{Dev, Options, Role};
use local_postgres::Mode;
use serde_json::{Value, json};
use temporary::folder;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

const GAVEL: &str = env!("CARGO_BIN_EXE_gavel");
/// Generous: other tests may keep the machine busy.
const LIMIT: Duration = Duration::from_secs(60);

struct Deployment {
    dev: Dev,
    _folder: tempfile::TempDir,
}

impl Deployment {
    fn start() -> Self {
        let folder = folder();
        let mut options = Options::for_tests(folder.path().join("data"), GAVEL);
        options.shards = Some(2);
        let dev = Dev::start(&options).expect("a deployment");
        Self {
            dev,
            _folder: folder,
        }
    }

    async fn insert(&self, note: Value) -> Value {
        let statement = json!({"sql": "insert into hello (note) values ($1)", "params": [note]});
        let body = json!({"branches": [
            {"shard": "alpha", "statements": [statement]},
            {"shard": "beta", "statements": [statement]},
        ]});
        let url = format!("{}/v1/transactions", self.dev.coordinator_url());
        let sent = reqwest::Client::new().post(url).json(&body).send().await;
        let answer = sent.expect("an answer").json::<Value>().await;
        answer.expect("JSON")
    }

    async fn get(&self, process: &str, path: &str) -> (u16, String) {
        let url = format!("{}{path}", self.dev.metrics_urls()[process]);
        let answer = reqwest::get(url).await.expect("an answer");
        let status = answer.status().as_u16();
        (status, answer.text().await.expect("a text"))
    }

    /// Every series of a process: its name with labels, and its value.
    async fn metrics(&self, process: &str) -> BTreeMap<String, f64> {
        let (status, text) = self.get(process, "/metrics").await;
        assert_eq!(status, 200, "{text}");
        let series = text.lines().filter(|line| !line.starts_with('#'));
        let series = series.filter_map(|line| line.rsplit_once(' '));
        series
            .map(|(name, value)| (name.to_owned(), value.parse().expect(name)))
            .collect()
    }

    /// Waits until a series of a process fits; gauges are set every second, or by the next scan.
    async fn until(&self, process: &str, series: &str, fits: impl Fn(f64) -> bool) {
        let started = Instant::now();
        loop {
            let value = self.metrics(process).await.get(series).copied();
            if value.is_some_and(&fits) {
                return;
            }
            assert!(
                started.elapsed() < LIMIT,
                "{series} of {process}: {value:?}"
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

#[tokio::test]
async fn what_happens_is_counted_where_it_happens() {
    let deployment = Deployment::start();
    let committed = deployment.insert(json!("counted")).await;
    assert_eq!(committed["outcome"], "committed", "{committed}");
    let aborted = deployment.insert(Value::Null).await;
    assert_eq!(aborted["outcome"], "aborted", "{aborted}");
    let reason = aborted["error"]["code"].as_str().expect("a code");

    let coordinator = deployment.metrics("coordinator").await;
    let of = |name: &str| coordinator.get(name).copied();
    let answers = r#"gavel_transactions_total{outcome="committed",reason=""}"#;
    assert_eq!(of(answers), Some(1.0));
    let answers = format!(r#"gavel_transactions_total{{outcome="aborted",reason="{reason}"}}"#);
    assert_eq!(of(&answers), Some(1.0), "{coordinator:?}");
    assert_eq!(
        of(r#"gavel_transaction_seconds_count{outcome="committed"}"#),
        Some(1.0)
    );
    assert_eq!(
        of(r#"gavel_phase_seconds_count{phase="decide"}"#),
        Some(1.0)
    );
    assert_eq!(of(r#"gavel_phase_seconds_count{phase="apply"}"#), Some(1.0));
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(
        of(&format!("gavel_build_info{{version=\"{version}\"}}")),
        Some(1.0)
    );

    let alpha = deployment.metrics("participant-alpha").await;
    let beta = deployment.metrics("participant-beta").await;
    let call = |shard: &str, call: &str, result: &str| {
        format!(
            "gavel_participant_calls_total{{shard=\"{shard}\",call=\"{call}\",result=\"{result}\"}}"
        )
    };
    // Home is the shard with the lowest tag.
    assert_eq!(alpha.get(&call("alpha", "decide", "committed")), Some(&1.0));
    assert_eq!(beta.get(&call("beta", "finish", "committed")), Some(&1.0));
    assert_eq!(beta.get(&call("beta", "prepare", "yes")), Some(&1.0));
    assert_eq!(beta.get(&call("beta", "prepare", "no")), Some(&1.0));
    let slots = r#"gavel_prepared_slots{shard="beta"}"#;
    deployment
        .until("participant-beta", slots, |slots| slots > 0.0)
        .await;
}

#[tokio::test]
async fn a_branch_that_hangs_is_seen_and_its_end_too() {
    let deployment = Deployment::start();
    let foreign = "begin; insert into hello (note) values ('x'); prepare transaction 'theirs'";
    let server = &deployment.dev.servers()[1];
    server.sql("app", foreign).expect("prepare by hand");
    let age = r#"gavel_foreign_prepared_oldest_seconds{shard="beta"}"#;
    deployment
        .until("participant-beta", age, |age| age > 0.0)
        .await;
    server
        .sql("app", "rollback prepared 'theirs'")
        .expect("end it");
    deployment
        .until("participant-beta", age, |age| age == 0.0)
        .await;

    let record = "select gavel.record_damage(gen_random_uuid(), null, 'commit_lost', 'by a test')";
    server.sql("app", record).expect("record damage");
    let open = r#"gavel_damage_open{shard="beta"}"#;
    deployment
        .until("participant-beta", open, |open| open == 1.0)
        .await;
    let damage = |arguments: &[&str]| {
        let mut command = std::process::Command::new(GAVEL);
        command.arg("--config").arg(deployment.dev.config_path());
        let ran = command
            .arg("damage")
            .args(arguments)
            .output()
            .expect("gavel runs");
        (
            ran.status.code(),
            String::from_utf8_lossy(&ran.stdout).into_owned(),
        )
    };
    assert_eq!(damage(&[]).0, Some(6));
    let acknowledge = ["acknowledge", "--shard", "beta", "--id"];
    let (code, _) = damage(&[&acknowledge[..], &["77", "--because", "no such"]].concat());
    assert_eq!(code, Some(1));
    let (code, said) = damage(&[&acknowledge[..], &["1", "--because", "only a test"]].concat());
    assert_eq!(code, Some(0), "{said}");
    let (code, said) = damage(&[]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("only a test"), "{said}");
    deployment
        .until("participant-beta", open, |open| open == 0.0)
        .await;
}

#[tokio::test]
async fn health_says_which_shard_is_not_well() {
    let deployment = Deployment::start();
    for process in ["coordinator", "participant-alpha", "participant-beta"] {
        for path in ["/health/live", "/health/ready", "/health/shards"] {
            let (status, text) = deployment.get(process, path).await;
            assert_eq!(status, 200, "{process} {path}: {text}");
        }
    }
    let address = deployment.dev.shards()[1].participant_url.clone();
    let channel = tonic::transport::Channel::from_shared(address).expect("an address");
    let mut probe = HealthClient::new(channel.connect().await.expect("a connection"));
    let whole = HealthCheckRequest::default();
    let answer = probe.check(whole.clone()).await.expect("an answer");
    assert_eq!(answer.into_inner().status(), ServingStatus::Serving);
    deployment.dev.servers()[1]
        .stop(Mode::Immediate)
        .expect("stop the server");
    let (status, text) = deployment.get("participant-beta", "/health/ready").await;
    assert_eq!(status, 503, "{text}");
    let answer = probe.check(whole).await.expect("an answer");
    assert_eq!(answer.into_inner().status(), ServingStatus::NotServing);
    deployment
        .dev
        .kill(Role::Participant(1))
        .expect("kill the participant");
    let sight = r#"gavel_shard_in_sight{shard="beta"}"#;
    deployment
        .until("coordinator", sight, |sight| sight == 0.0)
        .await;
    let (status, text) = deployment.get("coordinator", "/health/shards").await;
    assert_eq!(status, 503, "{text}");
    let shards: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(shards["shards"]["alpha"]["healthy"], true, "{text}");
    assert_eq!(shards["shards"]["beta"]["healthy"], false, "{text}");
}

#[tokio::test]
async fn the_log_level_changes_with_the_configuration() {
    let deployment = Deployment::start();
    let config = deployment.dev.config_path();
    let log = deployment.dev.log_path(Role::Participant(0));
    let says = |what: &str| {
        let text = std::fs::read_to_string(&log).expect("a log");
        text.contains(what)
    };
    let before = std::fs::read_to_string(&config).expect("a configuration");
    // Half a file changes nothing.
    std::fs::write(&config, "deployment = ").expect("written");
    let until = async |what: &str| {
        let started = Instant::now();
        while !says(what) {
            assert!(started.elapsed() < LIMIT, "{what}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    until("the changed configuration is not taken over").await;
    assert!(!says("DEBUG"));
    let debug = format!("{before}\n[log]\nlevel = \"debug\"\n");
    std::fs::write(&config, debug).expect("written");
    until("the log level has changed").await;
    deployment.insert(json!("x")).await;
    until("DEBUG").await;
}
