//! The judgement at the end of a round: everything that was told, seen and left behind.

mod ledger;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use gavel_client::Status;
use gavel_protocol::Txid;

use crate::arena::{Arena, BANK, DATA_SHARDS, People};
use crate::bank::{self, Books, DATABASE, Mark, Recorded, Statement, TxidOutcome};
use crate::error::ChaosError;
use crate::history::{Action, Event, Leg, Phase, Told, Workload};
use crate::lists;
use crate::pulse::Kept;
use crate::replicas::Primary;
use crate::verdict::{Invariant, Verdict, Violation};
use crate::workload::{final_reads, shard_of};

use ledger::Ledger;

/// What the end of the round itself has shown.
#[derive(Debug, Clone)]
pub struct Ending {
    /// From the end of the last fault until nothing was prepared; `None` if it did not happen
    /// within the bound.
    pub at_rest_after: Option<Duration>,
    /// Transfers that nobody disturbed.
    pub calm: usize,
    /// Those of them that did not commit, and what they were told.
    pub calm_failures: Vec<String>,
    /// What nemeses have seen with their own eyes.
    pub seen: Seen,
    /// How those fared whom faults do not touch; `None` if each fault of the run touches everybody.
    pub kept: Option<Kept>,
}

/// What a nemesis has judged by itself, because only it knows what should have happened.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// What was compared.
    pub evidence: Vec<(Invariant, String)>,
    /// What was wrong.
    pub violations: Vec<Violation>,
}

/// Judges all invariants.
///
/// # Errors
/// A server cannot be asked.
pub async fn verdicts(
    arena: &Arc<Arena>,
    mut events: Vec<Event>,
    ending: Ending,
) -> Result<Vec<Verdict>, ChaosError> {
    let told = statements(&events);
    let unanswered: Vec<Txid> = told
        .iter()
        .filter(|each| matches!(each.told, None | Some(Told::InDoubt(_))))
        .map(|each| each.txid)
        .collect();
    let statuses = statuses(arena, &unanswered).await?;
    let judged = Arc::clone(arena);
    let judging = tokio::task::spawn_blocking(move || {
        let servers = &judged.primaries();
        let mut judge = Judge::default();
        let people = judged.people.lock().clone();
        let ledger = Ledger::read(servers)?;
        judge.books(servers, &ledger, (&told, &statuses), &people)?;
        judge.ledger(&ledger, &people);
        judge.wire(&judged);
        judge.ending(&ending);
        judge.untouched(ending.kept.as_ref());
        judge.neighbours(&events);
        final_reads(servers, &mut events)?;
        judge.lists(&events);
        Ok(judge.verdicts())
    });
    judging.await.map_err(ChaosError::Panicked)?
}

/// Violations and evidence, as they come in.
#[derive(Debug, Default)]
struct Judge {
    violations: Vec<Violation>,
    evidence: BTreeMap<Invariant, Vec<String>>,
    lacking: BTreeMap<Invariant, String>,
}

