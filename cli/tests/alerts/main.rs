//! The alerts and the dashboard that ship with Gavel, in a real Prometheus: every alert fires by a
//! real fault, and ends when its entry in docs/operations.md is followed.

mod prometheus;
mod stage;
#[path = "../temporary/mod.rs"]
mod temporary;

use std::collections::BTreeSet;
use std::process::Command;

use gavel_devkit::{Dev, Options, Role};
use local_postgres::Mode;
use serde_json::Value;

use prometheus::{Prometheus, RULES};
use stage::{ALPHA, BETA, Stage};

const GAVEL: &str = env!("CARGO_BIN_EXE_gavel");
const DASHBOARD: &str = include_str!("../../../ops/grafana/gavel.json");
const CONSOLE: &str = include_str!("../../../ops/prometheus/consoles/gavel.html");
const OPERATIONS: &str = include_str!("../../../docs/operations.md");

/// Needs a deployment with certificates.
const ENCRYPTED: &str = "GavelCertificateEnds";

/// What every process says of itself.
const OF_PROCESSES: &str = "gavel_certificate_expiry_timestamp_seconds";

fn alerts() -> Vec<&'static str> {
    let lines = RULES.lines();
    lines
        .filter_map(|line| line.trim().strip_prefix("- alert: "))
        .collect()
}

/// The names of metrics in a text.
fn metrics_in(text: &str) -> BTreeSet<&str> {
    let words = text.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_');
    words.filter(|word| word.starts_with("gavel_")).collect()
}

fn expressions() -> Vec<String> {
    let dashboard: Value = serde_json::from_str(DASHBOARD).expect("JSON");
    let panels = dashboard["panels"].as_array().expect("panels").iter();
    let targets = panels.flat_map(|panel| panel["targets"].as_array().expect("targets"));
    let expressions = targets.map(|target| target["expr"].as_str().expect("a query"));
    expressions
        .map(|query| query.replace("$__rate_interval", "30s"))
        .collect()
}

