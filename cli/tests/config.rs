//! The configuration: what is accepted, what is refused and in which words.

use std::fs;
use std::path::Path;

use gavel_cli::config::{Config, ConfigError, Role, parse};

const GOOD: &str = r#"
deployment = "bank"

[[shard]]
name = "alpha"
tag = 1
database_url = "postgres://app:secret@127.0.0.1:5432/bank_alpha"
participant = "http://127.0.0.1:7411"

[[shard]]
name = "beta"
tag = 2
database_url = "postgres://app:secret@127.0.0.1:5432/bank_beta"
participant = "http://127.0.0.1:7412"
"#;

fn with(text: &str, variables: &[(&str, &str)]) -> Result<Config, ConfigError> {
    let variables = variables
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    parse(Path::new("gavel.toml"), text, variables)
}

/// The only problem of `text`, as people read it.
fn problem(text: &str, variables: &[(&str, &str)]) -> String {
    let error = with(text, variables).expect_err("a problem");
    assert_eq!(error.problems.len(), 1, "{error}");
    error.to_string()
}

fn assert_says(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "`{part}` is missing in: {text}");
    }
}

#[test]
fn a_small_file_is_enough_and_secrets_stay_secret() {
    let config = with(GOOD, &[]).expect("a configuration");
    assert_eq!(config.coordinator.listen.to_string(), "127.0.0.1:7400");
    assert!(config.migrate_on_start && !config.allow_insecure_network);
    assert_eq!(config.limits, gavel_protocol::Limits::default());
    let url = config.shard[0].database_url().expose();
    assert_eq!(url, "postgres://app:secret@127.0.0.1:5432/bank_alpha");
    let seen = format!(
        "{config:?} {}",
        serde_json::to_string(&config).expect("JSON")
    );
    assert!(!seen.contains("secret@"), "{seen}");
    assert!(seen.contains("[redacted]"));
}

#[test]
fn registered_statements_are_checked() {
    for (tables, expected) in [
        (
            "[tls]\n[[principal]]\nname = \"a\"\nstatements = [\"debit\"]",
            "there is no statement `debit`",
        ),
        (
            "[tls]\n[[statement]]\nname = \"end\"\nsql = \"commit\"",
            "`end` would be refused",
        ),
        (
            "[tls]\n[[statement]]\nname = \"a\"\nsql = \"select 1\"\n\
             [[statement]]\nname = \"a\"\nsql = \"select 2\"",
            "two statements are called `a`",
        ),
    ] {
        let good = GOOD.replace("http://", "https://");
        let text = problem(&format!("{good}\n{tables}\n"), &[]);
        assert_says(&text, &["gavel.toml", expected]);
    }
}

#[test]
fn unknown_keys_are_named_wherever_they_are() {
    let top = problem(&format!("deploymet = \"x\"\n{GOOD}"), &[]);
    assert_says(&top, &["gavel.toml", "deploymet", "docs/configuration.md"]);
    for (table, key) in [
        ("[limits]", "lock_timeout"),
        ("[coordinator]", "port"),
        ("[participant]", "port"),
        ("[log]", "colour"),
        ("[[shard]]\nname = \"gamma\"\ntag = 3", "url"),
        ("[[principal]]\nname = \"a\"\ntoken_file = \"a\"", "token"),
    ] {
        let text = problem(&format!("{GOOD}\n{table}\n{key} = 1\n"), &[]);
        let section = table
            .trim_matches(['[', ']'])
            .split(']')
            .next()
            .expect("a name");
        assert_says(
            &text,
            &["gavel.toml", section, &format!("unknown field `{key}`")],
        );
    }
}

