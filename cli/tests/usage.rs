//! The command line without any server: help, usage errors, exit codes.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::process::{Command, Output};
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use serde_json::Value;

fn gavel(args: &[&str]) -> Output {
    let folder = tempfile::tempdir().expect("a folder");
    Command::new(env!("CARGO_BIN_EXE_gavel"))
        .args(args)
        .current_dir(folder.path())
        .env_remove("GAVEL_CONFIG")
        .env_remove("GAVEL_ENDPOINT")
        .output()
        .expect("gavel runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn help_names_every_command_and_every_exit_code() {
    let help = text(&gavel(&["--help"]).stdout);
    for word in [
        "serve",
        "coordinator",
        "participant",
        "migrate",
        "check",
        "doctor",
        "health",
        "top",
        "manual",
        "audit",
        "dev",
        "demo",
        "chaos",
        "tx",
        "in-doubt",
        "retention",
        "shard",
        "--config",
        "--json",
        "GAVEL_CONFIG",
        "Exit codes:",
        "6  damage",
    ] {
        assert!(help.contains(word), "`{word}` is missing in:\n{help}");
    }
    assert!(
        !help.contains("exit-with-stdin"),
        "for parents, not for people"
    );
}

#[test]
fn every_command_has_help_with_an_example() {
    for command in [
        &["serve"][..],
        &["coordinator"],
        &["participant"],
        &["migrate"],
        &["check"],
        &["doctor"],
        &["top"],
        &["manual"],
        &["audit"],
        &["dev"],
        &["demo"],
        &["chaos"],
        &["tx", "id"],
        &["tx", "submit"],
        &["tx", "status"],
        &["tx", "abort"],
        &["in-doubt", "list"],
        &["in-doubt", "resolve"],
        &["retention", "run"],
        &["retention", "show"],
        &["shard", "new-incarnation"],
        &["shard", "retry"],
        &["shard", "remove"],
        &["damage", "acknowledge"],
        &["drain"],
        &["resume"],
        &["actions"],
    ] {
        let help = gavel(&[command, &["--help"]].concat());
        assert!(help.status.success(), "{command:?}");
        let help = text(&help.stdout);
        assert!(help.contains("Example"), "{command:?}:\n{help}");
        assert!(
            help.contains(&format!("gavel {}", command.join(" "))),
            "{command:?}:\n{help}"
        );
    }
}

#[test]
fn wrong_usage_and_wrong_configuration_end_with_2() {
    for args in [
        &["sreve"][..],
        &["participant"],
        &["participant", "--shard", "No-Name"],
        &["tx", "status", "not-a-txid"],
        &["in-doubt", "resolve", "citus_0_1_2"],
        &["migrate", "--admin-url", "postgres://x"],
        &[
            "shard",
            "new-incarnation",
            "--shard",
            "alpha",
            "--because",
            "x",
        ],
        &["retention", "run"],
        &["retention", "run", "--because", ""],
        &["check"],
        &["--config", "nowhere.toml", "coordinator"],
    ] {
        let ended = gavel(args);
        assert_eq!(
            ended.status.code(),
            Some(2),
            "{args:?}: {}",
            text(&ended.stderr)
        );
        assert!(ended.stdout.is_empty(), "{args:?}: results only");
    }
    let missing = text(&gavel(&["check"]).stderr);
    assert!(missing.contains("gavel.toml: cannot be read"), "{missing}");
    assert!(missing.contains("GAVEL_CONFIG"), "{missing}");
}

#[test]
fn failures_are_json_where_json_was_asked_for() {
    let ended = gavel(&["--json", "check"]);
    assert_eq!(ended.status.code(), Some(2));
    let document: Value = serde_json::from_slice(&ended.stdout).expect("one JSON document");
    let message = document["error"]["message"].as_str().expect("a message");
    assert!(message.contains("gavel.toml"), "{message}");
}

#[test]
fn without_a_coordinator_a_question_fails_with_the_address() {
    let port = local_postgres::free_port().expect("a port");
    let endpoint = format!("http://127.0.0.1:{port}");
    let args = ["tx", "id", "--deadline-ms", "300", "--endpoint", &endpoint];
    let ended = gavel(&args);
    assert_eq!(ended.status.code(), Some(1));
    assert!(
        text(&ended.stderr).contains(&endpoint),
        "{}",
        text(&ended.stderr)
    );
}

#[test]
fn a_fault_that_does_not_exist_is_answered_with_those_that_do() {
    let output = gavel(&["chaos", "--nemesis", "zombie,nobody"]);
    assert_eq!(output.status.code(), Some(2));
    let message = text(&output.stderr);
    for word in [
        "nobody",
        "there is none of this name",
        "all",
        "zombie",
        "disk-full",
    ] {
        assert!(message.contains(word), "`{word}` is missing in:\n{message}");
    }
    for (option, value) in [
        ("--seconds", "0"),
        ("--clients", "1"),
        ("--clients", "many"),
    ] {
        let output = gavel(&["chaos", option, value]);
        assert_eq!(output.status.code(), Some(2), "{option} {value}");
    }
}

#[test]
fn many_who_make_certificates_at_once_make_one_authority() {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(
        folder.path().join("gavel.toml"),
        "deployment = \"shop\"\n\n[[shard]]\nname = \"alpha\"\ntag = 1\n\
         participant = \"https://127.0.0.1:7401\"\n\
         database_url = \"postgres://app@127.0.0.1/app\"\n\n[tls]\n",
    )
    .expect("a file");
    let certs = |more: &[&str]| {
        Command::new(env!("CARGO_BIN_EXE_gavel"))
            .arg("certs")
            .args(more)
            .current_dir(folder.path())
            .env_remove("GAVEL_CONFIG")
            .spawn()
            .expect("gavel runs")
    };
    let all: Vec<_> = (0..4).map(|_| certs(&["--renew"])).collect();
    for mut one in all {
        assert!(one.wait().expect("it ends").success());
    }
    let certificate = |name: &str| {
        let file = folder.path().join("tls").join(name);
        CertificateDer::from_pem_file(file).expect("a certificate")
    };
    let authority = certificate("ca.pem");
    let mut roots = RootCertStore::empty();
    roots.add(authority.clone()).expect("an authority");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
        .build()
        .expect("a verifier");
    for name in ["coordinator.pem", "participant-alpha.pem", "metrics.pem"] {
        let verified = verifier.verify_client_cert(&certificate(name), &[], UnixTime::now());
        verified.expect(name);
        let key = folder.path().join("tls").join(name).with_extension("key");
        PrivateKeyDer::from_pem_file(key).expect("a key");
    }
    assert!(certs(&[]).wait().expect("it ends").success());
    assert_eq!(authority, certificate("ca.pem"), "the authority stays");
}

#[test]
fn every_command_has_a_man_page_and_every_shell_its_completions() {
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("manual");
    let ended = gavel(&["manual", "--out", out.to_str().expect("UTF-8")]);
    assert!(ended.status.success(), "{}", text(&ended.stderr));
    let read = |name: &str| std::fs::read_to_string(out.join(name)).expect(name);
    assert!(read("gavel.1").contains("Exit codes"));
    for page in ["gavel-coordinator.1", "gavel-tx-submit.1", "gavel-doctor.1"] {
        assert!(read(page).contains("Example"), "{page}");
    }
    for file in ["gavel.bash", "_gavel", "gavel.fish"] {
        assert!(read(file).contains("in-doubt"), "{file}");
    }
    // A folder that cannot be is told.
    let ended = gavel(&["manual", "--out", "/dev/null/manual"]);
    assert_eq!(ended.status.code(), Some(1));
    assert!(text(&ended.stderr).contains("/dev/null/manual"));
}

/// Answers one request with `status`, and gives back what was asked.
fn answer_once(status: &'static str) -> (String, std::thread::JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    let asked = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a connection");
        let mut request = [0; 1024];
        let length = stream.read(&mut request).expect("a request");
        write!(stream, "HTTP/1.1 {status}\r\nConnection: close\r\n\r\n{{}}").expect("an answer");
        text(&request[..length])
    });
    (format!("http://{address}"), asked)
}

