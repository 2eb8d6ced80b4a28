//! A whole deployment over TLS: everything is encrypted, who has no certificate gets nowhere, and
//! certificates are replaced while money moves.

mod temporary;

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use gavel_devkit::{Dev, Options, Role};
use gavel_tls::Trust;
use rustls::pki_types::ServerName;
use rustls::version::TLS13;
use rustls::{ClientConnection, StreamOwned};
use serde_json::Value;
use temporary::folder;

const GAVEL: &str = env!("CARGO_BIN_EXE_gavel");
/// Generous: other tests may keep the machine busy.
const LIMIT: Duration = Duration::from_secs(120);
const INSERT: &str = r#"{"timeout_ms": 3000, "branches": [
    {"shard": "alpha", "statements": [{"sql": "insert into hello (note) values ('x')"}]},
    {"shard": "beta", "statements": [{"sql": "insert into hello (note) values ('x')"}]}]}"#;
const CLIENT: &str = "\n[[principal]]\nname = \"orders\"\n\n[audit]\nfile = \"audit.jsonl\"\n";

struct World {
    dev: Dev,
    folder: tempfile::TempDir,
}

impl World {
    fn start() -> Self {
        let folder = folder();
        let mut options = Options::for_tests(folder.path().join("data"), GAVEL);
        options.shards = Some(2);
        options.tls = true;
        options.extra_config = CLIENT.to_owned();
        let dev = Dev::start(&options).expect("a deployment");
        Self { dev, folder }
    }

    fn certificates(&self) -> &Path {
        self.dev.certificates().expect("it has some")
    }

    fn trust(&self, name: &str) -> Trust {
        self.dev.trust(name).expect("it has certificates")
    }

    fn nobody(&self) -> Trust {
        Trust::new().authorities(self.certificates().join("ca.pem"))
    }

    fn gavel(&self, args: &[&str]) -> Output {
        let config = self.dev.config_path();
        let mut command = Command::new(GAVEL);
        command.arg("--config").arg(config).args(args);
        command.output().expect("gavel runs")
    }

    fn submit(&self, more: &[&str]) -> Output {
        let file = self.folder.path().join("request.json");
        std::fs::write(&file, INSERT).expect("a file");
        let file = file.to_string_lossy();
        let mut args = vec!["--json", "tx", "submit", &file];
        args.extend(more);
        self.gavel(&args)
    }

    fn commits(&self) {
        let output = self.submit(&[]);
        assert!(output.status.success(), "{output:?}");
    }

    fn sql(&self, shard: usize, query: &str) -> Vec<Vec<Option<String>>> {
        let rows = self.dev.servers()[shard].sql("app", query);
        rows.expect("an answer")
    }

    fn port(&self, process: &str) -> u16 {
        port(&self.dev.metrics_urls()[process])
    }
}

fn port(url: &str) -> u16 {
    let (_, port) = url.rsplit_once(':').expect("a port");
    port.parse().expect("a number")
}

/// The status of an answer over TLS, and the answer.
fn get(port: u16, path: &str, trust: &Trust) -> std::io::Result<(u16, String)> {
    let config = trust.client_config(&[&TLS13]).expect("certificates");
    let name = ServerName::IpAddress(Ipv4Addr::LOCALHOST.into());
    let session = ClientConnection::new(Arc::new(config), name).expect("a session");
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    stream.set_read_timeout(Some(LIMIT))?;
    ask(StreamOwned::new(session, stream), path)
}

fn get_in_the_clear(port: u16, path: &str) -> std::io::Result<(u16, String)> {
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    stream.set_read_timeout(Some(LIMIT))?;
    ask(stream, path)
}

fn ask(mut stream: impl Read + Write, path: &str) -> std::io::Result<(u16, String)> {
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    let status = text.get(9..12).and_then(|status| status.parse().ok());
    let status = status.ok_or_else(|| std::io::Error::other("no HTTP"))?;
    Ok((status, text))
}

