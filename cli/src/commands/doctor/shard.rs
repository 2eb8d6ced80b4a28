//! Asks a shard for everything that may be wrong with it.

use gavel_participant::damage;
use gavel_participant::start_check;

use super::database;
use super::finding::{Finding, Severity};
use super::judge::Judge;
use crate::commands::check::{pool, with_causes};
use crate::config::{Config, ShardConfig};
use crate::service::expected;

/// Looks at one shard.
pub(super) async fn look(config: &Config, shard: &ShardConfig) -> Vec<Finding> {
    let place = shard.name.to_string();
    let broken = |code, what: String, fix: &str| Finding {
        severity: Severity::Critical,
        place: place.clone(),
        code,
        what,
        why: "transactions over this shard are refused",
        fix: fix.to_owned(),
    };
    let pool = match pool(config, shard) {
        Ok(pool) => pool,
        Err(error) => {
            let what = format!("{error:#}");
            return vec![broken("bad_address", what, "correct database_url")];
        }
    };
    let mut findings = Vec::new();
    match start_check::check(&pool, &expected(config, shard)).await {
        // Its message has the fix.
        Err(error) => {
            let fix = "as it says; `gavel check` tries again";
            return vec![broken(error.code(), with_causes(&error), fix)];
        }
        Ok(checked) => findings.extend(checked.warnings.iter().map(|warning| Finding {
            severity: Severity::Warning,
            place: place.clone(),
            code: warning.code(),
            what: warning.to_string(),
            why: "",
            fix: "as it says".to_owned(),
        })),
    }
    let asked = async {
        let session = pool.session().await?;
        let vitals = database::vitals(&session).await?;
        let prepared = database::prepared(&session).await?;
        let holders = database::holders(&session).await?;
        drop(session);
        Ok::<_, gavel_participant::service_pool::ServiceError>((
            vitals,
            prepared,
            holders,
            damage::list(&pool).await?,
        ))
    };
    match asked.await {
        Err(error) => {
            let fix = "look at the server's log, and ask again";
            findings.push(broken("shard_unreachable", error.detail(), fix));
        }
        Ok((vitals, prepared, holders, damage)) => {
            let judge = Judge {
                place: &place,
                deployment: &config.deployment,
                ahead_max: config.limits.txid_ahead_ms_max as f64 / 1000.0,
                vitals: &vitals,
            };
            findings.extend(judge.all(&prepared, &holders));
            let open = damage.iter().filter(|one| one.acknowledged.is_none());
            findings.extend(judge.damage(open.count()));
        }
    }
    findings
}
