//! Real standbys: what they get, what they lose, and that they take a primary's place.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use local_postgres::{Error, Mode, Options, Server};

const FOLDER: &str = "LOCAL_POSTGRES_STANDBY_TEST_FOLDER";
const WAITING: &str = "SELECT 1 FROM pg_stat_activity WHERE wait_event = 'SyncRep'";

fn server() -> Server {
    let server = Server::temporary(Options::for_tests("one")).expect("a server");
    sql(&server, "CREATE TABLE t (n int)");
    server
}

fn sql(server: &Server, statements: &str) {
    server.sql("postgres", statements).expect("SQL");
}

fn value(server: &Server, sql: &str) -> String {
    let rows = server.sql("postgres", sql).expect("SQL");
    rows[0][0].clone().expect("not NULL")
}

fn wait_for(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !condition() {
        assert!(Instant::now() < deadline, "waited in vain: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

fn alive(pid: u32) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}

#[test]
fn a_promoted_standby_has_everything_that_was_acknowledged_and_what_was_prepared() {
    let primary = server();
    let standby = primary.standby("other").expect("a standby");
    primary.acknowledge_after(&standby).expect("synchronous");
    assert!(primary.acknowledges_after(&standby).expect("SQL"));
    sql(&primary, "INSERT INTO t VALUES (1)");
    sql(
        &primary,
        "BEGIN; INSERT INTO t VALUES (2); PREPARE TRANSACTION 'kept'",
    );
    let identifier = "SELECT system_identifier FROM pg_control_system()";
    let before = value(&primary, identifier);
    standby
        .wait_caught_up(&primary)
        .expect("it shows the same soon");
    assert_eq!(value(&standby, "SELECT count(*) FROM t"), "1");
    let refused = standby.sql("postgres", "INSERT INTO t VALUES (3)");
    assert!(matches!(refused, Err(Error::Sql { .. })), "{refused:?}");

    primary.kill9().expect("kill");
    standby.promote().expect("promote");
    assert_eq!(
        value(&standby, "SELECT gid FROM pg_prepared_xacts"),
        "kept",
        "a standby lists none, a primary does"
    );
    sql(&standby, "COMMIT PREPARED 'kept'");
    // It was set up to wait for nobody: this returns.
    sql(&standby, "INSERT INTO t VALUES (3)");
    assert_eq!(value(&standby, "SELECT sum(n) FROM t"), "6");
    assert_eq!(value(&standby, identifier), before);
    assert!(standby.promote().is_err(), "it is one already");
    standby.restart(Mode::Fast).expect("it stays a primary");
    assert_eq!(value(&standby, "SELECT pg_is_in_recovery()"), "f");
}

#[test]
fn a_standby_that_receives_nothing_loses_what_came_after() {
    let primary = server();
    let standby = primary.standby("other").expect("a standby");
    sql(&primary, "INSERT INTO t VALUES (1)");
    standby.wait_caught_up(&primary).expect("caught up");
    standby.stop_receiving().expect("cut off");
    sql(&primary, "INSERT INTO t VALUES (2)");
    primary.kill9().expect("kill");
    standby.promote().expect("promote");
    assert_eq!(value(&standby, "SELECT sum(n) FROM t"), "1");
}

#[test]
fn nothing_is_acknowledged_that_a_synchronous_standby_lacks() {
    let primary = server();
    let standby = primary.standby("other").expect("a standby");
    primary.acknowledge_after(&standby).expect("synchronous");
    standby.pause().expect("pause");
    thread::scope(|scope| {
        let commit = scope.spawn(|| primary.sql("postgres", "INSERT INTO t VALUES (1)"));
        // The very first commit waits: nobody has to try until it does.
        wait_for("the commit to wait", || {
            assert!(!commit.is_finished(), "it did not wait for the standby");
            !primary.sql("postgres", WAITING).expect("SQL").is_empty()
        });
        standby.resume();
        commit.join().expect("no panic").expect("it is committed");
    });
    standby.stop(Mode::Immediate).expect("stop");
    primary.acknowledge_alone().expect("asynchronous");
    sql(&primary, "INSERT INTO t VALUES (2)");
    standby.start().expect("start");
    standby.wait_streaming().expect("it follows again");
    standby.wait_caught_up(&primary).expect("caught up");
    assert_eq!(value(&standby, "SELECT sum(n) FROM t"), "3");
}

#[test]
fn a_promoted_server_can_have_a_standby_that_takes_over_from_it() {
    let first = server();
    let second = first.standby("second").expect("a standby");
    first.acknowledge_after(&second).expect("synchronous");
    first.kill9().expect("kill");
    second.promote().expect("promote");
    let third = second.standby("third").expect("a standby of it");
    second.acknowledge_after(&third).expect("synchronous");
    sql(&second, "INSERT INTO t VALUES (1)");
    second.kill9().expect("kill");
    third.promote().expect("promote");
    assert_eq!(value(&third, "SELECT sum(n) FROM t"), "1");
    let folders = [&second, &third].map(|server| server.folder().to_path_buf());
    drop((second, third));
    assert!(!folders.iter().any(|folder| folder.exists()));
}

/// Not a test of its own: the process that `a_killed_owner_takes_its_standby_along` kills.
#[test]
#[ignore = "run by another test"]
fn owner_for_the_other_test() {
    let Some(folder) = std::env::var_os(FOLDER) else {
        return;
    };
    let path = Path::new(&folder).join("one");
    let primary = Server::create_or_open(&path, Options::for_tests("one")).expect("a server");
    let standby = primary.standby("other").expect("a standby");
    println!("\nstandby={}", standby.postmaster_pid().expect("running"));
    loop {
        thread::park();
    }
}

#[test]
fn a_killed_owner_takes_its_standby_along() {
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    let folder = tempfile::Builder::new().permissions(mode).tempdir();
    let folder = folder.expect("a temporary folder");
    let mut owner = Command::new(std::env::current_exe().expect("this test"))
        .args(["--exact", "owner_for_the_other_test", "--ignored"])
        .arg("--nocapture")
        .env(FOLDER, folder.path())
        .stdout(Stdio::piped())
        .spawn()
        .expect("owner");
    let output = BufReader::new(owner.stdout.take().expect("piped"));
    let mut lines = output.lines().map(|line| line.expect("text"));
    let pid = lines.find_map(|line| line.strip_prefix("standby=").map(str::to_owned));
    let pid: u32 = pid.expect("its line").parse().expect("a number");
    owner.kill().expect("kill");
    owner.wait().expect("reap");
    wait_for("the watchdog to act", || !alive(pid));
}