#[test]
fn nothing_of_gavel_is_in_the_clear() {
    let world = World::start();
    world.commits();
    for shard in [0, 1] {
        let query = "SELECT ssl::text, count(*)::text FROM pg_stat_ssl \
                     JOIN pg_stat_activity USING (pid) \
                     WHERE application_name = 'gavel' GROUP BY ssl";
        let rows = world.sql(shard, query);
        assert_eq!(rows.len(), 1, "{rows:?}");
        assert_eq!(rows[0][0].as_deref(), Some("true"));
    }
    let coordinator = port(&world.dev.coordinator_url());
    let participant = port(&world.dev.shards()[0].participant_url);
    for process in ["coordinator", "participant-alpha"] {
        assert!(get_in_the_clear(world.port(process), "/health/live").is_err());
    }
    assert!(get_in_the_clear(coordinator, "/health/live").is_err());
    assert!(get_in_the_clear(participant, "/").is_err());
    let plain = format!("http://127.0.0.1:{coordinator}");
    let output = world.submit(&["--endpoint", &plain, "--deadline-ms", "3000"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
}

#[test]
fn a_certificate_opens_what_its_role_may() {
    let world = World::start();
    let coordinator = port(&world.dev.coordinator_url());
    let watched = world.port("coordinator");
    let orders = world.trust("orders");
    let statuses = |port, path, expected: [u16; 4]| {
        let who = [
            world.nobody(),
            orders.clone(),
            world.trust("metrics"),
            world.trust("operator"),
        ];
        let found = who.map(|trust| get(port, path, &trust).expect("an answer").0);
        assert_eq!(found, expected, "{path}");
    };
    statuses(coordinator, "/health/ready", [200, 200, 200, 200]);
    statuses(coordinator, "/health/shards", [401, 200, 401, 200]);
    statuses(coordinator, "/v1/shards", [401, 200, 401, 200]);
    statuses(coordinator, "/v1/in-doubt", [401, 403, 401, 200]);
    statuses(watched, "/health/live", [200, 200, 200, 200]);
    statuses(watched, "/health/ready", [200, 200, 200, 200]);
    statuses(watched, "/health/shards", [401, 403, 200, 200]);
    statuses(watched, "/metrics", [401, 403, 200, 200]);
    // A service's certificate makes nobody a client.
    let participant = world.trust("participant-alpha");
    let (status, _) = get(coordinator, "/v1/shards", &participant).expect("an answer");
    assert_eq!(status, 401);

    let folder = world.certificates().display();
    let certificate = format!("{folder}/orders.pem");
    let key = format!("{folder}/orders.key");
    let own = ["--certificate-file", &certificate, "--key-file", &key];
    assert!(world.submit(&own).status.success());
    let list = [&["in-doubt", "list"], own.as_slice()].concat();
    let output = world.gavel(&list);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(
        error.contains("forbidden") || error.contains("operator"),
        "{error}"
    );
}

#[test]
fn certificates_are_replaced_while_transactions_commit() {
    let world = World::start();
    world.commits();
    let expiry = |process: &str| {
        let trust = world.trust("metrics");
        let (_, text) = get(world.port(process), "/metrics", &trust).expect("an answer");
        let name = "gavel_certificate_expiry_timestamp_seconds ";
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        let value = line.expect("it says when").parse::<f64>();
        value.expect("a number")
    };
    let processes = ["coordinator", "participant-alpha", "participant-beta"];
    let before = processes.map(expiry);
    let folder = world.certificates().to_string_lossy().into_owned();
    let renew = ["certs", "--out", &folder, "--days", "30", "--renew"];
    let output = world.gavel(&renew);
    assert!(output.status.success(), "{output:?}");
    let begun = Instant::now();
    while processes
        .map(expiry)
        .iter()
        .zip(before)
        .any(|(now, before)| *now >= before)
    {
        assert!(
            begun.elapsed() < LIMIT,
            "the certificates are not read again"
        );
        world.commits();
    }
    // New connections, with new certificates on both sides.
    world
        .dev
        .restart(Role::Participant(0))
        .expect("it starts again");
    world.commits();

    // Half of a pair is not used, and what was good stays.
    let certificate = world.certificates().join("coordinator.pem");
    std::fs::write(&certificate, "not a certificate").expect("a file");
    let log = world.dev.log_path(Role::Coordinator(0));
    let begun = Instant::now();
    let is_told = || {
        let text = std::fs::read_to_string(&log).unwrap_or_default();
        text.contains("the new certificate cannot be used; the one before stays")
    };
    while !is_told() {
        assert!(begun.elapsed() < LIMIT, "nothing is said about the file");
        std::thread::sleep(Duration::from_millis(50));
    }
    world.commits();
}

#[test]
fn a_service_says_what_is_wrong_with_its_certificate() {
    let world = World::start();
    let folder = world.certificates();
    let start = || world.gavel(&["coordinator", "--listen", "127.0.0.1:0"]);
    let says = |expected: &str| {
        let output = start();
        assert!(!output.status.success(), "{output:?}");
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(error.contains(expected), "{expected}: {error}");
    };
    let pair = |name: &str| {
        for suffix in ["pem", "key"] {
            let from = folder.join(format!("{name}.{suffix}"));
            let to = folder.join(format!("coordinator.{suffix}"));
            std::fs::copy(from, to).expect("a copy");
        }
    };
    pair("orders");
    says("the certificate is that of `spiffe://dev/gavel/client/orders`");
    pair("postgres-127.0.0.1");
    says("the certificate is that of nobody");
    std::fs::copy(folder.join("orders.key"), folder.join("coordinator.key")).expect("a copy");
    says("cannot be used together");
    std::fs::remove_file(folder.join("coordinator.key")).expect("it is there");
    says("cannot be read");
}

#[test]
fn who_did_what_is_on_record() {
    let world = World::start();
    let coordinator = port(&world.dev.coordinator_url());
    let gid = "gavel:dev:1:1:019a9f0e-7c11-7b1e-8f5a-3d4c5b6a7988:2";
    let because = "ticket 4711\nwho=\"somebody else\"";
    // There is no such branch; that somebody asked is on record all the same.
    let reason = ["--because", because, "--deadline-ms", "1000"];
    let output = world.gavel(&[&["in-doubt", "resolve", gid], reason.as_slice()].concat());
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let orders = world.trust("orders");
    let (status, _) = get(coordinator, "/v1/in-doubt", &orders).expect("an answer");
    assert_eq!(status, 403);
    let (status, _) = get(coordinator, "/v1/in-doubt", &world.nobody()).expect("an answer");
    assert_eq!(status, 401);
    assert!(get_in_the_clear(coordinator, "/health/live").is_err());

    let file = world.folder.path().join("data/audit.jsonl");
    let text = std::fs::read_to_string(file).expect("the file");
    let records: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).expect("one object per line"))
        .collect();
    let is_on_record = |expected: &[(&str, &str)]| {
        let fits = |record: &Value| expected.iter().all(|(key, value)| record[*key] == *value);
        assert!(records.iter().any(fits), "{expected:?}: {text}");
    };
    is_on_record(&[
        ("who", "operator"),
        ("what", "resolve"),
        ("gid", gid),
        ("because", because),
    ]);
    is_on_record(&[("who", "orders"), ("message", "forbidden")]);
    is_on_record(&[("what", "authentication failed")]);
    is_on_record(&[("what", "handshake failed")]);
}

