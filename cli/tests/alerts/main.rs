//! The alerts and the dashboard that ship with Gavel, in a real Prometheus: every alert fires by a
//! real fault, and ends when its entry in docs/operations.md is followed.

mod prometheus;
mod stage;

use std::collections::BTreeSet;

use gavel_devkit::Role;
use local_postgres::Mode;
use serde_json::Value;

use prometheus::{Prometheus, RULES};
use stage::{ALPHA, BETA, Stage};

const DASHBOARD: &str = include_str!("../../../ops/grafana/gavel.json");
const OPERATIONS: &str = include_str!("../../../docs/operations.md");

/// Bugs of Gavel have no fault that shows them.
const WITHOUT_FAULT: &str = "GavelAlarm";

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
    let known: BTreeSet<&str> = all.map(|metric| metric.name).collect();
    let queries = expressions().join("\n");
    for name in metrics_in(&queries).iter().chain(&metrics_in(RULES)) {
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
    let stage = Stage::start();
    let watching = Prometheus::watch(&stage.dev);
    let mut fired: BTreeSet<String> = BTreeSet::new();
    let mut expect = |alerts: &[&str]| {
        let names = alerts.iter().filter_map(|alert| alert.split(' ').next());
        fired.extend(names.map(str::to_owned));
    };
    stage.commit().await;
    watching.until_calm(stage.processes()).await;

    // Too much at once, and somebody without a token.
    let alerts = ["GavelOverloaded", "GavelAuthenticationFailures"];
    watching
        .until_firing(&alerts, async || {
            stage.overload().await;
            stage.knock().await;
        })
        .await;
    expect(&alerts);
    for query in expressions() {
        watching.query(&query).await;
    }
    let rate = r#"rate(gavel_transactions_total{outcome="committed"}[30s]) > 0"#;
    assert!(
        watching.query(rate).await > 0,
        "the dashboard shows nothing"
    );
    watching.until_calm(stage.processes()).await;

    // Somebody else's prepared transactions fill the server.
    stage.prepare_theirs(52);
    let alerts = ["GavelSlotsScarce beta", "GavelForeignPrepared beta"];
    watching.until_firing(&alerts, async || {}).await;
    expect(&alerts);
    stage.rollback_theirs(52);
    watching.until_calm(stage.processes()).await;

    // A server that lost what it had acknowledged: home misses it.
    stage.sql(BETA, "DELETE FROM gavel.branch");
    let alerts = ["GavelDamage alpha"];
    watching.until_firing(&alerts, async || {}).await;
    expect(&alerts);
    stage.acknowledge_damage();
    watching.until_calm(stage.processes()).await;

    // A branch from an old backup: home does not keep its decision any more.
    stage.age_home();
    let old = stage.prepare_ours(stage::days_ago(30));
    let alerts = ["GavelBranchStuck beta", "GavelInDoubt beta"];
    watching.until_firing(&alerts, async || {}).await;
    expect(&alerts);
    stage.sql(BETA, &format!("ROLLBACK PREPARED '{old}'"));
    watching.until_calm(stage.processes()).await;

    // Home's participant dies with a branch prepared elsewhere.
    stage.prepare_ours(stage::days_ago(0));
    stage
        .dev
        .kill(Role::Participant(ALPHA))
        .expect("kill the participant");
    let alerts = [
        "GavelProcessDown",
        "GavelShardDown alpha",
        "GavelInDoubt beta",
    ];
    watching.until_firing(&alerts, async || {}).await;
    expect(&alerts);
    stage
        .dev
        .restart(Role::Participant(ALPHA))
        .expect("start it again");
    watching.until_calm(stage.processes()).await;

    // A server stops. What needs all shards cannot go on: audits, and the retention of a
    // participant that starts now.
    stage.dev.servers()[BETA]
        .stop(Mode::Immediate)
        .expect("stop the server");
    let alerts = [
        "GavelScanStale beta",
        "GavelShardDown beta",
        "GavelShardFlaps beta",
    ];
    watching
        .until_firing(&alerts, async || drop(stage.try_to_commit().await))
        .await;
    expect(&alerts);
    stage
        .dev
        .kill(Role::Participant(ALPHA))
        .expect("kill the participant");
    stage
        .dev
        .restart(Role::Participant(ALPHA))
        .expect("start it again");
    let alerts = ["GavelAuditStale alpha", "GavelRetentionStale alpha"];
    watching.until_firing(&alerts, async || {}).await;
    expect(&alerts);
    stage.dev.servers()[BETA].start().expect("start the server");
    watching.until_calm(stage.processes()).await;

    // No participant is left.
    for shard in [ALPHA, BETA] {
        stage
            .dev
            .kill(Role::Participant(shard))
            .expect("kill the participant");
    }
    let alerts = ["GavelNobodyCommits"];
    watching.until_firing(&alerts, async || {}).await;
    expect(&alerts);
    for shard in [ALPHA, BETA] {
        stage
            .dev
            .restart(Role::Participant(shard))
            .expect("start it again");
    }
    watching.until_calm(stage.processes()).await;
    stage.commit().await;

    let all: BTreeSet<String> = alerts_with_fault();
    assert_eq!(fired, all, "an alert without its fault");
}

fn alerts_with_fault() -> BTreeSet<String> {
    let all = alerts().into_iter().filter(|alert| *alert != WITHOUT_FAULT);
    all.map(str::to_owned).collect()
}