#[test]
fn every_alert_has_its_entry_and_every_query_its_metrics() {
    for alert in alerts() {
        assert!(
            OPERATIONS.contains(&format!("\n### {alert}\n")),
            "{alert} has no entry"
        );
        let anchor = format!("runbook: docs/operations.md#{}", alert.to_lowercase());
        assert!(RULES.contains(&anchor), "{alert} names no entry");
    }
    let of_coordinators = gavel_coordinator::metrics::METRICS.iter();
    let all = of_coordinators.chain(gavel_participant::metrics::METRICS);
    let known = all.map(|metric| metric.name).chain([OF_PROCESSES]);
    let known: BTreeSet<&str> = known.collect();
    let queries = expressions().join("\n");
    let texts = [queries.as_str(), RULES, CONSOLE];
    for name in texts.into_iter().flat_map(metrics_in) {
        let parts = ["_bucket", "_sum", "_count"];
        let whole = parts.iter().find_map(|part| name.strip_suffix(part));
        assert!(
            known.contains(name) || whole.is_some_and(|name| known.contains(name)),
            "{name}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_alert_fires_by_a_real_fault_and_ends_as_its_entry_says() {
    let mut drill = Drill::start().await;
    drill.overload_and_a_knock_without_a_token().await;
    drill.every_query_of_the_dashboard().await;
    drill.prepared_transactions_of_somebody_else().await;
    drill.a_server_that_lost_what_it_acknowledged().await;
    drill.somebody_ends_a_branch_by_hand().await;
    drill.a_branch_from_an_old_backup().await;
    drill.home_dies_with_a_branch_prepared_elsewhere().await;
    drill.a_server_stops().await;
    drill.no_participant_is_left().await;
    drill.every_alert_has_fired();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_that_ends_soon_is_told_until_there_is_a_new_one() {
    let folder = temporary::folder();
    let mut options = Options::for_tests(folder.path().join("data"), GAVEL);
    options.shards = Some(1);
    options.tls = true;
    let dev = Dev::start(&options).expect("a deployment");
    let watching = Prometheus::watch(&dev);
    let processes = dev.metrics_urls().len();
    watching.until_calm(processes).await;
    let renew = |days: &str| {
        let out = dev.certificates().expect("it has some");
        let mut gavel = Command::new(GAVEL);
        gavel
            .arg("--config")
            .arg(dev.config_path())
            .args(["certs", "--renew", "--days", days]);
        let ended = gavel.arg("--out").arg(out).output().expect("gavel runs");
        assert!(ended.status.success(), "{ended:?}");
    };
    renew("10");
    watching.until_firing(&[ENCRYPTED], async || {}).await;
    renew("90");
    watching.until_calm(processes).await;
}

/// Faults, one after the other, each ended before the next.
struct Drill {
    stage: Stage,
    watching: Prometheus,
    fired: BTreeSet<String>,
}

impl Drill {
    async fn start() -> Self {
        let stage = Stage::start();
        let watching = Prometheus::watch(&stage.dev);
        stage.commit().await;
        let drill = Self {
            stage,
            watching,
            fired: BTreeSet::new(),
        };
        drill.calm().await;
        drill
    }

    async fn calm(&self) {
        self.watching.until_calm(self.stage.processes()).await;
    }

    /// Waits for these alerts, each `NAME` or `NAME SHARD`, while the fault goes on.
    async fn fires(&mut self, alerts: &[&str], fault: impl AsyncFn(&Stage)) {
        let stage = &self.stage;
        let going_on = async || fault(stage).await;
        self.watching.until_firing(alerts, going_on).await;
        let names = alerts.iter().filter_map(|alert| alert.split(' ').next());
        self.fired.extend(names.map(str::to_owned));
    }

    fn kill(&self, shard: usize) {
        let participant = Role::Participant(shard);
        self.stage
            .dev
            .kill(participant)
            .expect("kill the participant");
    }

    fn restart(&self, shard: usize) {
        let participant = Role::Participant(shard);
        self.stage.dev.restart(participant).expect("start it again");
    }

    async fn overload_and_a_knock_without_a_token(&mut self) {
        let alerts = ["GavelOverloaded", "GavelAuthenticationFailures"];
        let fault = async |stage: &Stage| {
            stage.overload().await;
            stage.knock().await;
        };
        self.fires(&alerts, fault).await;
    }

    /// While there is something to see.
    async fn every_query_of_the_dashboard(&self) {
        for query in expressions() {
            self.watching.query(&query).await;
        }
        let rate = r#"rate(gavel_transactions_total{outcome="committed"}[30s]) > 0"#;
        assert!(
            self.watching.query(rate).await > 0,
            "the dashboard shows nothing"
        );
        self.calm().await;
    }

    async fn prepared_transactions_of_somebody_else(&mut self) {
        self.stage.prepare_theirs(52);
        let alerts = ["GavelSlotsScarce beta", "GavelForeignPrepared beta"];
        self.fires(&alerts, nothing_more).await;
        self.stage.rollback_theirs(52);
        self.calm().await;
    }

    /// Home misses it.
    async fn a_server_that_lost_what_it_acknowledged(&mut self) {
        self.stage.sql(BETA, "DELETE FROM gavel.branch");
        self.fires(&["GavelDamage alpha"], nothing_more).await;
        self.stage.acknowledge_damage();
        self.calm().await;
    }

    /// Prepared, and rolled back by a person while its home decides to commit.
    async fn somebody_ends_a_branch_by_hand(&mut self) {
        self.stage.commit_what_somebody_rolls_back().await;
        let alerts = ["GavelAlarm", "GavelDamage beta"];
        self.fires(&alerts, nothing_more).await;
        self.stage.acknowledge_damage();
        self.calm().await;
    }

    /// Home does not keep its decision any more.
    async fn a_branch_from_an_old_backup(&mut self) {
        self.stage.age_home();
        let old = self.stage.prepare_ours(stage::days_ago(30));
        let alerts = ["GavelBranchStuck beta", "GavelInDoubt beta"];
        self.fires(&alerts, nothing_more).await;
        self.stage.sql(BETA, &format!("ROLLBACK PREPARED '{old}'"));
        self.calm().await;
    }

    async fn home_dies_with_a_branch_prepared_elsewhere(&mut self) {
        self.stage.prepare_ours(stage::days_ago(0));
        self.kill(ALPHA);
        let alerts = [
            "GavelProcessDown",
            "GavelShardDown alpha",
            "GavelInDoubt beta",
        ];
        self.fires(&alerts, nothing_more).await;
        self.restart(ALPHA);
        self.calm().await;
    }

    /// What needs all shards cannot go on: audits, and the retention of a participant that
    /// starts now.
    async fn a_server_stops(&mut self) {
        let stopped = self.stage.dev.servers()[BETA].stop(Mode::Immediate);
        stopped.expect("stop the server");
        let alerts = [
            "GavelScanStale beta",
            "GavelShardDown beta",
            "GavelShardFlaps beta",
        ];
        let fault = async |stage: &Stage| drop(stage.try_to_commit().await);
        self.fires(&alerts, fault).await;
        self.kill(ALPHA);
        self.restart(ALPHA);
        let alerts = ["GavelAuditStale alpha", "GavelRetentionStale alpha"];
        self.fires(&alerts, nothing_more).await;
        let started = self.stage.dev.servers()[BETA].start();
        started.expect("start the server");
        self.calm().await;
    }

    async fn no_participant_is_left(&mut self) {
        self.kill(ALPHA);
        self.kill(BETA);
        self.fires(&["GavelNobodyCommits"], nothing_more).await;
        self.restart(ALPHA);
        self.restart(BETA);
        self.calm().await;
        self.stage.commit().await;
    }

    fn every_alert_has_fired(&self) {
        let all = alerts().into_iter().filter(|alert| *alert != ENCRYPTED);
        let all: BTreeSet<String> = all.map(str::to_owned).collect();
        assert_eq!(self.fired, all, "an alert without its fault");
    }
}

/// The fault goes on by itself.
async fn nothing_more(_: &Stage) {}