/// A process; ends with this.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _gone_already = self.0.kill();
        let _reaped = self.0.wait();
    }
}

impl World {
    /// One more participant of beta, at a free port, with this certificate.
    fn beta(&self, certificate: &str) -> Process {
        let file = |kind: &str| self.certificates().join(format!("{certificate}.{kind}"));
        let child = Command::new(GAVEL)
            .arg("--config")
            .arg(self.dev.config_path())
            .args(["participant", "--shard", "beta", "--listen", "127.0.0.1:0"])
            .env("GAVEL__TLS__CERTIFICATE_FILE", file("pem"))
            .env("GAVEL__TLS__KEY_FILE", file("key"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        Process(child.expect("gavel runs"))
    }

    fn audited(&self) -> String {
        let file = self.dev.config_path().with_file_name("audit.jsonl");
        std::fs::read_to_string(file).unwrap_or_default()
    }
}

#[test]
fn who_announces_a_participant_proves_that_it_is_one() {
    let world = World::start();
    let fixed = &world.dev.shards()[1].participant_url;
    let config = std::fs::read_to_string(world.dev.config_path()).expect("a file");
    let announced = config.replace(fixed, "announced");
    assert_ne!(announced, config);
    let coordinator = world.dev.coordinator_url();
    let registry =
        format!("\n[registry]\nhosts = [\"127.0.0.0/8\"]\ncoordinators = [\"{coordinator}\"]\n");
    std::fs::write(world.dev.config_path(), announced + &registry).expect("written");
    world.dev.kill(Role::Participant(1)).expect("it runs");
    let beta = world.beta("participant-beta");
    world.dev.restart(Role::Participant(0)).expect("it starts");
    world.dev.restart(Role::Coordinator(0)).expect("it starts");
    world.commits();

    let liar = world.beta("participant-alpha");
    let begun = Instant::now();
    let is_refused =
        |line: &str| line.contains("forbidden") && line.contains("gavel/participant/alpha");
    while !world.audited().lines().any(is_refused) {
        assert!(begun.elapsed() < LIMIT, "{}", world.audited());
        std::thread::sleep(Duration::from_millis(20));
    }
    world.commits();
    drop((beta, liar));
}
