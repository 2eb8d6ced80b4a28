//! Any text is a configuration or an error with a way out; what is written is what is read.

use std::path::Path;

use gavel_cli::config::{Config, ConfigError, parse};
use gavel_protocol::Limits;
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use toml::{Table, Value, toml};

fn read(text: &str, variables: Vec<(String, String)>) -> Result<Config, ConfigError> {
    parse(Path::new("/nonexistent/gavel.toml"), text, variables)
}

/// An error says what to do, and never a password.
fn check(result: Result<Config, ConfigError>) {
    if let Err(error) = result {
        assert!(!error.problems.is_empty());
        assert!(
            error.problems.iter().all(|problem| !problem.fix.is_empty()),
            "{error}"
        );
    }
}

/// One shard: its name and its tag, and where its participant is.
fn shards() -> impl Strategy<Value = Vec<(String, u16, Option<u16>)>> {
    let tags = btree_map(
        any::<u16>(),
        ("[a-z][a-z0-9_]{0,20}", prop::option::of(1u16..)),
        1..5,
    );
    tags.prop_map(|tags| {
        let shards = tags.into_iter().enumerate();
        // Names and ports get the position, so that they differ.
        shards
            .map(|(at, (tag, (name, port)))| {
                let port = port.map(|port| port / 8 * 8 + at as u16);
                (format!("{name}{at}"), tag, port.filter(|port| *port > 0))
            })
            .collect()
    })
}

fn limits() -> impl Strategy<Value = Limits> {
    (
        1..=60usize,
        1..5_000u64,
        1..=100u32,
        2 * 86_400_000..i64::MAX as u64,
    )
        .prop_map(
            |(savepoints_max, lock_timeout_ms, slots_per_home_percent, retention_ms)| Limits {
                savepoints_max,
                lock_timeout_ms,
                slots_per_home_percent,
                retention_ms,
                ..Limits::default()
            },
        )
}

fn document(shards: &[(String, u16, Option<u16>)], limits: &Limits) -> Table {
    let shard = |(name, tag, port): &(String, u16, Option<u16>)| {
        let mut table = Table::new();
        table.insert("name".to_owned(), Value::from(name.clone()));
        table.insert("tag".to_owned(), Value::from(i64::from(*tag)));
        let url = format!("postgres://app:secret@127.0.0.1/{name}");
        table.insert("database_url".to_owned(), Value::from(url));
        if let Some(port) = port {
            let address = format!("http://127.0.0.1:{port}");
            table.insert("participant".to_owned(), Value::from(address));
        }
        Value::Table(table)
    };
    let mut document = toml! { deployment = "bank" };
    let shards: Vec<_> = shards.iter().map(shard).collect();
    document.insert("shard".to_owned(), Value::Array(shards));
    let limits = Value::try_from(limits).expect("limits as TOML");
    document.insert("limits".to_owned(), limits);
    document
}

/// Pieces of configurations, for texts that get past the first word.
fn pieces() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        "\\[\\[?(shard|principal|limits|log|coordinator|participant)\\]?\\]",
        "(name|tag|deployment|database_url|listen|level|role|participant) = ",
        "(\"[a-z:/@.]{0,12}\"|-?[0-9]{1,20}|true|\\[\\]|\\{\\}|1979-05-27)",
        "postgres(ql)?://[a-z:@%/?=&0-9]{0,16}",
        "GAVEL|#|=|\\.|\"\"\"|\n",
        ".{0,6}",
    ];
    vec(prop_oneof![3 => piece, 2 => Just("\n".to_owned())], 0..24).prop_map(|all| all.concat())
}

proptest! {
    #[test]
    fn what_is_written_is_read(shards in shards(), limits in limits()) {
        let text = document(&shards, &limits).to_string();
        let config = read(&text, Vec::new()).expect("a configuration");
        prop_assert_eq!(&config.limits, &limits);
        prop_assert_eq!(config.shard_map().iter().count(), shards.len());
        for ((name, tag, port), read) in shards.iter().zip(&config.shard) {
            prop_assert_eq!((read.name.as_str(), read.tag.0), (name.as_str(), *tag));
            let address = port.map(|port| format!("http://127.0.0.1:{port}"));
            prop_assert_eq!(&read.participant, &address);
        }
        let told = format!("{config:?} {}", serde_json::to_string(&config).expect("JSON"));
        prop_assert!(!told.contains("secret@"));
    }

    #[test]
    fn any_text_has_an_answer(text in prop_oneof![pieces(), ".{0,200}"]) {
        check(read(&text, Vec::new()));
    }

    #[test]
    fn a_damaged_document_has_an_answer(
        shards in shards(),
        damage in vec((any::<prop::sample::Index>(), "[ -~\n]{0,3}"), 1..5),
    ) {
        let mut text = document(&shards, &Limits::default()).to_string();
        for (at, put) in damage {
            let at = at.index(text.len());
            text.replace_range(at..=at, &put);
        }
        check(read(&text, Vec::new()));
    }

    #[test]
    fn any_override_has_an_answer(
        shards in shards(),
        variables in vec(("GAVEL__[A-Z0-9_]{0,24}", ".{0,20}"), 0..4),
        known in "GAVEL__(LIMITS__LOCK_TIMEOUT_MS|DEPLOYMENT|SHARD|SHARD__A0__TAG|LOG__LEVEL)",
        value in "-?[0-9a-z=,\\[\\]]{0,20}",
    ) {
        let mut variables = variables;
        variables.push((known, value));
        let text = document(&shards, &Limits::default()).to_string();
        check(read(&text, variables));
    }
}
