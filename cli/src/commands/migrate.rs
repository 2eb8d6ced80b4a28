//! `gavel migrate`: brings the schema of the shards up to date.

use anyhow::Context as _;
use gavel_migrations::{IdentityClaim, Report};
use gavel_tls::DatabaseUrl;
use serde_json::json;

use crate::args::MigrateArgs;
use crate::config::{Config, ConfigError, Problem, ShardConfig};
use crate::exit::Exit;
use crate::output::Output;

/// Migrates one shard or all of them; goes on with the others when one fails.
pub(crate) async fn run(
    config: &Config,
    args: &MigrateArgs,
    output: Output,
) -> anyhow::Result<Exit> {
    let shards: Vec<&ShardConfig> = match &args.shard {
        Some(name) => vec![super::shard::named(config, name)?],
        None => config.shard.iter().collect(),
    };
    let (mut lines, mut documents, mut failed) = (Vec::new(), Vec::new(), false);
    for shard in shards {
        let name = &shard.name;
        match migrate(config, shard, args.admin_url.as_deref()).await {
            Ok(report) => {
                lines.push(describe(shard, &report));
                documents.push(json!({
                    "shard": name.as_str(),
                    "version_before": report.version_before,
                    "version": report.version,
                    "incarnation": report.incarnation,
                    "partition_days_created": report.partition_days_created,
                }));
            }
            Err(error) => {
                failed = true;
                lines.push(format!("{name}: {error:#}"));
                documents.push(json!({"shard": name.as_str(), "error": format!("{error:#}")}));
            }
        }
    }
    output.result(lines.join("\n"), &json!({"shards": documents}));
    Ok(if failed { Exit::Failure } else { Exit::Ok })
}

/// Migrates one shard as the role of `admin_url`, or of the configuration's.
pub(crate) async fn migrate(
    config: &Config,
    shard: &ShardConfig,
    admin_url: Option<&str>,
) -> anyhow::Result<Report> {
    let admin_url = admin_url
        .or(shard.admin_url.as_ref().map(|url| url.expose()))
        .ok_or_else(|| missing_admin_url(shard))?;
    let claim = IdentityClaim {
        deployment: config.deployment.to_string(),
        shard: shard.name.to_string(),
        tag: shard.tag.0,
        participant_role: participant_role(shard)?,
    };
    Ok(gavel_migrations::migrate(admin_url, &claim).await?)
}

/// The participant's login role is whom `database_url` names.
fn participant_role(shard: &ShardConfig) -> anyhow::Result<Option<String>> {
    let parsed = DatabaseUrl::parse(shard.database_url().expose())
        .context("database_url is not a usable address")?;
    Ok(parsed.config.get_user().map(str::to_owned))
}

/// Nobody said who may migrate.
fn missing_admin_url(shard: &ShardConfig) -> ConfigError {
    ConfigError {
        file: "configuration".into(),
        problems: vec![Problem {
            key: format!("admin_url of shard {}", shard.name),
            what: "is missing".to_owned(),
            fix: "add admin_url or admin_url_file to its [[shard]] table, or name the shard with \
                  --shard and give --admin-url"
                .to_owned(),
        }],
    }
}

fn describe(shard: &ShardConfig, report: &Report) -> String {
    let name = &shard.name;
    let incarnation = report.incarnation;
    let version = report.version;
    match report.version_before {
        Some(before) if before == version => {
            format!("{name}: schema {version}, up to date (incarnation {incarnation})")
        }
        Some(before) => {
            format!("{name}: schema {before} -> {version} (incarnation {incarnation})")
        }
        None => format!("{name}: schema {version} installed (incarnation {incarnation})"),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn an_encrypted_address_names_its_role_too() {
        let text = "deployment = \"bank\"\n[[shard]]\nname = \"alpha\"\ntag = 1\ndatabase_url = \
                    \"postgres://teller:secret@db.example/bank?sslmode=verify-full&sslrootcert=/ca.pem\"\n";
        let config =
            crate::config::parse(Path::new("gavel.toml"), text, []).expect("a configuration");
        let role = participant_role(&config.shard[0]).expect("an address");
        assert_eq!(role.as_deref(), Some("teller"));
    }
}