#[test]
fn bad_values_are_named_with_their_key() {
    for (from, to, parts) in [
        (
            "\"alpha\"",
            "\"Alpha\"",
            &["shard[0].name", "`Alpha` is not a valid name"][..],
        ),
        ("tag = 2", "tag = 65536", &["shard[1].tag", "65536"]),
        (
            "tag = 2",
            "tag = \"two\"",
            &["shard[1].tag", "invalid type"],
        ),
        (
            "tag = 2",
            "tag = 1",
            &["`alpha` and `beta` have the same tag"],
        ),
        ("\"beta\"", "\"alpha\"", &["two shards are called `alpha`"]),
        (
            "bank_beta",
            "bank_alpha",
            &[
                "shard[1].database_url",
                "the same database as shard `alpha`",
            ],
        ),
        (
            "7412",
            "7411",
            &["shard[1].participant", "the same address as shard `alpha`"],
        ),
        (
            "\"http://127.0.0.1:7411\"",
            "\"127.0.0.1:7411\"",
            &["shard[0].participant", "use http://host:port"],
        ),
        (
            "\"bank\"",
            "\"my-bank\"",
            &["deployment", "`my-bank` is not a valid name"],
        ),
        (
            "postgres://app:secret@127.0.0.1:5432/bank_beta",
            "mysql://x",
            &["shard[1].database_url", "not a postgres:// address"],
        ),
        (
            "postgres://app:secret@127.0.0.1:5432/bank_beta",
            "postgres://app:secret@127.0.0.1:0x/b",
            &["shard[1].database_url", "port"],
        ),
        (
            "@127.0.0.1:5432/bank_beta",
            "@127.0.0.1:5432",
            &["shard[1].database_url", "names no database"],
        ),
    ] {
        assert!(GOOD.contains(from));
        let text = problem(&GOOD.replace(from, to), &[]);
        assert_says(&text, parts);
        assert!(!text.contains("secret"), "{text}");
    }
}

#[test]
fn the_rest_of_the_rules() {
    let with_tail = |tail: &str| problem(&format!("{GOOD}\n{tail}"), &[]);
    assert_says(
        &with_tail("[limits]\nsavepoints_max = 61"),
        &["limits.savepoints_max", "1 to 60"],
    );
    assert_says(
        &with_tail("[log]\nlevel = \"loud=x=y\""),
        &["log.level", "use error, warn"],
    );
    assert_says(
        &with_tail("[log]\nformat = \"xml\""),
        &["log.format", "`text`"],
    );
    assert_says(
        &problem("deployment = \"bank\"", &[]),
        &["shard", "name at least one"],
    );
    assert_says(&problem("deployment = ", &[]), &["gavel.toml", "line 1"]);
    let bare = GOOD.replace(
        "database_url = \"postgres://app:secret@127.0.0.1:5432/bank_beta\"",
        "",
    );
    assert_says(
        &problem(&bare, &[]),
        &[
            "shard[1]",
            "shard `beta` has no database",
            "database_url_file",
        ],
    );
}

#[test]
fn every_problem_is_told_at_once() {
    let text = GOOD.replace("tag = 2", "tag = 1").replace("7412", "7411");
    let error = with(&text, &[]).expect_err("two problems");
    assert_eq!(error.problems.len(), 2, "{error}");
}

#[test]
fn the_environment_overrides() {
    let config = with(
        GOOD,
        &[
            ("GAVEL__DEPLOYMENT", "other"),
            ("GAVEL__LIMITS__LOCK_TIMEOUT_MS", "250"),
            ("GAVEL__COORDINATOR__LISTEN", "127.0.0.1:9000"),
            ("GAVEL__ALLOW_INSECURE_NETWORK", "true"),
            (
                "GAVEL__SHARD__BETA__DATABASE_URL",
                "postgres://app:x@10.0.0.1/b",
            ),
            ("GAVEL_CONFIG", "not an override"),
        ],
    )
    .expect("a configuration");
    assert_eq!(config.deployment.as_str(), "other");
    assert_eq!(config.limits.lock_timeout_ms, 250);
    assert_eq!(config.coordinator.listen.port(), 9000);
    assert!(config.allow_insecure_network);
    assert_eq!(
        config.shard[1].database_url().expose(),
        "postgres://app:x@10.0.0.1/b"
    );
}

