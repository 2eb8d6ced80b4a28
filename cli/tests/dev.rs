//! `gavel dev` with real servers: start, use, kill -9, resume, stop.

mod temporary;

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use temporary::folder;

/// Generous: other tests may keep the machine busy.
const LIMIT: Duration = Duration::from_secs(120);

fn gavel(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gavel"));
    command
        .args(args)
        .env_remove("GAVEL_CONFIG")
        .env_remove("GAVEL_ENDPOINT");
    command
}

/// A running `gavel dev`; killed when dropped.
struct Running {
    process: Child,
    said: Value,
}

impl Running {
    fn start(data: &str) -> Self {
        let mut process = gavel(&["--json", "dev", "--shards", "2", "--data", data])
            .arg("--port")
            .arg(port(data).to_string())
            .stdout(Stdio::piped())
            .spawn()
            .expect("gavel runs");
        let mut line = String::new();
        let stdout = process.stdout.take().expect("piped");
        BufReader::new(stdout).read_line(&mut line).expect("a line");
        let said = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"));
        Self { process, said }
    }

    fn coordinator(&self) -> &str {
        self.said["coordinators"][0].as_str().expect("an address")
    }

    fn signal(&self, signal: &str) {
        let pid = self.process.id().to_string();
        let status = Command::new("kill").args([signal, &pid]).status();
        assert!(status.expect("kill runs").success());
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _gone_already = self.process.kill();
        let _reaped = self.process.wait();
    }
}

/// One port per folder, kept beside it.
fn port(data: &str) -> u16 {
    let file = format!("{data}.port");
    if let Ok(text) = std::fs::read_to_string(&file) {
        return text.parse().expect("a port");
    }
    let port = local_postgres::free_port().expect("a port");
    std::fs::write(&file, port.to_string()).expect("a file");
    port
}

fn wait_for(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + LIMIT;
    while !condition() {
        assert!(Instant::now() < deadline, "waited in vain: {what}");
        thread::sleep(Duration::from_millis(20));
    }
}

fn submit(coordinator: &str, note: &str) -> Output {
    let insert = json!([{
        "sql": "insert into hello (note) values ($1)", "params": [note],
        "expect": {"rows_exactly": 1},
    }]);
    let request = json!({"branches": [
        {"shard": "alpha", "statements": insert},
        {"shard": "beta", "statements": insert},
    ]});
    let mut process = gavel(&["--json", "tx", "submit", "--endpoint", coordinator])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("gavel runs");
    let mut stdin = process.stdin.take().expect("piped");
    write!(stdin, "{request}").expect("the request");
    drop(stdin);
    process.wait_with_output().expect("an end")
}