#[test]
fn health_is_an_exit_code() {
    let cases = [
        ("200 OK", "/health/ready", &[][..], 0),
        ("200 OK", "/health/live", &["--live"][..], 0),
        ("503 Service Unavailable", "/health/ready", &[][..], 1),
        ("404 Not Found", "/health/ready", &[][..], 1),
    ];
    for (status, path, more, code) in cases {
        let (url, asked) = answer_once(status);
        let args = [&["health", "--endpoint", url.as_str()][..], more].concat();
        assert_eq!(gavel(&args).status.code(), Some(code), "{status}");
        let asked = asked.join().expect("it was asked");
        assert!(
            asked.starts_with(&format!("GET {path} HTTP/1.1\r\n")),
            "{asked}"
        );
    }
    let (url, asked) = answer_once("200 OK");
    let own = format!("{url}/health");
    assert_eq!(
        gavel(&["health", "--endpoint", &own]).status.code(),
        Some(0)
    );
    let asked = asked.join().expect("it was asked");
    assert!(asked.starts_with("GET /health HTTP/1.1"), "{asked}");
    let gone = gavel(&["health", "--endpoint", &url, "--json"]);
    assert_eq!(gone.status.code(), Some(1));
    assert!(
        text(&gone.stdout).contains("nobody answers there"),
        "{}",
        text(&gone.stdout)
    );
}
