//! Real servers: life, death, and what is left behind.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use local_postgres::{Cluster, Error, Mode, Options, Server};

const FOLDER: &str = "LOCAL_POSTGRES_TEST_FOLDER";

/// A folder that the unprivileged account can enter.
fn open_folder() -> tempfile::TempDir {
    let mode = fs::Permissions::from_mode(0o755);
    tempfile::Builder::new()
        .permissions(mode)
        .tempdir()
        .expect("a temporary folder")
}

fn value(server: &Server, sql: &str) -> String {
    let rows = server.sql("postgres", sql).expect("SQL");
    rows[0][0].clone().expect("not NULL")
}

fn alive(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(')')
        .next()
        .is_some_and(|rest| !rest.is_empty() && !rest.trim_start().starts_with('Z'))
}

fn wait_for(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !condition() {
        assert!(Instant::now() < deadline, "waited in vain: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

fn send(signal: &str, pid: u32) {
    let status = Command::new("kill")
        .args([signal, &pid.to_string()])
        .status()
        .expect("kill");
    assert!(status.success());
}

#[test]
fn a_new_server_is_durable_takes_prepared_transactions_and_wants_the_password() {
    let server =
        Server::temporary(Options::for_tests("one").setting("work_mem", "5MB")).expect("a server");
    assert_eq!(value(&server, "SHOW fsync"), "on");
    assert_eq!(value(&server, "SHOW synchronous_commit"), "on");
    assert_eq!(value(&server, "SHOW max_prepared_transactions"), "64");
    assert_eq!(value(&server, "SHOW work_mem"), "5MB");
    assert_eq!(value(&server, "SHOW listen_addresses"), "127.0.0.1");
    let mode = fs::metadata(server.folder().join("superuser.password"))
        .expect("password")
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    let secret = fs::read_to_string(server.folder().join("superuser.password")).expect("password");
    assert!(server.url("postgres").contains(secret.trim()));
    assert!(
        !format!("{server:?}").contains(secret.trim()),
        "secrets do not belong into logs"
    );
    server.create_database("bank").expect("a database");
    server
        .create_database("bank")
        .expect("the same database again");
    let good = server.create_login_role("clerk").expect("a role");
    assert_ne!(
        good,
        server.create_login_role("clerk").expect("a new password")
    );
    let refused = Command::new(server.binaries().program("psql"))
        .args([
            "-w",
            "-c",
            "SELECT 1",
            &server.url_for("clerk", &good, "bank"),
        ])
        .output()
        .expect("psql");
    assert!(String::from_utf8_lossy(&refused.stderr).contains("password authentication failed"));
}

#[test]
fn what_was_committed_and_prepared_survives_every_way_to_end() {
    let server = Server::temporary(Options::for_tests("one")).expect("a server");
    server
        .sql("postgres", "CREATE TABLE t (n int)")
        .expect("table");
    let port = server.port();
    for (n, end) in [(1, "fast"), (2, "immediate"), (3, "kill9")] {
        server
            .sql("postgres", &format!("INSERT INTO t VALUES ({n})"))
            .expect("insert");
        // Two calls: a multi-statement query would run them in one implicit block.
        let prepare = format!("BEGIN; INSERT INTO t VALUES (100); PREPARE TRANSACTION 'g{n}'");
        server.sql("postgres", &prepare).expect("prepare");
        match end {
            "fast" => server.stop(Mode::Fast).expect("stop"),
            "immediate" => server.stop(Mode::Immediate).expect("stop"),
            _ => server.kill9().expect("kill"),
        }
        assert!(!server.is_running());
        assert!(server.postmaster_pid().is_none());
        server.start().expect("start");
        assert_eq!(
            value(&server, "SELECT count(*) FROM t"),
            n.to_string(),
            "after {end}"
        );
        assert_eq!(
            value(&server, "SELECT count(*) FROM pg_prepared_xacts"),
            n.to_string(),
            "after {end}"
        );
    }
    assert_eq!(server.port(), port);
    assert!(
        server
            .log_tail(200)
            .contains("recovering prepared transaction"),
        "{}",
        server.log_tail(200)
    );
}

#[test]
fn kill9_ends_backends_too_even_busy_ones() {
    let server = Server::temporary(Options::for_tests("one")).expect("a server");
    thread::scope(|scope| {
        // Never waits, so it does not notice the postmaster's death by itself.
        let busy = "DO $$ BEGIN LOOP PERFORM 1; END LOOP; END $$";
        let worker = scope.spawn(|| server.sql("postgres", busy));
        let find = "SELECT pid FROM pg_stat_activity WHERE query LIKE 'DO %' AND state = 'active'";
        wait_for("the busy session", || {
            !server.sql("postgres", find).expect("SQL").is_empty()
        });
        let backend: u32 = value(&server, find).parse().expect("a pid");
        server.kill9().expect("kill");
        assert!(!alive(backend));
        assert!(worker.join().expect("no panic").is_err());
    });
    server.start().expect("start");
}

#[test]
fn a_paused_server_is_silent_and_goes_on_after_resume() {
    let server = Server::temporary(Options::for_tests("one")).expect("a server");
    server.pause().expect("pause");
    let pid = server.postmaster_pid().expect("still there");
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("stat");
    assert!(
        stat.rsplit(')')
            .next()
            .expect("state")
            .trim_start()
            .starts_with('T'),
        "{stat}"
    );
    thread::scope(|scope| {
        let asked = scope.spawn(|| value(&server, "SELECT 7"));
        server.resume();
        assert_eq!(asked.join().expect("answer"), "7");
    });
    server.pause().expect("pause");
    server
        .stop(Mode::Fast)
        .expect("a paused server can be stopped");
}

#[test]
fn two_owners_of_one_folder_get_an_error_that_names_the_first() {
    let folder = open_folder();
    let first = Server::create_or_open(folder.path(), Options::for_tests("one")).expect("a server");
    let error =
        Server::create_or_open(folder.path(), Options::for_tests("one")).expect_err("in use");
    let Error::InUse { pid, .. } = &error else {
        panic!("{error}")
    };
    assert_eq!(pid, &std::process::id().to_string());
    assert!(first.is_running());
}

#[test]
fn a_reopened_folder_keeps_data_port_and_password() {
    let folder = open_folder();
    let path = folder.path().join("made/on/the/way");
    let first = Server::create_or_open(&path, Options::new("one")).expect("a server");
    first.create_database("kept").expect("a database");
    let url = first.url("kept");
    drop(first);
    assert!(!path.join("data/postmaster.pid").exists());
    let second = Server::create_or_open(&path, Options::new("one")).expect("the server again");
    assert_eq!(second.url("kept"), url);
    second
        .sql("kept", "SELECT 1")
        .expect("the database is there");
}

#[test]
fn a_port_that_others_took_is_a_clear_error() {
    let folder = open_folder();
    let first = Server::create_or_open(folder.path(), Options::for_tests("one")).expect("a server");
    let port = first.port();
    drop(first);
    let listener = std::net::TcpListener::bind(("127.0.0.1", port)).expect("bind");
    let error =
        Server::create_or_open(folder.path(), Options::for_tests("one")).expect_err("taken");
    assert!(
        matches!(error, Error::PortTaken { port: taken, .. } if taken == port),
        "{error}"
    );
    drop(listener);
    Server::create_or_open(folder.path(), Options::for_tests("one")).expect("free again");
}

#[test]
fn a_server_without_an_owner_is_stopped_and_replaced() {
    let folder = open_folder();
    let first = Server::create_or_open(folder.path(), Options::for_tests("one")).expect("a server");
    first
        .sql("postgres", "CREATE TABLE kept ()")
        .expect("table");
    let data = folder.path().join("data");
    let program = first.binaries().program("pg_ctl");
    drop(first);
    let left_behind = start_without_owner(&program, &data);
    let second =
        Server::create_or_open(folder.path(), Options::for_tests("one")).expect("the server again");
    assert!(!alive(left_behind));
    assert_ne!(second.postmaster_pid(), Some(left_behind));
    second
        .sql("postgres", "SELECT FROM kept")
        .expect("the data");
}

fn start_without_owner(pg_ctl: &Path, data: &Path) -> u32 {
    let line = format!(
        "{} -D {} -w -l /dev/null start",
        pg_ctl.display(),
        data.display()
    );
    let mut command = match is_root() {
        true => Command::new("su"),
        false => Command::new("sh"),
    };
    if is_root() {
        command.args(["postgres", "-s", "/bin/sh"]);
    }
    let status = command
        .args(["-c", &line])
        .current_dir("/")
        .stdout(Stdio::null())
        .status()
        .expect("pg_ctl");
    assert!(status.success());
    let pid_file = fs::read_to_string(data.join("postmaster.pid")).expect("postmaster.pid");
    pid_file
        .lines()
        .next()
        .expect("a pid")
        .parse()
        .expect("a number")
}

fn is_root() -> bool {
    let id = Command::new("id").arg("-u").output().expect("id");
    id.stdout == b"0\n"
}

#[test]
fn a_pid_file_that_names_a_stranger_is_not_believed() {
    let folder = open_folder();
    drop(Server::create_or_open(folder.path(), Options::for_tests("one")).expect("a server"));
    let pid_file = folder.path().join("data/postmaster.pid");
    let ours = std::process::id();
    fs::write(&pid_file, format!("{ours}\n/nowhere\n1\n1\n\n\n\n")).expect("write");
    let server = Server::create_or_open(folder.path(), Options::for_tests("one"))
        .expect("starts all the same");
    assert_ne!(server.postmaster_pid(), Some(ours));
}

#[test]
fn a_postmaster_killed_by_others_can_be_started_again_at_once() {
    let server = Server::temporary(Options::for_tests("one")).expect("a server");
    let pid = server.postmaster_pid().expect("running");
    send("-KILL", pid);
    wait_for("its end", || !server.is_running());
    server.start().expect("start");
    assert_ne!(server.postmaster_pid(), Some(pid));
}

#[test]
fn a_crashed_backend_is_recovered_from() {
    let server = Server::temporary(Options::for_tests("one")).expect("a server");
    let find = "SELECT pid FROM pg_stat_activity WHERE backend_type = 'walwriter'";
    let pid: u32 = value(&server, find).parse().expect("a pid");
    send("-KILL", pid);
    wait_for("its end", || !alive(pid));
    server.wait_ready().expect("ready");
    wait_for("a new one", || {
        server
            .sql("postgres", find)
            .is_ok_and(|rows| rows.len() == 1)
    });
}

/// Not a test of its own: the process that `a_killed_owner_takes_its_server_along` kills.
#[test]
#[ignore = "run by another test"]
fn owner_for_the_other_test() {
    let Some(folder) = std::env::var_os(FOLDER) else {
        return;
    };
    let server =
        Server::create_or_open(Path::new(&folder), Options::for_tests("one")).expect("a server");
    println!("\npostmaster={}", server.postmaster_pid().expect("running"));
    loop {
        thread::park();
    }
}

#[test]
fn a_killed_owner_takes_its_server_along() {
    let folder = open_folder();
    for paused in [false, true] {
        let mut owner = Command::new(std::env::current_exe().expect("this test"))
            .args([
                "--exact",
                "owner_for_the_other_test",
                "--ignored",
                "--nocapture",
            ])
            .env(FOLDER, folder.path())
            .stdout(Stdio::piped())
            .spawn()
            .expect("owner");
        let output = BufReader::new(owner.stdout.take().expect("piped"));
        let mut lines = output.lines().map(|line| line.expect("text"));
        let pid = lines
            .find_map(|line| line.strip_prefix("postmaster=").map(str::to_owned))
            .expect("its line");
        let pid: u32 = pid.parse().expect("a number");
        if paused {
            send("-STOP", pid);
        }
        owner.kill().expect("kill");
        owner.wait().expect("reap");
        wait_for("the watchdog to act", || !alive(pid));
    }
    Server::create_or_open(folder.path(), Options::for_tests("one")).expect("opens again");
}

#[test]
fn a_cluster_starts_in_parallel_and_leaves_nothing_behind() {
    let cluster = Cluster::temporary(&["north", "south", "west"]).expect("a cluster");
    let folders: Vec<_> = cluster
        .servers()
        .iter()
        .map(|server| server.folder().to_path_buf())
        .collect();
    let pids: Vec<_> = cluster
        .servers()
        .iter()
        .map(|server| server.postmaster_pid().expect("running"))
        .collect();
    assert_eq!(cluster.server("south").name(), "south");
    for server in cluster.servers() {
        assert_eq!(value(server, "SELECT 1"), "1");
    }
    drop(cluster);
    assert!(!folders.iter().any(|folder| folder.exists()));
    assert!(!pids.into_iter().any(alive));
}

#[test]
fn fresh_servers_have_identifiers_of_their_own() {
    let folder = open_folder();
    let options = [Options::new("north"), Options::new("south")];
    let cluster = Cluster::create_or_open(folder.path(), &options).expect("a cluster");
    let identifier = |name| {
        value(
            cluster.server(name),
            "SELECT system_identifier FROM pg_control_system()",
        )
    };
    assert_ne!(identifier("north"), identifier("south"));
    cluster.stop(Mode::Fast).expect("stop");
    assert!(!cluster.servers().iter().any(Server::is_running));
}

#[test]
fn a_long_path_still_has_a_socket() {
    let folder = open_folder();
    let path = folder.path().join("long".repeat(30));
    let server = Server::create_or_open(&path, Options::for_tests("one")).expect("a server");
    let sockets = server.socket_folder().to_path_buf();
    assert!(sockets.join(format!(".s.PGSQL.{}", server.port())).exists());
    drop(server);
    assert!(!sockets.exists());
}

#[test]
fn a_folder_out_of_reach_names_what_blocks_it() {
    if !is_root() {
        return; // An ordinary user runs PostgreSQL as itself and needs nobody's permission.
    }
    let mode = fs::Permissions::from_mode(0o700);
    let closed = tempfile::Builder::new()
        .permissions(mode)
        .tempdir()
        .expect("a folder");
    let error = Server::create_or_open(&closed.path().join("x"), Options::for_tests("one"))
        .expect_err("closed");
    let Error::NotReachable { blocked_by, .. } = &error else {
        panic!("{error}")
    };
    assert_eq!(blocked_by, &closed.path().canonicalize().expect("path"));
}

#[test]
fn a_bad_setting_shows_the_servers_own_words() {
    let error = Server::temporary(Options::for_tests("one").setting("no_such_setting", "1"))
        .expect_err("refused");
    assert!(error.to_string().contains("no_such_setting"), "{error}");
    let error =
        Server::temporary(Options::for_tests("one").setting("a", "1\nb = 2")).expect_err("refused");
    assert!(matches!(error, Error::BadSetting(_)), "{error}");
    assert!(matches!(
        Server::temporary(Options::for_tests("A b")),
        Err(Error::BadName(_))
    ));
}
