//! Rules between keys, which types cannot express.

use std::collections::{BTreeMap, BTreeSet};

use gavel_coordinator::api::Authenticator;
use gavel_protocol::ShardMap;
use gavel_tls::DatabaseUrl;

use super::{Config, Problem, Secret, ShardConfig, TracingConfig};
use crate::commands::check::with_causes;

/// Everything that is wrong with a configuration whose types fit.
pub(super) fn problems(config: &Config) -> Vec<Problem> {
    let mut found = Vec::new();
    shards(config, &mut found);
    databases(config, &mut found);
    participants(config, &mut found);
    registry(config, &mut found);
    statements(config, &mut found);
    principals(config, &mut found);
    if let Err(error) = config.limits.validate() {
        let key = format!("limits.{}", error.field);
        found.push(problem(&key, "breaks a rule".to_owned(), error.rule));
    }
    tracing(config, &mut found);
    if let Err(error) = tracing_subscriber::EnvFilter::try_new(&config.log.level) {
        found.push(problem(
            "log.level",
            error.to_string(),
            "use error, warn, info, debug or trace, or directives such as info,gavel_participant=debug",
        ));
    }
    found
}

fn tracing(config: &Config, found: &mut Vec<Problem>) {
    let TracingConfig { endpoint, roots } = &config.tracing;
    if !(0.0..=1.0).contains(roots) {
        let what = format!("{roots} is no share");
        found.push(problem("tracing.roots", what, "use 0 to 1, such as 0.01"));
    }
    let Some(endpoint) = endpoint else {
        return;
    };
    let key = "tracing.endpoint";
    let address = endpoint.parse::<http::Uri>().ok();
    let host = address.as_ref().and_then(|address| address.host());
    let scheme = address.as_ref().and_then(|address| address.scheme_str());
    match (scheme, host) {
        (Some("https"), Some(_)) => {}
        (Some("http"), Some(host)) if config.allow_insecure_network || is_loopback(host) => {}
        (Some("http"), Some(_)) => found.push(problem(
            key,
            format!("`{endpoint}` would be sent to in the clear"),
            "use https, a collector on this machine, or allow_insecure_network",
        )),
        _ => found.push(problem(
            key,
            format!("`{endpoint}` is no address of a collector"),
            "use http://127.0.0.1:4317 or the like",
        )),
    }
}

