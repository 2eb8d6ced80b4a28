//! What is wrong with the services, as a coordinator sees them.

use gavel_client::Standing;

use super::finding::{Finding, Severity};
use crate::args::ClientArgs;
use crate::commands::check::with_causes;
use crate::commands::client::{connect, endpoints};
use crate::config::{Config, ShardState};

/// Asks the coordinators that the command line or the configuration names, each by itself: a
/// client would go on to the next.
pub(super) async fn look(config: &Config, client: &ClientArgs) -> Vec<Finding> {
    let mut findings = Vec::new();
    for endpoint in endpoints(Some(config), client) {
        let own = ClientArgs {
            endpoint: vec![endpoint.clone()],
            ..client.clone()
        };
        findings.extend(ask(config, &own, &endpoint).await);
    }
    findings
}

async fn ask(config: &Config, client: &ClientArgs, endpoint: &str) -> Vec<Finding> {
    let critical = |place: &str, code, what: String, why, fix: &str| Finding {
        severity: Severity::Critical,
        place: place.to_owned(),
        code,
        what,
        why,
        fix: fix.to_owned(),
    };
    let gavel = match connect(Some(config), client).await {
        Ok(gavel) => gavel,
        Err(error) => {
            return vec![critical(
                endpoint,
                "coordinator_unreachable",
                format!("{error:#}"),
                "clients have one coordinator less, or none",
                "start it (`gavel coordinator`), or name another with --endpoint",
            )];
        }
    };
    let mut findings = match gavel.standing().await {
        Ok(standing) => compare(config, endpoint, &standing),
        // The next question is refused as well, and told of there.
        Err(_) => Vec::new(),
    };
    findings.extend(match gavel.in_doubt().await {
        Err(error) => vec![critical(
            endpoint,
            "coordinator_refuses",
            with_causes(&error),
            "what it sees of the shards could not be asked",
            "use an operator's token (--token-file) or certificate",
        )],
        Ok(shards) => {
            let wrong = shards.into_iter().filter_map(|shard| {
                let why_not = shard.branches.err()?;
                Some(critical(
                    shard.shard.as_str(),
                    "participant_out_of_sight",
                    format!("{endpoint} cannot ask it: {why_not}"),
                    "transactions over this shard are refused there, or in doubt",
                    "is its participant running? Is `participant` of the shard its address, and \
                     can the coordinator's machine reach it?",
                ))
            });
            wrong.collect()
        }
    });
    findings
}

/// Compares the shards that a coordinator works with with those of this configuration, and says
/// whether it takes transactions.
fn compare(config: &Config, endpoint: &str, standing: &Standing) -> Vec<Finding> {
    let known = |tag| standing.shards.iter().find(|shard| shard.tag == tag);
    let ours = config.shard.iter().filter_map(|shard| {
        let name = &shard.name;
        let is_draining = shard.state == ShardState::Draining;
        match known(shard.tag) {
            None => Some(format!("{endpoint} does not know shard {name}")),
            Some(there) if there.is_draining != is_draining => Some(match is_draining {
                true => {
                    format!("{endpoint} takes transactions for shard {name}, which is draining")
                }
                false => format!("{endpoint} takes nothing for shard {name}: it is draining there"),
            }),
            Some(_) => None,
        }
    });
    let is_gone = |tag| config.shard.iter().all(|shard| shard.tag != tag);
    let theirs = standing.shards.iter().filter(|shard| is_gone(shard.tag));
    let theirs = theirs.map(|shard| format!("{endpoint} still has a shard with tag {}", shard.tag));
    let differ = |what| Finding {
        severity: Severity::Warning,
        place: endpoint.to_owned(),
        code: "shards_differ",
        what,
        why: "it works with another list of shards than this configuration has",
        fix: "is its file the same? It takes a change over within five seconds, or says in its \
              log why it does not"
            .to_owned(),
    };
    let mut findings: Vec<Finding> = ours.chain(theirs).map(differ).collect();
    if standing.is_draining {
        findings.push(Finding {
            severity: Severity::Warning,
            place: endpoint.to_owned(),
            code: "coordinator_drains",
            what: "takes nothing new, by an operator's wish; its audit file says whose".to_owned(),
            why: "clients have one coordinator less, or none",
            fix: format!("gavel resume --endpoint {endpoint} --because TEXT"),
        });
    }
    findings
}
