//! A participant that says where it is: coordinators and other participants find it, and find it
//! again when it is somewhere else.

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use gavel_client::{Gavel, Outcome};
use gavel_devkit::Role;
use gavel_protocol::BatchId;
use gavel_tests::bank::{DATABASE, ROLE};
use gavel_tests::fleet::{Fleet, RESOLVED_WITHIN, gavel_binary};
use gavel_tests::gamma::{self, Gamma, TAG};

const LIMIT: Duration = Duration::from_secs(60);
const ANYWHERE: [&str; 2] = ["--listen", "127.0.0.1:0"];

/// A fleet that gamma has joined, and a client that was there.
async fn found() -> (Fleet, Gamma, Gavel) {
    let fleet = Fleet::start();
    let mut gamma = Gamma::announced();
    join(&fleet, &mut gamma);
    let gavel = Gavel::connect(fleet.dev.coordinator_urls())
        .await
        .expect("connect");
    is_found(&gavel, fleet.data_shards()[0]).await;
    (fleet, gamma, gavel)
}

/// Adds gamma to a running fleet. The registry is read at the start of a process only.
fn join(fleet: &Fleet, gamma: &mut Gamma) {
    let path = fleet.dev.config_path();
    let config = fs::read_to_string(&path).expect("read the configuration");
    let coordinators = fleet.dev.coordinator_urls();
    let registry =
        format!("\n[registry]\nhosts = [\"127.0.0.0/8\"]\ncoordinators = {coordinators:?}\n");
    let config = config + gamma.table() + &registry;
    fs::write(&path, config).expect("write the configuration");
    gamma.start(fleet, &ANYWHERE);
    let participants = [0, 1, 2].map(Role::Participant);
    let coordinators = [0, 1].map(Role::Coordinator);
    tokio::task::block_in_place(|| {
        for role in participants.into_iter().chain(coordinators) {
            fleet.dev.restart(role).expect("it starts again");
        }
    });
}

/// A transfer over gamma commits as soon as coordinators have heard where it is.
async fn is_found(gavel: &Gavel, shard: &str) {
    let begun = Instant::now();
    loop {
        let outcome = gamma::transfer(gavel, shard).await;
        if matches!(outcome, Outcome::Committed(_)) {
            return;
        }
        assert!(begun.elapsed() < LIMIT, "nobody finds it: {outcome:?}");
    }
}

/// Waits until a process has said so in its log, so often.
async fn says(fleet: &Fleet, role: Role, what: &str, times: usize) {
    let begun = Instant::now();
    loop {
        let log = fs::read_to_string(fleet.dev.log_path(role)).unwrap_or_default();
        if log.matches(what).count() >= times {
            return;
        }
        assert!(
            begun.elapsed() < LIMIT,
            "{role:?} does not say `{what}`: {log}"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Prepares a branch on the first shard whose home is gamma.
fn prepare_for_gamma(fleet: &Fleet) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let unix_ms = u64::try_from(now.expect("after 1970").as_millis()).expect("a number");
    let batch = BatchId::mint(unix_ms, rand::random());
    let shard = &fleet.dev.shards()[0];
    let gid = format!("gavel:dev:{TAG}:1:{batch}:{}", shard.tag);
    let sql = format!("SET SESSION AUTHORIZATION {ROLE}; BEGIN; PREPARE TRANSACTION '{gid}'");
    fleet.dev.servers()[0]
        .sql(DATABASE, &sql)
        .expect("prepared");
    assert_eq!(fleet.prepared(), [gid]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_participant_says_where_it_is_and_is_found_again() {
    let (fleet, mut gamma, gavel) = found().await;
    let shard = fleet.data_shards()[0];

    // Somewhere else: nobody restarts, and it does not matter that the file is of no use meanwhile.
    gamma.kill();
    let path = fleet.dev.config_path();
    let copy = path.with_file_name("copy.toml");
    fs::copy(&path, &copy).expect("copy the configuration");
    fs::write(&path, "half a fi").expect("spoil the configuration");
    let unusable = "the changed configuration is not taken over";
    for role in [Role::Coordinator(0), Role::Coordinator(1)] {
        says(&fleet, role, unusable, 1).await;
    }
    let mut again = Command::new(gavel_binary());
    again.arg("--config").arg(&copy);
    again
        .args(["participant", "--shard", "gamma"])
        .args(ANYWHERE);
    let _again = Gamma::run(again);
    is_found(&gavel, shard).await;

    // Other participants know it as well once they have heard, with no coordinator left.
    let heard = "its participant is announced";
    says(&fleet, Role::Participant(0), heard, 2).await;
    for index in [0, 1] {
        fleet.dev.kill_coordinator(index).expect("it runs");
    }
    prepare_for_gamma(&fleet);
    fleet.wait_resolved(RESOLVED_WITHIN).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_configuration_does_not_allow_is_not_believed() {
    let (fleet, _gamma, gavel) = found().await;
    let shard = fleet.data_shards()[0];
    let elsewhere = ["--announce", "http://192.0.2.1:7411"];
    let _liar = Gamma::participant(&fleet, &[&ANYWHERE[..], &elsewhere].concat());
    let refused = "`http://192.0.2.1:7411` is no address of a participant here";
    says(&fleet, Role::Coordinator(0), refused, 1).await;
    let outcome = gamma::transfer(&gavel, shard).await;
    assert!(matches!(outcome, Outcome::Committed(_)), "{outcome:?}");
}