fn json_of(output: &Output) -> Value {
    let text = String::from_utf8_lossy(&output.stdout);
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// What a command of an operator prints, given the configuration that `dev` wrote.
fn operate(data: &str, args: &[&str]) -> Output {
    let config = Path::new(data).join("gavel.toml");
    let config = config.to_string_lossy();
    let all = [&["--json", "--config", &*config], args].concat();
    gavel(&all).output().expect("gavel runs")
}

fn is_open(coordinator: &str) -> bool {
    let address = coordinator.trim_start_matches("http://");
    std::net::TcpStream::connect(address).is_ok()
}

#[test]
fn dev_is_used_killed_resumed_and_stopped() {
    let folder = folder();
    let data = folder.path().join("data");
    let data = data.to_str().expect("UTF-8");

    let first = Running::start(data);
    let committed = submit(first.coordinator(), "before");
    assert_eq!(committed.status.code(), Some(0), "{}", json_of(&committed));
    let txid = json_of(&committed)["txid"]
        .as_str()
        .expect("a txid")
        .to_owned();

    let second = gavel(&["dev", "--data", data])
        .output()
        .expect("gavel runs");
    assert_eq!(second.status.code(), Some(1));
    let why = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(why.contains("is in use by process"), "{why}");

    // Killed: its children notice, and the next start finds everything as it was.
    let coordinator = first.coordinator().to_owned();
    first.signal("-KILL");
    wait_for("the coordinator leaves", || !is_open(&coordinator));
    drop(first);
    let resumed = Running::start(data);
    assert_eq!(resumed.coordinator(), coordinator);
    let status = operate(data, &["tx", "status", &txid]);
    assert_eq!(status.status.code(), Some(0), "{}", json_of(&status));
    let after = submit(&coordinator, "after");
    assert_eq!(after.status.code(), Some(0), "{}", json_of(&after));
    everything_is_well(data);

    resumed.signal("-TERM");
    let mut resumed = resumed;
    let ended = resumed.process.wait().expect("an end");
    assert_eq!(
        ended.code(),
        Some(0),
        "a stop that was asked for is no failure"
    );
    assert!(!is_open(&coordinator));
    // With the servers down, the same commands say so.
    let check = operate(data, &["check"]);
    assert_eq!(check.status.code(), Some(1));
    assert_eq!(json_of(&check)["shards"][0]["code"], "shard_unreachable");
}

fn everything_is_well(data: &str) {
    let check = operate(data, &["check"]);
    assert_eq!(check.status.code(), Some(0), "{}", json_of(&check));
    assert_eq!(json_of(&check)["ok"], true);
    let audit = operate(data, &["audit"]);
    assert_eq!(audit.status.code(), Some(0), "{}", json_of(&audit));
    let audit = json_of(&audit);
    assert_eq!(audit["clean"], true);
    assert!(
        audit["branches"].as_u64() >= Some(2),
        "one branch per transaction: {audit}"
    );
    let in_doubt = operate(data, &["in-doubt", "list"]);
    assert_eq!(in_doubt.status.code(), Some(0), "{}", json_of(&in_doubt));
    let migrate = operate(data, &["migrate"]);
    assert_eq!(migrate.status.code(), Some(0), "{}", json_of(&migrate));
    let because = "a test";
    let run = ["retention", "run", "--because", because];
    let look = operate(data, &[&run[..], &["--dry-run"]].concat());
    assert_eq!(look.status.code(), Some(0), "{}", json_of(&look));
    let actions = || {
        let actions = operate(data, &["actions"]);
        assert_eq!(actions.status.code(), Some(0), "{}", json_of(&actions));
        json_of(&actions)["actions"]
            .as_array()
            .expect("a list")
            .clone()
    };
    let before = actions().len();
    let retention = operate(data, &run);
    assert_eq!(retention.status.code(), Some(0), "{}", json_of(&retention));
    let done = actions().split_off(before);
    assert_eq!(
        done.len(),
        2,
        "on every shard, and not for looking: {done:?}"
    );
    for action in done {
        assert_eq!(action["what"], "retention run", "{action}");
        assert_eq!(action["because"], because, "{action}");
        assert!(action["by"].is_string(), "{action}");
    }
    exit_codes(data);
}

/// 3 for aborted, 4 for refused, 5 for unknown.
fn exit_codes(data: &str) {
    let id = operate(data, &["tx", "id", "--home", "beta"]);
    let txid = json_of(&id)["txid"].as_str().expect("a txid").to_owned();
    assert!(txid.ends_with("0002"), "R9: beta's tag is in {txid}");
    let unknown = operate(data, &["tx", "status", &txid]);
    assert_eq!(unknown.status.code(), Some(5), "{}", json_of(&unknown));
    let aborted = operate(data, &["tx", "abort", &txid]);
    assert_eq!(aborted.status.code(), Some(3), "{}", json_of(&aborted));
    let status = operate(data, &["tx", "status", &txid]);
    assert_eq!(status.status.code(), Some(3), "{}", json_of(&status));
    let stranger = format!("{}ffff", &txid[..txid.len() - 4]);
    let refused = operate(data, &["tx", "abort", &stranger]);
    assert_eq!(refused.status.code(), Some(4), "{}", json_of(&refused));
}