fn is_loopback(host: &str) -> bool {
    let address = host.trim_matches(['[', ']']).parse::<std::net::IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

fn problem(key: &str, what: String, fix: &str) -> Problem {
    Problem {
        key: key.to_owned(),
        what,
        fix: fix.to_owned(),
    }
}

fn shards(config: &Config, found: &mut Vec<Problem>) {
    let shards = config
        .shard
        .iter()
        .map(|shard| (shard.name.clone(), shard.tag));
    if let Err(error) = ShardMap::new(shards) {
        found.push(problem(
            "shard",
            error.to_string(),
            "correct the [[shard]] tables",
        ));
    }
}

fn databases(config: &Config, found: &mut Vec<Problem>) {
    let mut places = BTreeMap::new();
    for (index, shard) in config.shard.iter().enumerate() {
        sources(index, shard, found);
        for (name, url) in [
            ("database_url", &shard.database_url),
            ("admin_url", &shard.admin_url),
        ] {
            let Some(url) = url else { continue };
            let key = format!("shard[{index}].{name}");
            let place = match place(url, config.allow_insecure_network) {
                Ok(place) => place,
                Err(what) => {
                    let fix = "use postgres://role:password@host:port/database";
                    found.push(problem(&key, what, fix));
                    continue;
                }
            };
            if let Some(other) = places.insert((name, place), &shard.name) {
                let what = format!("the same database as shard `{other}`");
                found.push(problem(
                    &key,
                    what,
                    "give every shard a database of its own",
                ));
            }
        }
    }
}

fn sources(index: usize, shard: &ShardConfig, found: &mut Vec<Problem>) {
    let name = &shard.name;
    if shard.database_url.is_none() && shard.database_url_file.is_none() {
        found.push(problem(
            &format!("shard[{index}]"),
            format!("shard `{name}` has no database"),
            "add database_url = \"postgres://…\", or database_url_file",
        ));
    }
}

/// Host, port and database of an address. Two addresses of one place are one database.
fn place(url: &Secret, allow_insecure_network: bool) -> Result<String, String> {
    let text = url.expose();
    if !text.starts_with("postgres://") && !text.starts_with("postgresql://") {
        return Err("not a postgres:// address".to_owned());
    }
    let url = DatabaseUrl::parse(text).map_err(|error| format!("not a usable address: {error}"))?;
    if url.is_exposed() && !allow_insecure_network {
        return Err(
            "passwords and rows would cross the network in the clear: use sslmode=verify-full, \
             or accept it with allow_insecure_network"
                .to_owned(),
        );
    }
    let parsed = url.config;
    let database = parsed.get_dbname().ok_or("the address names no database")?;
    if parsed.get_user().is_none() {
        return Err("the address names no role".to_owned());
    }
    if parsed.get_hosts().is_empty() {
        return Err("the address names no host".to_owned());
    }
    Ok(format!(
        "{:?} {:?} {database}",
        parsed.get_hosts(),
        parsed.get_ports()
    ))
}

fn participants(config: &Config, found: &mut Vec<Problem>) {
    let mut addresses = BTreeMap::new();
    for (index, shard) in config.shard.iter().enumerate() {
        let Some(address) = &shard.participant else {
            continue;
        };
        if shard.is_announced() {
            continue;
        }
        let key = format!("shard[{index}].participant");
        let (scheme, fix) = match config.tls {
            Some(_) => ("https", "use https://host:port, as there is [tls]"),
            None => ("http", "use http://host:port, or configure [tls]"),
        };
        match address.parse::<http::Uri>() {
            Ok(uri) if uri.scheme_str() == Some(scheme) && uri.port().is_some() => {
                if let Some(other) = addresses.insert(address.trim_end_matches('/'), &shard.name) {
                    let what = format!("the same address as shard `{other}`");
                    let fix = "every shard has a participant of its own";
                    found.push(problem(&key, what, fix));
                }
            }
            Ok(_) => found.push(problem(&key, format!("`{address}` is not enough"), fix)),
            Err(error) => found.push(problem(&key, format!("`{address}`: {error}"), fix)),
        }
    }
}

fn registry(config: &Config, found: &mut Vec<Problem>) {
    let registry = &config.registry;
    if let Some(shard) = config.shard.iter().find(|shard| shard.is_announced()) {
        let missing = |key: &str, fix| {
            let what = format!("is empty, and shard `{}` is announced", shard.name);
            problem(key, what, fix)
        };
        if registry.hosts.is_empty() {
            let fix = "add where participants may be, such as hosts = [\"10.1.0.0/16\"]";
            found.push(missing("registry.hosts", fix));
        }
        if registry.coordinators.is_empty() {
            let fix = "add the coordinators' addresses, such as [\"https://one:7400\"]";
            found.push(missing("registry.coordinators", fix));
        }
        if config.tls.is_none() && config.allow_insecure_network {
            found.push(problem(
                &format!("shard `{}`", shard.name),
                "whoever reaches a coordinator could say that its participant is somewhere else"
                    .to_owned(),
                "configure [tls], so that only a participant can, or write its address down",
            ));
        }
    }
    let (scheme, fix) = match config.tls {
        Some(_) => ("https", "use https://host:port, as there is [tls]"),
        None => ("http", "use http://host:port, or configure [tls]"),
    };
    let coordinators = registry.coordinators.iter();
    let coordinators = coordinators.map(|address| ("registry.coordinators", address));
    let announce = registry.announce.iter();
    for (key, address) in coordinators.chain(announce.map(|address| ("registry.announce", address)))
    {
        let uri: Option<http::Uri> = address.parse().ok();
        let is_address =
            uri.is_some_and(|uri| uri.scheme_str() == Some(scheme) && uri.port().is_some());
        if !is_address {
            found.push(problem(key, format!("`{address}` is not enough"), fix));
        }
    }
}

fn statements(config: &Config, found: &mut Vec<Problem>) {
    let mut names = BTreeSet::new();
    for (index, statement) in config.statement.iter().enumerate() {
        if !names.insert(&statement.name) {
            found.push(problem(
                &format!("statement[{index}].name"),
                format!("two statements are called `{}`", statement.name),
                "names must differ",
            ));
        }
        if let Err(refused) = gavel_protocol::sql::classify(&statement.sql) {
            found.push(problem(
                &format!("statement[{index}].sql"),
                format!("`{}` would be refused: {refused}", statement.name),
                "change the statement",
            ));
        }
    }
}

fn principals(config: &Config, found: &mut Vec<Problem>) {
    let mut names = BTreeSet::new();
    for (index, principal) in config.principal.iter().enumerate() {
        if !names.insert(&principal.name) {
            found.push(problem(
                &format!("principal[{index}].name"),
                format!("two principals are called `{}`", principal.name),
                "names must differ",
            ));
        }
        let permitted = principal.shards.iter().flatten();
        for shard in permitted.filter(|shard| config.shard(shard).is_none()) {
            found.push(problem(
                &format!("principal[{index}].shards"),
                format!("there is no shard `{shard}`"),
                "correct the name",
            ));
        }
        let permitted = principal.statements.iter().flatten();
        for name in permitted.filter(|name| config.statement.iter().all(|one| one.name != **name)) {
            found.push(problem(
                &format!("principal[{index}].statements"),
                format!("there is no statement `{name}`"),
                "correct the name, or add a [[statement]] with it",
            ));
        }
    }
    if config.tls.is_none() {
        for (index, principal) in config.principal.iter().enumerate() {
            if principal.token_file.is_none() {
                found.push(problem(
                    &format!("principal[{index}].token_file"),
                    format!("nothing says who is `{}`", principal.name),
                    "add a token_file, or configure [tls]: then a certificate will do",
                ));
            }
        }
    }
    if let Err(error) = Authenticator::from_files(&config.token_sources()) {
        let fix = "correct the path (relative ones start at the configuration's folder) or the \
                   token; `openssl rand -base64 32` makes one";
        found.push(problem("principal", with_causes(&error), fix));
    }
}
