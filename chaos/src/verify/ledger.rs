//! Gavel's own tables, read by direct SQL: decisions beside the branches that they name.

use std::collections::{BTreeMap, BTreeSet};

use gavel_protocol::Txid;

use crate::bank::{DATABASE, TxidOutcome};
use crate::error::ChaosError;
use crate::replicas::Primary;
use crate::verdict::{Invariant, Violation};

/// What was compared, and what is wrong.
pub(super) struct Compared {
    pub(super) commits: usize,
    pub(super) branches: usize,
    pub(super) violations: Vec<Violation>,
}

/// The recorded outcome of every txid.
pub(super) fn outcomes(servers: &[Primary<'_>]) -> Result<Vec<(Txid, TxidOutcome)>, ChaosError> {
    let mut outcomes = Vec::new();
    for server in servers {
        for row in server.sql(DATABASE, "SELECT txid, outcome FROM gavel.transaction")? {
            let txid = row[0].as_deref().and_then(|txid| txid.parse().ok());
            let outcome = match row[1].as_deref() {
                Some("committed") => TxidOutcome::Committed,
                _ => TxidOutcome::Aborted,
            };
            outcomes.extend(txid.map(|txid| (txid, outcome)));
        }
    }
    Ok(outcomes)
}

/// Compares in both directions: every branch that was applied has a decision that names it, and
/// every decision to commit has all of its branches. The batches in `known` are broken already.
pub(super) fn compare(
    servers: &[Primary<'_>],
    known: &BTreeSet<String>,
) -> Result<Compared, ChaosError> {
    let mut decided: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut applied: BTreeSet<(String, String)> = BTreeSet::new();
    for (index, server) in servers.iter().enumerate() {
        let tag = (index + 1).to_string();
        let commits = "SELECT batch, array_to_string(shards, ',') FROM gavel.decision
                       WHERE outcome = 'commit'";
        for row in server.sql(DATABASE, commits)? {
            let shards = row[1].as_deref().unwrap_or_default();
            let shards = shards.split(',').filter(|tag| !tag.is_empty());
            let batch = row[0].clone().unwrap_or_default();
            decided.insert(batch, shards.map(str::to_owned).collect());
        }
        for row in server.sql(DATABASE, "SELECT batch FROM gavel.branch")? {
            applied.insert((row[0].clone().unwrap_or_default(), tag.clone()));
        }
    }
    let mut violations = Vec::new();
    let mut broken = |what: String| {
        violations.push(Violation {
            invariant: Invariant::Atomicity,
            what,
        });
    };
    for (batch, tag) in applied.iter().filter(|(batch, _)| !known.contains(batch)) {
        if !decided
            .get(batch)
            .is_some_and(|shards| shards.contains(tag))
        {
            broken(format!(
                "batch {batch} is applied on shard {tag} without a decision for it"
            ));
        }
    }
    for (batch, shards) in decided.iter().filter(|(batch, _)| !known.contains(*batch)) {
        for tag in shards {
            if !applied.contains(&(batch.clone(), tag.clone())) {
                broken(format!(
                    "batch {batch} is committed, and not applied on shard {tag}"
                ));
            }
        }
    }
    Ok(Compared {
        commits: decided.len(),
        branches: applied.len(),
        violations,
    })
}
