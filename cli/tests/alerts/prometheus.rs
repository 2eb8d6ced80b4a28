//! A real Prometheus in a folder of its own, with the shipped rules in quick.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use gavel_devkit::Dev;
use serde_json::Value;

/// Generous: other tests may keep the machine busy.
const LIMIT: Duration = Duration::from_secs(100);
const EVERY: Duration = Duration::from_millis(200);

pub(crate) const RULES: &str = include_str!("../../../ops/prometheus/alerts.yml");

/// It ends when this is dropped.
pub(crate) struct Prometheus {
    process: Child,
    url: String,
    _folder: tempfile::TempDir,
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ended = self.process.kill();
        let _status = self.process.wait();
    }
}

impl Prometheus {
    /// Watches all processes of a deployment.
    pub(crate) fn watch(dev: &Dev) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let targets: Vec<String> = dev.metrics_urls().into_values().collect();
        let targets = targets.iter().filter_map(|url| url.split_once("://"));
        let targets: Vec<&str> = targets.map(|(_, address)| address).collect();
        // As in ops/prometheus/prometheus.yml.
        let encrypted = dev.certificates().map_or_else(String::new, |folder| {
            let file = |name: &str| folder.join(name).display().to_string();
            format!(
                "scheme: https, tls_config: {{ca_file: {:?}, cert_file: {:?}, key_file: {:?}}}, ",
                file("ca.pem"),
                file("metrics.pem"),
                file("metrics.key")
            )
        });
        let config = format!(
            "global: {{scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s}}\n\
             rule_files: [alerts.yml]\n\
             scrape_configs: [{{job_name: gavel, {encrypted}static_configs: [{{targets: {targets:?}}}]}}]\n"
        );
        std::fs::write(folder.path().join("prometheus.yml"), config).expect("a file");
        std::fs::write(folder.path().join("alerts.yml"), quick(RULES)).expect("a file");
        let address = format!("127.0.0.1:{}", local_postgres::free_port().expect("a port"));
        let log = std::fs::File::create(folder.path().join("log")).expect("a file");
        let process = Command::new(program())
            .arg(format!(
                "--config.file={}",
                folder.path().join("prometheus.yml").display()
            ))
            .arg(format!(
                "--storage.tsdb.path={}",
                folder.path().join("data").display()
            ))
            .arg(format!("--web.listen-address={address}"))
            .stderr(Stdio::from(log))
            .spawn()
            .expect("prometheus runs: `make setup` unpacks it");
        Self {
            process,
            url: format!("http://{address}/api/v1"),
            _folder: folder,
        }
    }

    /// The answer to a question, if there is one.
    async fn ask(&self, path: &str, query: &[(&str, &str)]) -> Option<Value> {
        let sent = reqwest::Client::new();
        let url = reqwest::Url::parse_with_params(&format!("{}{path}", self.url), query);
        let answer = sent.get(url.expect("a URL")).send().await.ok()?;
        answer.json().await.ok()
    }

    /// What a query finds: the number of its series.
    pub(crate) async fn query(&self, query: &str) -> usize {
        let answer = self.ask("/query", &[("query", query)]).await;
        let answer = answer.expect("Prometheus answers");
        assert_eq!(answer["status"], "success", "{query}: {answer}");
        answer["data"]["result"].as_array().expect("series").len()
    }

    /// What fires now: name and, where there is one, the shard.
    async fn firing(&self) -> Option<Vec<String>> {
        let answer = self.ask("/alerts", &[]).await?;
        let alerts = answer["data"]["alerts"].as_array()?.iter();
        let firing = alerts
            .filter(|alert| alert["state"] == "firing")
            .map(|alert| {
                let labels = &alert["labels"];
                let name = labels["alertname"].as_str().unwrap_or_default();
                match labels["shard"].as_str() {
                    Some(shard) => format!("{name} {shard}"),
                    None => name.to_owned(),
                }
            });
        Some(firing.collect())
    }

    /// Waits until all of these fire at the same time. `meanwhile` keeps the fault going.
    pub(crate) async fn until_firing(&self, alerts: &[&str], mut meanwhile: impl AsyncFnMut()) {
        let started = Instant::now();
        loop {
            let firing = self.firing().await.unwrap_or_default();
            if alerts
                .iter()
                .all(|alert| firing.iter().any(|each| each == alert))
            {
                println!("{:>5.1?} {alerts:?}", started.elapsed());
                return;
            }
            assert!(
                started.elapsed() < LIMIT,
                "{firing:?} instead of {alerts:?}"
            );
            meanwhile().await;
            tokio::time::sleep(EVERY).await;
        }
    }

    /// Waits until everything is watched and nothing fires.
    pub(crate) async fn until_calm(&self, processes: usize) {
        let started = Instant::now();
        loop {
            let firing = self.firing().await;
            let up = match firing {
                Some(_) => self.query("up == 1").await,
                None => 0,
            };
            if up == processes && firing.as_ref().is_some_and(Vec::is_empty) {
                return;
            }
            assert!(
                started.elapsed() < LIMIT,
                "{up} are up, and still: {firing:?}"
            );
            tokio::time::sleep(EVERY).await;
        }
    }
}

/// The same rules with shorter times, and with thresholds that a test reaches.
fn quick(rules: &str) -> String {
    let quick = rules.lines().map(|line| {
        if line.trim_start().starts_with("for:") {
            return "        for: 0s".to_owned();
        }
        let mut line = line.to_owned();
        for (slow, quick) in [
            ("[1m]", "[6s]"),
            ("[5m]", "[6s]"),
            ("[10m]", "[6s]"),
            ("seconds) > 60", "seconds) > 3"),
            ("seconds) > 30", "seconds) > 4"),
            ("seconds) > 600", "seconds) > 3"),
            ("seconds) > 3600", "seconds) > 12"),
            ("[6s])) > 3", "[6s])) > 0"),
            ("[6s])) > 1", "[6s])) > 0"),
        ] {
            if line.ends_with(slow) || slow.starts_with('[') && slow.ends_with(']') {
                line = line.replace(slow, quick);
            }
        }
        line
    });
    quick.collect::<Vec<_>>().join("\n")
}

/// The one of `scripts/setup.sh`, or the one in the path.
fn program() -> PathBuf {
    let tools = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("../tools");
    let unpacked = tools.join("prometheus/usr/bin/prometheus");
    match unpacked.exists() {
        true => unpacked,
        false => PathBuf::from("prometheus"),
    }
}
