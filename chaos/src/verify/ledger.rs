//! Gavel's own tables, read by direct SQL: decisions beside the branches that they name, and the
//! recorded outcome of every txid.

use std::collections::{BTreeMap, BTreeSet};

use gavel_protocol::Txid;

use crate::bank::{DATABASE, TxidOutcome};
use crate::error::ChaosError;
use crate::replicas::Primary;
use crate::verdict::{Invariant, Violation};

type Row = Vec<Option<String>>;

/// The rows of all servers. Tags are text, as in the rows: 1 for the first server, and so on.
#[derive(Debug, Default, Clone)]
pub(super) struct Ledger {
    decisions: Vec<Decision>,
    /// Batch and tag of the shard that shows it.
    applied: BTreeSet<(String, String)>,
    outcomes: Vec<Record>,
}

#[derive(Debug, Clone)]
struct Decision {
    batch: String,
    home: String,
    is_commit: bool,
    /// Tags of the shards whose branches it commits.
    shards: BTreeSet<String>,
}

#[derive(Debug, Clone)]
struct Record {
    txid: String,
    home: String,
    outcome: String,
}

/// What was compared, and what is wrong.
#[derive(Debug)]
pub(super) struct Compared {
    pub(super) commits: usize,
    pub(super) branches: usize,
    pub(super) violations: Vec<Violation>,
}

impl Ledger {
    pub(super) fn read(servers: &[Primary<'_>]) -> Result<Self, ChaosError> {
        let mut ledger = Self::default();
        for (index, server) in servers.iter().enumerate() {
            let tag = (index + 1).to_string();
            let decisions =
                "SELECT batch, outcome, array_to_string(shards, ',') FROM gavel.decision";
            for row in server.sql(DATABASE, decisions)? {
                ledger.note_decision(&tag, row);
            }
            for row in server.sql(DATABASE, "SELECT batch FROM gavel.branch")? {
                ledger.applied.insert((text(&row, 0), tag.clone()));
            }
            for row in server.sql(DATABASE, "SELECT txid, outcome FROM gavel.transaction")? {
                ledger.note_outcome(&tag, row);
            }
        }
        Ok(ledger)
    }

    fn note_decision(&mut self, home: &str, row: Row) {
        let shards = text(&row, 2);
        let shards = shards.split(',').filter(|tag| !tag.is_empty());
        self.decisions.push(Decision {
            batch: text(&row, 0),
            home: home.to_owned(),
            is_commit: text(&row, 1) == "commit",
            shards: shards.map(str::to_owned).collect(),
        });
    }

    fn note_outcome(&mut self, home: &str, row: Row) {
        self.outcomes.push(Record {
            txid: text(&row, 0),
            home: home.to_owned(),
            outcome: text(&row, 1),
        });
    }

    /// The recorded outcome of every txid; what [`Ledger::strange_records`] finds is left out.
    pub(super) fn outcomes(&self) -> BTreeMap<Txid, TxidOutcome> {
        let read = |record: &Record| read_record(record).ok();
        self.outcomes.iter().filter_map(read).collect()
    }

    /// R9: a txid is recorded by the shard that it names, and nowhere else.
    pub(super) fn strange_records(&self) -> Vec<Violation> {
        let strange = |record| {
            let what = read_record(record).err()?;
            let invariant = Invariant::Stability;
            Some(Violation { invariant, what })
        };
        self.outcomes.iter().filter_map(strange).collect()
    }

    /// Compares in both directions: every branch that was applied has a decision that names it, and
    /// every decision to commit has all of its branches. The batches in `known` are broken already.
    pub(super) fn compare(&self, known: &BTreeSet<String>) -> Compared {
        let mut violations = Vec::new();
        let mut broken = |what: String| {
            violations.push(Violation {
                invariant: Invariant::Atomicity,
                what,
            });
        };
        let mut decided: BTreeMap<&str, &Decision> = BTreeMap::new();
        for decision in &self.decisions {
            let batch = decision.batch.as_str();
            if let Some(other) = decided.insert(batch, decision) {
                let (one, two) = (&other.home, &decision.home);
                broken(format!(
                    "batch {batch} is decided on shards {one} and {two}"
                ));
            }
        }
        let commits = || decided.values().filter(|decision| decision.is_commit);
        for (batch, tag) in self
            .applied
            .iter()
            .filter(|(batch, _)| !known.contains(batch))
        {
            let what = match decided.get(batch.as_str()) {
                Some(decision) if !decision.is_commit => "although it was aborted",
                Some(decision) if !decision.shards.contains(tag) => {
                    "and its decision does not name that shard"
                }
                Some(_) => continue,
                None => "without a decision",
            };
            broken(format!("batch {batch} is applied on shard {tag}, {what}"));
        }
        for decision in commits().filter(|decision| !known.contains(&decision.batch)) {
            let batch = &decision.batch;
            let is_applied =
                |tag: &&String| self.applied.contains(&(batch.clone(), (*tag).clone()));
            for tag in decision.shards.iter().filter(|tag| !is_applied(tag)) {
                broken(format!(
                    "batch {batch} is committed, and not applied on shard {tag}"
                ));
            }
        }
        Compared {
            commits: commits().count(),
            branches: self.applied.len(),
            violations,
        }
    }
}

/// What a row says, or what is wrong with it.
fn read_record(record: &Record) -> Result<(Txid, TxidOutcome), String> {
    let Record {
        txid,
        home,
        outcome,
    } = record;
    let parsed: Txid = txid
        .parse()
        .map_err(|error| format!("shard {home} has recorded {txid:?}: {error}"))?;
    let named = parsed.home();
    if named.to_string() != *home {
        return Err(format!(
            "shard {home} has recorded {txid}, whose home is {named}"
        ));
    }
    let outcome = match outcome.as_str() {
        "committed" => TxidOutcome::Committed,
        "aborted" => TxidOutcome::Aborted,
        other => return Err(format!("the outcome of {txid} is {other:?}")),
    };
    Ok((parsed, outcome))
}

fn text(row: &Row, column: usize) -> String {
    row.get(column).cloned().flatten().unwrap_or_default()
}

#[cfg(test)]
mod tests;
