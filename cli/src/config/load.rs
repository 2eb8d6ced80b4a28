//! Reads the file, applies the environment, and reports every problem with a way out.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use toml::Table;

use super::environment::{self, Override};
use super::{Config, Secret, check};

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Problem {
    /// The key, such as `shard[1].tag`, or the environment variable.
    pub key: String,
    /// What is wrong with it.
    pub what: String,
    /// What to do.
    pub fix: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        write!(f, "{}; {}", self.what, self.fix)
    }
}

/// A configuration that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", .problems.iter().map(|each| format!("{}: {each}", .file.display())).collect::<Vec<_>>().join("\n"))]
pub struct ConfigError {
    /// The file.
    pub file: PathBuf,
    /// What is wrong, all of it.
    pub problems: Vec<Problem>,
}

/// Loads `file` with the overrides of this process's environment.
///
/// # Errors
/// [`ConfigError`] with everything that is wrong.
pub fn load(file: &Path) -> Result<Config, ConfigError> {
    let text = fs::read_to_string(file).map_err(|error| {
        let fix = "write one (docs/configuration.md), or name it with --config or GAVEL_CONFIG";
        one(file, "", format!("cannot be read: {error}"), fix)
    })?;
    // A variable that is not UTF-8 cannot be one of ours.
    let variables = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    parse(file, &text, variables)
}

/// As [`load`], from `text`; `file` is for messages and for the folder of relative paths.
///
/// # Errors
/// As [`load`].
pub fn parse(
    file: &Path,
    text: &str,
    variables: impl IntoIterator<Item = (String, String)>,
) -> Result<Config, ConfigError> {
    let fail = |problems| ConfigError {
        file: file.to_path_buf(),
        problems,
    };
    let mut table: Table = text.parse().map_err(|error: toml::de::Error| {
        one(
            file,
            "",
            error.to_string().trim_end().to_owned(),
            "correct the TOML",
        )
    })?;
    let (overrides, problems) = environment::apply(&mut table, variables);
    if !problems.is_empty() {
        return Err(fail(problems));
    }
    let mut config: Config = serde_path_to_error::deserialize(table)
        .map_err(|error| fail(vec![misfit(&error, &overrides)]))?;
    let folder = file.parent().unwrap_or(Path::new(""));
    let mut problems = read_secrets(&mut config, folder);
    problems.extend(check::problems(&config));
    if problems.is_empty() {
        Ok(config)
    } else {
        Err(fail(problems))
    }
}

fn one(file: &Path, key: &str, what: String, fix: &str) -> ConfigError {
    ConfigError {
        file: file.to_path_buf(),
        problems: vec![Problem {
            key: key.to_owned(),
            what,
            fix: fix.to_owned(),
        }],
    }
}

fn misfit(error: &serde_path_to_error::Error<toml::de::Error>, overrides: &[Override]) -> Problem {
    let key = error.path().to_string();
    let from = overrides.iter().find(|each| each.key == key);
    let fix = match from {
        Some(each) => format!("correct the environment variable {}", each.variable),
        None => "correct it; docs/configuration.md lists every key".to_owned(),
    };
    Problem {
        key: if key == "." { String::new() } else { key },
        what: error.inner().message().trim().to_owned(),
        fix,
    }
}

/// Fills addresses that are kept in files of their own. Relative paths start at `folder`.
fn read_secrets(config: &mut Config, folder: &Path) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut read = |key: String, file: &Path, into: &mut Option<Secret>| match fs::read_to_string(
        folder.join(file),
    ) {
        Ok(text) if !text.trim().is_empty() => *into = Some(Secret::new(text.trim())),
        Ok(_) => problems.push(Problem {
            key,
            what: format!("{} is empty", file.display()),
            fix: "write the secret into it".to_owned(),
        }),
        Err(error) => problems.push(Problem {
            key,
            what: format!("{} cannot be read: {error}", file.display()),
            fix: "correct the path (relative ones start at the configuration's folder) or its \
                      permissions"
                .to_owned(),
        }),
    };
    for (index, shard) in config.shard.iter_mut().enumerate() {
        if let (Some(file), None) = (&shard.database_url_file, &shard.database_url) {
            let key = format!("shard[{index}].database_url_file");
            read(key, file, &mut shard.database_url);
        }
        if let (Some(file), None) = (&shard.admin_url_file, &shard.admin_url) {
            let key = format!("shard[{index}].admin_url_file");
            read(key, file, &mut shard.admin_url);
        }
    }
    for principal in &mut config.principal {
        if let Some(file) = &mut principal.token_file {
            *file = folder.join(&*file);
        }
    }
    if let Some(file) = &mut config.audit.file {
        *file = folder.join(&*file);
    }
    if let Some(tls) = &mut config.tls {
        for file in [
            &mut tls.ca_file,
            &mut tls.certificate_file,
            &mut tls.key_file,
        ] {
            *file = folder.join(&*file);
        }
    }
    problems
}
