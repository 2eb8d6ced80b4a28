//! Single services with real servers: death, restart, a shard that is down, an open network.

mod temporary;

use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use gavel_devkit::{Dev, Options, Role};
use local_postgres::Mode;
use temporary::folder;

const GAVEL: &str = env!("CARGO_BIN_EXE_gavel");
/// Generous: other tests may keep the machine busy.
const LIMIT: Duration = Duration::from_secs(120);
const INSERT: &str = r#"{"timeout_ms": 3000, "branches": [
    {"shard": "alpha", "statements": [{"sql": "insert into hello (note) values ('x')"}]},
    {"shard": "beta", "statements": [{"sql": "insert into hello (note) values ('x')"}]}]}"#;

fn wait_for<T>(what: &str, mut attempt: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + LIMIT;
    loop {
        if let Some(found) = attempt() {
            return found;
        }
        assert!(Instant::now() < deadline, "waited in vain: {what}");
        thread::sleep(Duration::from_millis(20));
    }
}

fn start(restart: bool) -> (tempfile::TempDir, Dev) {
    let folder = folder();
    let mut options = Options::for_tests(folder.path().join("data"), GAVEL);
    options.shards = Some(2);
    options.restart = restart;
    let dev = Dev::start(&options).expect("a deployment");
    (folder, dev)
}

fn submit(coordinator: &str, folder: &tempfile::TempDir) -> Output {
    let file = folder.path().join("request.json");
    std::fs::write(&file, INSERT).expect("a file");
    let command = Command::new(GAVEL)
        .args([
            "--json",
            "tx",
            "submit",
            "--deadline-ms",
            "3000",
            "--endpoint",
            coordinator,
        ])
        .arg(&file)
        .output();
    command.expect("gavel runs")
}

fn send(signal: &str, pid: u32) {
    let status = Command::new("kill")
        .args([signal, &pid.to_string()])
        .status();
    assert!(status.expect("kill runs").success());
}

struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _gone_already = self.0.kill();
        let _reaped = self.0.wait();
    }
}

#[test]
fn processes_stay_down_when_killed_here_and_come_back_when_killed_by_others() {
    let (folder, dev) = start(true);
    let participant = Role::Participant(1);
    let before = dev.pid(participant).expect("it runs");
    send("-KILL", before);
    let after = wait_for("a new process", || {
        dev.pid(participant).filter(|pid| *pid != before)
    });
    assert_ne!(before, after);
    dev.wait_ready(LIMIT).expect("ready again");
    assert_eq!(
        submit(&dev.coordinator_url(), &folder).status.code(),
        Some(0)
    );

    dev.kill_coordinator(0).expect("it runs");
    assert_eq!(dev.pid(Role::Coordinator(0)), None);
    let refused = submit(&dev.coordinator_url(), &folder);
    assert_eq!(refused.status.code(), Some(1), "nobody is there to ask");
    dev.restart_coordinator(0).expect("it starts again");
    assert_eq!(
        submit(&dev.coordinator_url(), &folder).status.code(),
        Some(0)
    );
    dev.stop().expect("stopped");
}

#[test]
fn serve_starts_without_a_shard_refuses_what_needs_it_and_takes_it_in_later() {
    let (folder, dev) = start(false);
    dev.terminate(Role::Coordinator(0));
    dev.terminate(Role::Participant(0));
    dev.terminate(Role::Participant(1));
    dev.servers()[1].stop(Mode::Fast).expect("stopped");
    let mut serve = Killed(
        Command::new(GAVEL)
            .arg("--config")
            .arg(dev.config_path())
            .arg("serve")
            .stdout(Stdio::null())
            .spawn()
            .expect("gavel runs"),
    );
    let coordinator = dev.coordinator_url();
    let said = |output: &Output| String::from_utf8_lossy(&output.stdout).into_owned();
    let refused = wait_for("a refusal", || {
        let output = submit(&coordinator, &folder);
        (output.status.code() == Some(4)).then_some(output)
    });
    assert!(
        said(&refused).contains("shard_unavailable"),
        "{}",
        said(&refused)
    );

    dev.servers()[1].start().expect("a server");
    wait_for("a commit", || {
        let code = submit(&coordinator, &folder).status.code();
        (code == Some(0)).then_some(())
    });
    send("-TERM", serve.0.id());
    assert_eq!(serve.0.wait().expect("an end").code(), Some(0));
}