impl Judge {
    fn books(
        &mut self,
        servers: &[Primary<'_>],
        ledger: &Ledger,
        (told, statuses): (&[Statement], &BTreeMap<Txid, TxidOutcome>),
        people: &People,
    ) -> Result<(), ChaosError> {
        let with_data = &servers[..DATA_SHARDS];
        let mut books = Books::read(with_data, BANK)?;
        let prepared = "SELECT gid FROM pg_prepared_xacts";
        let left = servers[DATA_SHARDS].sql(DATABASE, prepared)?;
        books
            .prepared
            .extend(left.into_iter().filter_map(|mut row| row.remove(0)));
        let mut recorded: BTreeMap<Txid, Recorded> = BTreeMap::new();
        for each in told {
            let status = statuses.get(&each.txid).copied();
            let row = TxidOutcome::None;
            recorded.insert(each.txid, Recorded { row, status });
        }
        for (txid, row) in ledger.outcomes() {
            if let Some(known) = recorded.get_mut(&txid) {
                known.row = row;
            }
        }
        // These must be there; any other is a violation.
        let is_expected = |damage: &String| {
            let batch = damage.split(' ').next().unwrap_or_default();
            people.damaged.contains(batch)
        };
        let reported: BTreeSet<String> = books
            .damage
            .iter()
            .filter(|damage| is_expected(damage))
            .filter_map(|damage| damage.split(' ').next().map(str::to_owned))
            .collect();
        books.damage.retain(|damage| !is_expected(damage));
        for batch in people.damaged.difference(&reported) {
            let what = format!("batch {batch} was ended by hand, and no damage was reported");
            self.violations.push(Violation {
                invariant: Invariant::Atomicity,
                what,
            });
        }
        let money = BANK.money(DATA_SHARDS);
        self.violations
            .extend(books.violations(money, &people.foreign));
        self.violations.extend(bank::judge(told, &recorded, &books));
        self.violations.extend(bank::strangers(told, &books));
        let marks: usize = books.marks.values().map(Vec::len).sum();
        let there = books.marks.len();
        self.saw(
            Invariant::Atomicity,
            format!("{there} transfers, {marks} marks, {money} in money"),
        );
        self.saw(Invariant::Durability, format!("{} answers", told.len()));
        let unknown = statuses.len();
        self.saw(
            Invariant::Durability,
            format!("{unknown} of them unknown, and asked again"),
        );
        self.saw(
            Invariant::Stability,
            format!("{} answers beside {} rows", told.len(), recorded.len()),
        );
        self.saw(
            Invariant::ExactlyOnce,
            format!("{marks} marks beside {} balances", BANK.accounts * 2),
        );
        Ok(())
    }

    fn ledger(&mut self, ledger: &Ledger, people: &People) {
        let compared = ledger.compare(&people.damaged);
        self.violations.extend(compared.violations);
        self.violations.extend(ledger.strange_records());
        let (commits, branches) = (compared.commits, compared.branches);
        self.saw(
            Invariant::Atomicity,
            format!("{branches} branches beside {commits} decisions"),
        );
    }

    fn wire(&mut self, arena: &Arena) {
        self.violations.extend(arena.witness.violations());
        let compared = arena.witness.compared();
        if compared.votes > 0 {
            let (votes, decisions) = (compared.votes, compared.decisions);
            let evidence = format!("{votes} votes beside {decisions} decisions on the wire");
            self.saw(Invariant::Unanimity, evidence);
        }
        if compared.commits > 0 {
            let evidence = format!("{} COMMIT PREPARED on the wire", compared.commits);
            self.saw(Invariant::WriteOrder, evidence);
        }
    }

    fn ending(&mut self, ending: &Ending) {
        self.violations
            .extend(ending.seen.violations.iter().cloned());
        for (invariant, evidence) in &ending.seen.evidence {
            self.saw(*invariant, evidence.clone());
        }
        match ending.at_rest_after {
            Some(time) => {
                let evidence = format!("at rest {:.1} s after the last fault", time.as_secs_f32());
                self.saw(Invariant::NoOrphans, evidence);
            }
            None => self.violations.push(Violation {
                invariant: Invariant::NoOrphans,
                what: "branches were still prepared when the time to resolve them was over"
                    .to_owned(),
            }),
        }
        for what in &ending.calm_failures {
            self.violations.push(Violation {
                invariant: Invariant::Progress,
                what: format!("nothing was in its way, and it did not commit: {what}"),
            });
        }
        if ending.calm > 0 {
            let evidence = format!(
                "{} transfers after the faults, all undisturbed",
                ending.calm
            );
            self.saw(Invariant::Progress, evidence);
        }
    }

    /// I7, for those whom faults do not touch.
    fn untouched(&mut self, kept: Option<&Kept>) {
        let Some(kept) = kept else {
            return self.saw(
                Invariant::Progress,
                "each of these faults touches everybody".to_owned(),
            );
        };
        self.violations.extend(kept.violations.iter().cloned());
        match kept.evidence() {
            Some(evidence) => self.saw(Invariant::Progress, evidence),
            None => drop(self.lacking.insert(Invariant::Progress, kept.lacking())),
        }
    }

    /// I10: who could commit is never aborted, whatever its neighbours do; who could not never
    /// commits.
    fn neighbours(&mut self, events: &[Event]) {
        let (mut healthy, mut doomed) = (0, 0);
        for event in events {
            let (Some(told), Action::Transfer(_)) = (&event.told, &event.action) else {
                continue;
            };
            let wrong = match (event.workload, told) {
                (Workload::Bank, Told::Aborted(why)) => {
                    Some(format!("aborted, and was healthy: {why}"))
                }
                (Workload::Doomed, Told::Committed) => Some("committed without a payee".to_owned()),
                _ => None,
            };
            healthy += usize::from(event.workload == Workload::Bank);
            doomed += usize::from(event.workload == Workload::Doomed);
            if let Some(what) = wrong {
                self.violations.push(Violation {
                    invariant: Invariant::Independence,
                    what: format!("{} was {what}", event.txid),
                });
            }
        }
        if healthy > 0 && doomed > 0 {
            let evidence = format!("{healthy} healthy transfers beside {doomed} that must fail");
            self.saw(Invariant::Independence, evidence);
        }
    }

    fn lists(&mut self, events: &[Event]) {
        for promise in lists::promises(DATA_SHARDS) {
            let checked = lists::check(events, promise, shard_of);
            self.violations.extend(checked.violations);
            if promise.shard.is_none() && checked.transactions > 1 {
                let evidence = format!("{} {:?}", checked.transactions, promise.isolation);
                self.saw(Invariant::Isolation, evidence);
            }
        }
    }

    fn saw(&mut self, invariant: Invariant, evidence: String) {
        self.evidence.entry(invariant).or_default().push(evidence);
    }

    fn verdicts(mut self) -> Vec<Verdict> {
        let verdict = |invariant| Verdict {
            invariant,
            evidence: self
                .evidence
                .remove(&invariant)
                .unwrap_or_default()
                .join("; "),
            lacking: self.lacking.remove(&invariant).unwrap_or_default(),
            violations: self
                .violations
                .iter()
                .filter(|violation| violation.invariant == invariant)
                .cloned()
                .collect(),
        };
        Invariant::ALL.into_iter().map(verdict).collect()
    }
}

/// What was told about every transfer, and of those that never heard anything.
fn statements(events: &[Event]) -> Vec<Statement> {
    let mut open: BTreeMap<u64, Statement> = BTreeMap::new();
    let mut all = Vec::new();
    for event in events {
        let Action::Transfer(legs) = &event.action else {
            continue;
        };
        if event.phase == Phase::Invoke {
            let statement = Statement {
                txid: event.txid,
                marks: Some(marks(legs)),
                told: None,
            };
            open.insert(event.process, statement);
        } else if let Some(mut statement) = open.remove(&event.process) {
            statement.told.clone_from(&event.told);
            all.push(statement);
        }
    }
    all.extend(open.into_values());
    all
}

fn marks(legs: &[Leg]) -> Vec<Mark> {
    let mut marks: Vec<Mark> = legs
        .iter()
        .map(|leg| Mark {
            shard: leg.shard,
            account: leg.account,
            amount: leg.amount,
        })
        .collect();
    marks.sort();
    marks
}

/// What Gavel says of those that got no answer.
async fn statuses(
    arena: &Arena,
    txids: &[Txid],
) -> Result<BTreeMap<Txid, TxidOutcome>, ChaosError> {
    let gavel = arena.client(&[0, 1]).await?;
    let mut statuses = BTreeMap::new();
    for txid in txids {
        let status = gavel.status(*txid).await;
        let outcome = match status {
            Ok(Status::Committed) => TxidOutcome::Committed,
            Ok(Status::Aborted(_)) => TxidOutcome::Aborted,
            Ok(Status::NoneYet | Status::TooOld) => TxidOutcome::None,
            Err(error) => return Err(ChaosError::NeverWorked(format!("no status: {error}"))),
        };
        statuses.insert(*txid, outcome);
    }
    Ok(statuses)
}
