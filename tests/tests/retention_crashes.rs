//! Retention killed at every step (S7), run by hand and by a participant, while money moves.
//!
//! The deployment has a past of some weeks. Every case shortens the retention by a day and kills
//! whoever drops that day, first at one step and then at the next. After each kill the past and
//! the books are read by direct SQL, and the auditor must find no damage in what is half dropped.

use std::os::unix::process::ExitStatusExt as _;
use std::time::{Duration, Instant};

use gavel_devkit::Role;
use gavel_tests::bank::assert_sound;
use gavel_tests::fleet::{Fleet, RESOLVED_WITHIN};
use gavel_tests::history::History;
use gavel_tests::load::{Load, assert_told_the_truth};
use nix::sys::signal::Signal;
use serde_json::Value;

/// Days of the past; more than there are cases, with the two that are always kept.
const DAYS: u16 = 20;
const DAY_MS: u64 = 24 * 60 * 60 * 1000;
const WITHIN: Duration = Duration::from_secs(30);

const POINTS: [&str; 8] = [
    "participant.retention.raising",
    "participant.retention.raised",
    "participant.retention.verifying",
    "participant.retention.verified",
    "participant.retention.dropping_branches",
    "participant.retention.branches_dropped",
    "participant.retention.dropping_decisions",
    "participant.retention.decisions_dropped",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn crash_points_of_retention() {
    let limits = format!("[limits]\nretention_ms = {}\n", u64::from(DAYS) * DAY_MS);
    let fleet = Fleet::start_with(|mut options| {
        options.extra_config.clone_from(&limits);
        options
    });
    let history = History::write(fleet.dev.servers(), DAYS);
    history.assert_sound(fleet.dev.servers(), 0);
    let gavel = fleet.client().await;
    let own_home = Load::start(&gavel, 2, fleet.data_shards(), None);
    let dedicated = Load::start(&gavel, 2, fleet.data_shards(), Some("decisions"));
    for (case, point) in (1..).zip(POINTS) {
        // The command goes round the shards: first, second and third cycle.
        let nth = format!("{point}@{}", case % 3 + 1);
        let (by_hand, by_participant) = (2 * case - 1, 2 * case);
        keep_from(&fleet, by_hand);
        tokio::task::block_in_place(|| look_ahead(&fleet, &history, by_hand - 1));
        tokio::task::block_in_place(|| kill_command(&fleet, &nth));
        check(&fleet, &history, by_hand);

        keep_from(&fleet, by_participant);
        kill_participant(&fleet, point);
        check(&fleet, &history, by_participant);
        tokio::task::block_in_place(|| finish(&fleet, &history, by_participant));
    }
    let mut told = own_home.stop().await;
    told.extend(dedicated.stop().await);
    fleet.wait_resolved(RESOLVED_WITHIN).await;
    for (point, (hits, kills)) in fleet.hits() {
        println!("{point:44} {hits:>8} {kills:>8}");
    }
    let books = fleet.books();
    assert_sound(&books, 3);
    let counts = assert_told_the_truth(&gavel, &told, &books).await;
    println!("{counts:?}");
    assert!(counts.committed > 0, "{counts:?}");
}

/// Writes a retention into the configuration that ends `day` days after the oldest.
fn keep_from(fleet: &Fleet, day: u64) {
    let path = fleet.dev.config_path();
    let config = std::fs::read_to_string(&path).expect("read the configuration");
    let (before, after) = config.split_once("retention_ms = ").expect("it is there");
    let (_, after) = after.split_once('\n').expect("a whole line");
    let retention = (u64::from(DAYS) - day) * DAY_MS;
    let config = format!("{before}retention_ms = {retention}\n{after}");
    std::fs::write(&path, config).expect("write the configuration");
}

/// Asks what the command would do: a day is about to be dropped, and is not.
fn look_ahead(fleet: &Fleet, history: &History, gone: u64) {
    let arguments = ["--json", "retention", "run", "--because", "x", "--dry-run"];
    let look = fleet.command(&arguments, None).output();
    let look = look.expect("run gavel");
    let said: Value = serde_json::from_slice(&look.stdout).expect("JSON");
    assert!(look.status.success(), "{said}");
    let shards = said["shards"].as_array().expect("shards");
    for kind in ["branch_partitions", "decision_partitions"] {
        let drops = shards
            .iter()
            .map(|shard| shard["would_drop"][kind].as_u64());
        let drops: Option<u64> = drops.sum();
        assert!(drops > Some(0), "{kind}: {said}");
    }
    assert_eq!(history.days_gone(fleet.dev.servers()), gone);
}

/// Runs the command until it dies at `point`: a drop gives way to branches in flight, so one run
/// may end before it.
fn kill_command(fleet: &Fleet, point: &str) {
    let started = Instant::now();
    loop {
        let run = fleet
            .command(&["retention", "run", "--because", "test"], Some(point))
            .output();
        let run = run.expect("run gavel");
        if run.status.signal() == Some(Signal::SIGKILL as i32) {
            return;
        }
        let said = String::from_utf8_lossy(&run.stdout);
        assert!(run.status.success(), "{said}");
        assert!(
            started.elapsed() < WITHIN,
            "{point} was not reached: {said}"
        );
    }
}

/// Starts a participant again until the cycle that it begins with dies at `point`.
fn kill_participant(fleet: &Fleet, point: &str) {
    let role = Role::Participant(1);
    let started = Instant::now();
    loop {
        fleet.arm(role, point);
        // A drop that gave way is tried again much later; a new life tries at once.
        let died = tokio::task::block_in_place(|| fleet.dev.wait_exit(role, WITHIN / 6));
        match died {
            Ok(_) => break,
            Err(error) => assert!(started.elapsed() < WITHIN, "{point} was missed: {error}"),
        }
    }
    fleet.dev.restart(role).expect("start it again");
}

fn check(fleet: &Fleet, history: &History, kept_from: u64) {
    history.assert_sound(fleet.dev.servers(), kept_from);
    let audit = fleet.command(&["audit"], None).output().expect("run gavel");
    let said = String::from_utf8_lossy(&audit.stdout);
    assert!(audit.status.success(), "the auditor: {said}");
}

/// Runs the command until the days that are not kept are gone everywhere.
fn finish(fleet: &Fleet, history: &History, kept_from: u64) {
    let started = Instant::now();
    loop {
        let run = fleet
            .command(&["retention", "run", "--because", "test"], None)
            .output();
        let run = run.expect("run gavel");
        let said = String::from_utf8_lossy(&run.stdout);
        assert!(run.status.success(), "{said}");
        history.assert_sound(fleet.dev.servers(), kept_from);
        match history.days_gone(fleet.dev.servers()) {
            gone if gone == kept_from => return,
            gone => assert!(
                started.elapsed() < WITHIN,
                "{gone} days gone instead of {kept_from}: {said}"
            ),
        }
    }
}
