//! The documentation says what the code does: every key with its default, every code.

use std::path::{Path, PathBuf};

use gavel_cli::config::{Config, parse};
use gavel_participant::metrics::{Kind, Metric};
use gavel_protocol::{AbortCode, Limits, RefusalCode};
use serde_json::Value;

/// Every key there is, as TOML: the round trip below would miss an `Option` that is not set.
const EVERYTHING: &str = r#"
deployment = "bank"
migrate_on_start = true
allow_insecure_network = false
shutdown_grace_ms = 1
threads = 1

[[shard]]
name = "alpha"
tag = 1
database_url = "postgres://app:secret@127.0.0.1/bank"
database_url_file = "x"
admin_url = "postgres://admin:secret@127.0.0.1/bank"
admin_url_file = "x"
participant = "https://127.0.0.1:7411"

[coordinator]
listen = "127.0.0.1:7400"

[participant]
listen = "127.0.0.1:7411"

[registry]
hosts = ["127.0.0.1"]
coordinators = ["https://127.0.0.1:7400"]
announce = "https://127.0.0.1:7411"

[[principal]]
name = "teller"
token_file = "teller.token"
shards = ["alpha"]
statements = ["debit"]

[[statement]]
name = "debit"
sql = "select 1"

[tls]
ca_file = "ca.pem"
certificate_file = "own.pem"
key_file = "own.key"

[metrics]
listen = "127.0.0.1:7490"

[tracing]
endpoint = "http://127.0.0.1:4317"
roots = 0.5

[audit]
file = "audit.jsonl"

[log]
format = "text"
level = "info"
"#;

fn docs(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../docs")
        .join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn everything() -> Config {
    let folder = tempfile::tempdir().expect("a folder");
    let token = "a-token-with-enough-characters";
    std::fs::write(folder.path().join("teller.token"), token).expect("a file");
    let file: PathBuf = folder.path().join("gavel.toml");
    parse(&file, EVERYTHING, []).expect("a configuration")
}

/// The part of `page` under the heading that starts with `heading`.
fn section<'p>(page: &'p str, heading: &str) -> &'p str {
    let start = page
        .find(heading)
        .unwrap_or_else(|| panic!("no heading `{heading}`"));
    let rest = &page[start + heading.len()..];
    &rest[..rest.find("\n## ").unwrap_or(rest.len())]
}

#[test]
fn every_key_is_documented_under_its_heading() {
    let page = docs("configuration.md");
    let config = serde_json::to_value(everything()).expect("JSON");
    for (key, value) in config.as_object().expect("a table") {
        let (heading, inner) = match value {
            Value::Object(inner) => (format!("## `[{key}]`"), inner),
            Value::Array(tables) => {
                let first = tables[0].as_object().expect("a table");
                (format!("## `[[{key}]]`"), first)
            }
            _ => {
                assert!(
                    section(&page, "## Top level").contains(&format!("| `{key}` |")),
                    "{key}"
                );
                continue;
            }
        };
        for key in inner.keys() {
            let row = format!("| `{key}` |");
            assert!(
                section(&page, &heading).contains(&row),
                "{heading} lacks {key}"
            );
        }
    }
}

#[test]
fn limits_are_documented_with_their_defaults_and_no_others_are() {
    let page = docs("configuration.md");
    let limits = section(&page, "## `[limits]`");
    let defaults = serde_json::to_value(Limits::default()).expect("JSON");
    let defaults = defaults.as_object().expect("a table");
    for (key, default) in defaults {
        let row = format!("| `{key}` | {default} |");
        assert!(limits.contains(&row), "docs/configuration.md lacks: {row}");
    }
    for line in limits.lines().filter(|line| line.starts_with("| `")) {
        let key = line.split('`').nth(1).expect("a key");
        assert!(defaults.contains_key(key), "there is no limit {key}");
    }
}

#[test]
fn the_example_is_a_configuration() {
    let page = docs("configuration.md");
    let example = page
        .split("```toml")
        .nth(1)
        .and_then(|rest| rest.split("```").next());
    let error = parse(Path::new("gavel.toml"), example.expect("an example"), []);
    let error = error.expect_err("the example's secret is on another machine");
    assert_eq!(error.problems.len(), 1, "{error}");
    assert_eq!(error.problems[0].key, "shard[1].database_url_file");
}

#[test]
fn every_code_has_its_entry() {
    let page = docs("errors.md");
    let refusals = RefusalCode::ALL.iter().map(|code| code.as_str());
    let aborts = AbortCode::ALL.iter().map(|code| code.as_str());
    for code in refusals.chain(aborts) {
        assert!(
            page.contains(&format!("| `{code}` |")),
            "docs/errors.md lacks {code}"
        );
    }
}

#[test]
fn refusals_are_documented_as_what_they_are() {
    let page = docs("errors.md");
    let (again, not_again) = (
        section(&page, "## Refused, submit again"),
        section(&page, "## Refused, do not submit again"),
    );
    for code in RefusalCode::ALL {
        let row = format!("| `{code}` |");
        assert_eq!(again.contains(&row), code.is_retryable(), "{code}");
        assert_eq!(not_again.contains(&row), !code.is_retryable(), "{code}");
    }
}

