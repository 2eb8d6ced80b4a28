//! A shard is added, drained and taken out while money moves between two others: no process
//! restarts, and no call fails.

use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use gavel_client::{Gavel, Outcome};
use gavel_devkit::Role;
use gavel_protocol::RefusalCode;
use gavel_tests::bank::{self, DATABASE};
use gavel_tests::crowd::Crowd;
use gavel_tests::fleet::{Fleet, RESOLVED_WITHIN, gavel_binary};
use gavel_tests::gamma::{self, Gamma};
use local_postgres::Server;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

const LIMIT: Duration = Duration::from_secs(60);

/// Changes the configuration, and tells every process.
fn configure(fleet: &Fleet, change: impl Fn(String) -> String) {
    let path = fleet.dev.config_path();
    let text = fs::read_to_string(&path).expect("read the configuration");
    fs::write(&path, change(text)).expect("write the configuration");
    for role in ROLES {
        let pid = fleet.dev.pid(role).expect("it runs");
        let pid = Pid::from_raw(i32::try_from(pid).expect("a process id"));
        kill(pid, Signal::SIGHUP).expect("send a signal");
    }
}

const REMOVE: [&str; 6] = [
    "shard",
    "remove",
    "--shard",
    "gamma",
    "--because",
    "a test is over",
];

const ROLES: [Role; 5] = [
    Role::Coordinator(0),
    Role::Coordinator(1),
    Role::Participant(0),
    Role::Participant(1),
    Role::Participant(2),
];

/// Waits until every process has said so in its log.
async fn all_say(fleet: &Fleet, what: &str) {
    for role in ROLES {
        says(fleet, role, what).await;
    }
}

