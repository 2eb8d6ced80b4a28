//! A configuration is used or refused with a reason; what is used keeps what later code relies
//! on. Lines that start with `GAVEL__` are overrides from the environment.

#![no_main]

use std::path::Path;

use gavel_cli::config::parse;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    // Secrets are read from the files that are named: not from devices, which may never end.
    if text.contains("dev") || text.contains("proc") || text.contains("\\u") || text.contains("\\U")
    {
        return;
    }
    let is_override = |line: &&str| line.starts_with("GAVEL__");
    let variables = text.lines().filter(is_override).filter_map(|line| {
        let (name, value) = line.split_once('=')?;
        Some((name.to_owned(), value.to_owned()))
    });
    let file: Vec<_> = text.lines().filter(|line| !is_override(line)).collect();
    match parse(
        Path::new("/nonexistent/gavel.toml"),
        &file.join("\n"),
        variables,
    ) {
        Ok(config) => {
            assert_eq!(config.limits.validate(), Ok(()));
            assert_eq!(config.shard_map().iter().count(), config.shard.len());
            for shard in &config.shard {
                assert!(shard.database_url().expose().starts_with("postgres"));
            }
            let told = format!("{config:?}");
            assert!(told.contains("[redacted]"));
        }
        Err(error) => {
            assert!(!error.problems.is_empty());
            assert!(error.problems.iter().all(|problem| !problem.fix.is_empty()));
        }
    }
});