#[test]
fn nothing_listens_on_the_network_by_accident() {
    let (_folder, dev) = start(false);
    let port = local_postgres::free_port().expect("a port");
    for args in [&["coordinator"][..], &["participant", "--shard", "alpha"]] {
        let ended = Command::new(GAVEL)
            .arg("--config")
            .arg(dev.config_path())
            .args(args)
            .args(["--listen", &format!("0.0.0.0:{port}")])
            .output()
            .expect("gavel runs");
        assert_eq!(ended.status.code(), Some(2));
        let why = String::from_utf8_lossy(&ended.stderr).into_owned();
        assert!(why.contains("allow_insecure_network"), "{why}");
    }
}

#[test]
fn a_wrong_database_ends_the_participant_with_the_code_and_the_fix() {
    let (_folder, dev) = start(false);
    let ended = Command::new(GAVEL)
        .arg("--config")
        .arg(dev.config_path())
        .args(["participant", "--shard", "alpha"])
        .env("GAVEL__SHARD__ALPHA__TAG", "7")
        .output()
        .expect("gavel runs");
    assert_eq!(ended.status.code(), Some(1));
    let why = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert!(
        why.contains("wrong_database") && why.contains("check the shard's address"),
        "{why}"
    );
}

#[test]
fn operators_say_why_and_hear_first_what_will_be_done() {
    let (folder, dev) = start(false);
    let coordinator = dev.coordinator_url();
    let steer = |arguments: &[&str]| {
        let mut command = Command::new(GAVEL);
        command.args(arguments).args(["--endpoint", &coordinator]);
        let output = command
            .args(["--deadline-ms", "10000"])
            .output()
            .expect("gavel runs");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (
            output.status.code(),
            text(&output.stdout) + &text(&output.stderr),
        )
    };
    let (code, said) = steer(&["drain"]);
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("--because"), "{said}");
    let (code, said) = steer(&["drain", "--because", "x", "--dry-run"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("would do this: refuse what is new"), "{said}");
    assert_eq!(submit(&coordinator, &folder).status.code(), Some(0));

    let (code, said) = steer(&["drain", "--because", "ticket 1"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("it may be stopped"), "{said}");
    let refused = submit(&coordinator, &folder);
    assert_eq!(refused.status.code(), Some(4), "{refused:?}");
    let doctor = Command::new(GAVEL)
        .arg("--config")
        .arg(dev.config_path())
        .args(["--json", "doctor"])
        .output();
    let doctor = doctor.expect("gavel runs");
    let said = String::from_utf8_lossy(&doctor.stdout);
    assert!(said.contains("coordinator_drains"), "{said}");
    let (code, said) = steer(&["resume", "--because", "ticket 2"]);
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(submit(&coordinator, &folder).status.code(), Some(0));

    let retry = ["shard", "retry", "--because", "ticket 3", "--shard"];
    let (code, said) = steer(&[&retry[..], &["beta"]].concat());
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("it answers"), "{said}");
    let (code, said) = steer(&[&retry[..], &["nowhere"]].concat());
    assert_eq!(code, Some(1), "{said}");
    dev.servers()[1].stop(Mode::Immediate).expect("stopped");
    let (code, said) = steer(&[&retry[..], &["beta"]].concat());
    assert_eq!(code, Some(1), "{said}");
    let log = std::fs::read_to_string(dev.log_path(Role::Coordinator(0))).expect("a log");
    for because in ["ticket 1", "ticket 2", "ticket 3"] {
        assert!(log.contains(because), "{log}");
    }
}