#[test]
fn every_metric_is_documented_as_it_is_and_no_other() {
    let page = docs("metrics.md");
    let of_coordinators = gavel_coordinator::metrics::METRICS;
    let of_participants = gavel_participant::metrics::METRICS;
    let all: Vec<&Metric> = of_coordinators.iter().chain(of_participants).collect();
    for metric in &all {
        let labels: Vec<String> = metric
            .labels
            .iter()
            .map(|label| format!("`{label}`"))
            .collect();
        let kind = match metric.kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        let row = format!(
            "| `{}` | {kind} | {} | {} |",
            metric.name,
            labels.join(", "),
            metric.help
        );
        assert!(page.contains(&row), "docs/metrics.md lacks: {row}");
    }
    let rows = page.lines().filter(|line| line.starts_with("| `gavel_"));
    assert_eq!(
        rows.count(),
        all.len(),
        "docs/metrics.md has metrics that are none"
    );
}

#[test]
fn start_checks_are_documented() {
    let page = docs("errors.md");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../participant/src/start_check.rs");
    let source = std::fs::read_to_string(source).expect("the start checks");
    let codes: Vec<&str> = source
        .lines()
        .filter(|line| line.trim_start().starts_with("Self::") && line.contains("=> \""))
        .filter_map(|line| line.split('"').nth(1))
        .collect();
    assert!(codes.len() >= 10, "the codes are found: {codes:?}");
    for code in codes {
        assert!(
            page.contains(&format!("| `{code}` |")),
            "docs/errors.md lacks {code}"
        );
    }
}

#[test]
fn every_nemesis_and_every_step_is_documented() {
    let page = docs("chaos.md");
    for nemesis in gavel_chaos::nemesis::ALL {
        let steps = nemesis.steps.iter().map(ToString::to_string);
        let mut steps: Vec<String> = steps.collect();
        steps.sort();
        let row = format!(
            "| `{}` | {} | {} |",
            nemesis.name,
            nemesis.about,
            steps.join(" ")
        );
        assert!(page.contains(&row), "docs/chaos.md lacks: {row}");
    }
    for step in gavel_chaos::proxy::Step::ALL {
        let row = format!("| {step} | {} |", step.meaning());
        assert!(page.contains(&row), "docs/chaos.md lacks: {row}");
    }
}

/// Every source file of the repository, one after the other.
fn sources(folder: &Path, text: &mut String) {
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if path.is_dir() && name != "target" && !name.starts_with('.') {
            sources(&path, text);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            text.push_str(&std::fs::read_to_string(&path).expect("a file"));
        }
    }
}

#[test]
fn every_threat_has_its_tests() {
    let page = docs("security.md");
    let rows = section(&page, "## Threats").lines();
    let rows = rows.filter(|line| line.starts_with("| ") && !line.starts_with("| threat"));
    let mut text = String::new();
    sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join(".."), &mut text);
    let mut count = 0;
    for row in rows {
        let tests = row.trim_end_matches(" |").rsplit(" | ").next();
        let names = tests.into_iter().flat_map(|tests| tests.split(", "));
        for name in names {
            let name = name.trim_matches('`');
            assert!(
                text.contains(&format!("fn {name}(")),
                "{name} is no test: {row}"
            );
        }
        count += 1;
    }
    assert!(count > 10, "the table is not read");
}

#[test]
fn the_configuration_for_kubernetes_is_one() {
    let manifest = include_str!("../../ops/kubernetes/gavel.yaml");
    let (_, rest) = manifest.split_once("gavel.toml: |\n").expect("it is there");
    let (block, _) = rest.split_once("---\n").expect("it ends");
    let lines = block
        .lines()
        .map(|line| line.strip_prefix("    ").unwrap_or(line));
    let text = lines.collect::<Vec<_>>().join("\n");
    let config: Config = toml::from_str(&text).expect("a configuration");
    for shard in &config.shard {
        let url = shard.participant.as_deref().expect("an address");
        let service = url.trim_start_matches("https://").trim_end_matches(":7410");
        assert!(
            manifest.contains(&format!("  name: {service}\n")),
            "{service}"
        );
        let file = shard.database_url_file.as_deref().expect("a file");
        assert!(file.starts_with("secrets"), "{}", file.display());
    }
    assert!(config.tls.is_some());
}

#[test]
fn the_configurations_of_compose_and_of_a_fleet_from_nothing_are_ones() {
    let compose: Config =
        toml::from_str(include_str!("../../docker/gavel.toml")).expect("a configuration");
    assert!(
        compose.metrics.listen.is_some(),
        "health checks and Prometheus ask there"
    );
    let page = docs("operations.md");
    let fleet = section(
        &page,
        "From nothing to a fleet with certificates and dashboards",
    );
    let (_, rest) = fleet.split_once("<<'TOML'\n").expect("it is there");
    let (text, _) = rest.split_once("TOML\n").expect("it ends");
    let fleet: Config = toml::from_str(text).expect("a configuration");
    assert!(fleet.tls.is_some());
}