async fn says(fleet: &Fleet, role: Role, what: &str) {
    let begun = Instant::now();
    loop {
        let log = fs::read_to_string(fleet.dev.log_path(role)).unwrap_or_default();
        if log.contains(what) {
            return;
        }
        assert!(
            begun.elapsed() < LIMIT,
            "{role:?} does not say `{what}`: {log}"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn remove(fleet: &Fleet, more: &[&str]) -> Output {
    let mut command = fleet.command(&REMOVE, None);
    command.args(more).output().expect("run gavel")
}

/// The command dies at this step.
fn die_removing(fleet: &Fleet, point: &str) {
    let died = fleet.command(&REMOVE, Some(point)).output();
    let died = died.expect("run gavel");
    let signal = died.status.signal();
    assert_eq!(signal, Some(Signal::SIGKILL as i32), "{}", said(&died));
}

fn said(output: &Output) -> String {
    let (out, err) = (&output.stdout, &output.stderr);
    format!(
        "{}{}",
        String::from_utf8_lossy(out),
        String::from_utf8_lossy(err)
    )
}

/// What retention does after a week.
fn drop_rows(server: &Server) {
    let sql = "DELETE FROM gavel.branch; DELETE FROM gavel.decision; DELETE FROM gavel.transaction";
    server.sql(DATABASE, sql).expect("delete");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r13_a_shard_comes_and_goes_and_nobody_restarts() {
    let fleet = Fleet::start();
    let gavel = Gavel::connect(fleet.dev.coordinator_urls())
        .await
        .expect("connect");
    let shards = fleet.data_shards();
    let crowd = Crowd::start(&gavel, shards);
    crowd.goes_on().await;

    // It comes. The client finds its name by itself.
    let mut gamma = Gamma::at_a_fixed_address();
    configure(&fleet, |text| text + gamma.table());
    gamma.start(&fleet, &[]);
    all_say(&fleet, "shard gamma is added").await;
    let outcome = gamma::transfer(&gavel, shards[0]).await;
    assert!(matches!(outcome, Outcome::Committed(_)), "{outcome:?}");
    crowd.goes_on().await;

    // It cannot just be gone, not even by a restart.
    let with_gamma = fs::read_to_string(fleet.dev.config_path()).expect("read");
    configure(&fleet, |text| text.replace(gamma.table(), ""));
    all_say(
        &fleet,
        "shard `gamma` is gone from the file, but takes transactions",
    )
    .await;
    assert_a_start_is_refused(&fleet, shards[0]);
    let early = remove(&fleet, &[]);
    assert!(!early.status.success(), "{}", said(&early));
    assert!(
        said(&early).contains("there is no shard `gamma`"),
        "{}",
        said(&early)
    );
    configure(&fleet, |_| with_gamma.clone());

    // It drains: what is new is refused, what is recorded is told.
    let drains = format!("{}state = \"draining\"\n", gamma.table());
    configure(&fleet, |text| text.replace(gamma.table(), &drains));
    all_say(&fleet, "shard gamma is draining").await;
    let refused = gamma::transfer(&gavel, shards[0]).await;
    let Outcome::Refused { why, .. } = refused else {
        panic!("{refused:?}");
    };
    assert_eq!(why.code, RefusalCode::ShardDraining);
    let status = gavel.status(outcome.txid()).await.expect("a status");
    assert!(format!("{status:?}").contains("Committed"), "{status:?}");

    // It goes when nothing names it any more, and not before.
    let early = remove(&fleet, &[]);
    assert_eq!(early.status.code(), Some(1), "{}", said(&early));
    assert!(
        said(&early).contains("cannot be removed yet"),
        "{}",
        said(&early)
    );
    assert!(
        said(&early).contains("gamma: branch row"),
        "{}",
        said(&early)
    );
    drop_rows(gamma.server());
    let still = remove(&fleet, &["--dry-run"]);
    assert!(
        said(&still).contains(&format!("{}: decision row", shards[0])),
        "{}",
        said(&still)
    );
    let told = crowd.stop().await;
    fleet.wait_resolved(RESOLVED_WITHIN).await;
    let books = bank::read_books(fleet.dev.servers());
    fleet.dev.servers().iter().for_each(drop_rows);
    let dry = remove(&fleet, &["--dry-run"]);
    assert!(dry.status.success(), "{}", said(&dry));
    assert!(said(&dry).contains("would be removed"), "{}", said(&dry));
    let crowd = Crowd::start(&gavel, shards);
    // Half done is no harm, and is done by the next one.
    for point in ["operator.remove.retired", "operator.remove.noted"] {
        die_removing(&fleet, point);
        crowd.goes_on().await;
        let refused = gamma::transfer(&gavel, shards[0]).await;
        assert!(matches!(refused, Outcome::Refused { .. }), "{refused:?}");
    }
    let done = remove(&fleet, &[]);
    assert!(done.status.success(), "{}", said(&done));
    configure(&fleet, |text| text.replace(&drains, ""));
    all_say(&fleet, "shard gamma is removed").await;
    crowd.goes_on().await;

    // Its tag is nobody else's.
    configure(&fleet, |text| {
        text + &gamma.table().replace("gamma", "delta")
    });
    let tag = gamma::TAG;
    let because = format!("tag {tag} is or was that of shard `gamma`");
    says(&fleet, Role::Participant(0), &because).await;
    crowd.goes_on().await;

    let after = crowd.stop().await;
    for each in told.iter().chain(&after) {
        let is_committed = matches!(each.outcome, Outcome::Committed(_));
        assert!(is_committed, "{each:?}");
    }
    // One transfer went to the shard that these books do not have.
    assert_eq!(books.marks.len(), told.len());
    assert_marked_twice(&books);
}

/// A participant that starts without a shard that its database knows says so and ends.
fn assert_a_start_is_refused(fleet: &Fleet, shard: &str) {
    let output = Command::new(gavel_binary())
        .arg("--config")
        .arg(fleet.dev.config_path())
        .args(["participant", "--shard", shard, "--listen", "127.0.0.1:0"])
        .stdin(Stdio::null())
        .output()
        .expect("run gavel");
    assert!(!output.status.success());
    let said = said(&output);
    assert!(said.contains("shard_missing"), "{said}");
    assert!(said.contains("put its [[shard]] table back"), "{said}");
}

fn assert_marked_twice(books: &bank::Books) {
    for (txid, marks) in &books.marks {
        assert_eq!(marks.len(), 2, "I1: {txid}");
    }
}