#[test]
fn a_wrong_override_is_told_by_its_variable() {
    let unknown = problem(GOOD, &[("GAVEL__LIMITS__LOK_TIMEOUT_MS", "250")]);
    assert_says(
        &unknown,
        &["lok_timeout_ms", "GAVEL__LIMITS__LOK_TIMEOUT_MS"],
    );
    let misfit = problem(GOOD, &[("GAVEL__LIMITS__LOCK_TIMEOUT_MS", "soon")]);
    assert_says(
        &misfit,
        &["limits.lock_timeout_ms", "GAVEL__LIMITS__LOCK_TIMEOUT_MS"],
    );
    let nobody = problem(GOOD, &[("GAVEL__SHARD__GAMMA__TAG", "3")]);
    assert_says(&nobody, &["GAVEL__SHARD__GAMMA__TAG", "name = \"gamma\""]);
    let short = problem(GOOD, &[("GAVEL__SHARD__TAG", "3")]);
    assert_says(&short, &["GAVEL__SHARD__TAG", "GAVEL__SHARD__NAME__KEY"]);
    assert_says(&problem(GOOD, &[("GAVEL__", "3")]), &["write GAVEL__KEY"]);
}

#[test]
fn secrets_can_be_files_beside_the_configuration() {
    let folder = tempfile::tempdir().expect("a folder");
    let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).expect("a file");
    write("beta.url", "postgres://app:hidden@127.0.0.1/b\n");
    write("teller.token", "a-token-with-enough-characters\n");
    let text = GOOD.replace(
        "database_url = \"postgres://app:secret@127.0.0.1:5432/bank_beta\"",
        "database_url_file = \"beta.url\"",
    ) + "\n[[principal]]\nname = \"teller\"\ntoken_file = \"teller.token\"\n";
    let file = folder.path().join("gavel.toml");
    let load = || parse(&file, &text, []);
    let config = load().expect("a configuration");
    assert_eq!(
        config.shard[1].database_url().expose(),
        "postgres://app:hidden@127.0.0.1/b"
    );
    let teller = &config.principal[0];
    assert_eq!(teller.role, Role::Client);
    let token_file = teller.token_file.as_ref().expect("a file");
    assert!(token_file.starts_with(folder.path()));

    write("teller.token", "letmein\n");
    let short = load().expect_err("short").to_string();
    assert_says(
        &short,
        &["principal", "`teller` is too short", "openssl rand"],
    );
    write("teller.token", "a-token-with-enough-characters\n");
    fs::remove_file(folder.path().join("beta.url")).expect("removed");
    let gone = load().expect_err("gone").to_string();
    assert_says(&gone, &["shard[1].database_url_file", "cannot be read"]);
    assert!(
        !gone.contains("has no database"),
        "one cause, one message: {gone}"
    );
}

#[test]
fn who_is_announced_is_expected_at_known_places_and_proves_who_he_is() {
    let announced = GOOD.replace("http://127.0.0.1:7411", "announced");
    let error = with(&announced, &[]).expect_err("problems").to_string();
    assert_says(
        &error,
        &["registry.hosts", "registry.coordinators", "`alpha`"],
    );
    let registry = "[registry]\nhosts = [\"10.1.0.0/16\", \"*.gavel.svc\"]\n\
                    coordinators = [\"http://127.0.0.1:7400\"]\n";
    let whole = format!("{announced}{registry}");
    let config = with(&whole, &[]).expect("a configuration");
    assert!(config.shard[0].is_announced() && !config.shard[1].is_announced());

    let variables = [("GAVEL__ALLOW_INSECURE_NETWORK", "true")];
    let error = problem(&whole, &variables);
    assert_says(&error, &["`alpha`", "somewhere else", "[tls]"]);
    let error = problem(&whole.replace("10.1.0.0/16", "10.1.0.0/99"), &[]);
    assert_says(&error, &["registry.hosts", "10.1.0.0/99"]);
    let error = problem(
        &whole.replace("http://127.0.0.1:7400", "127.0.0.1:7400"),
        &[],
    );
    assert_says(&error, &["registry.coordinators", "http://host:port"]);
}
