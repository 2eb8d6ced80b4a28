//! Compares what clients were told with what the servers show.

use std::collections::{BTreeMap, BTreeSet};

use gavel_protocol::Txid;

use super::{Books, Mark};
use crate::history::Told;
use crate::verdict::{Invariant, Violation};

/// The outcome of a txid, where one is recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TxidOutcome {
    /// A row `committed`, or the status of that name.
    Committed,
    /// A row `aborted`, or the status of that name.
    Aborted,
    /// No row.
    None,
}

/// What is known of a txid's outcome, besides what was told at the time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Recorded {
    /// The row at home, read by SQL.
    pub row: TxidOutcome,
    /// What Gavel says when asked at the end, where that was asked.
    pub status: Option<TxidOutcome>,
}

/// One answer that a client got. A txid that was sent twice has two.
#[derive(Debug, Clone)]
pub struct Statement {
    /// The transaction.
    pub txid: Txid,
    /// What it should leave behind if it commits, where the checker knows that: sorted.
    pub marks: Option<Vec<Mark>>,
    /// The answer; `None` if the client died before it came.
    pub told: Option<Told>,
}

/// Judges I1, I2, I4 and I5 over everything that was told.
#[must_use]
pub fn judge(
    told: &[Statement],
    recorded: &BTreeMap<Txid, Recorded>,
    books: &Books,
) -> Vec<Violation> {
    let mut found = Vec::new();
    let mut by_txid: BTreeMap<Txid, Vec<&Statement>> = BTreeMap::new();
    for each in told {
        by_txid.entry(each.txid).or_default().push(each);
    }
    for (txid, statements) in &by_txid {
        let record = recorded.get(txid);
        judge_txid(*txid, statements, record, books, &mut found);
    }
    found
}

/// Marks of transactions that are not among `told`, which must be everything that was submitted.
#[must_use]
pub fn strangers(told: &[Statement], books: &Books) -> Vec<Violation> {
    let known: BTreeSet<String> = told.iter().map(|each| each.txid.to_string()).collect();
    let strange = books.marks.keys().filter(|txid| !known.contains(*txid));
    strange
        .map(|txid| {
            let what = format!("{txid} left marks and was never submitted");
            violation(Invariant::ExactlyOnce, what)
        })
        .collect()
}

fn judge_txid(
    txid: Txid,
    statements: &[&Statement],
    recorded: Option<&Recorded>,
    books: &Books,
    found: &mut Vec<Violation>,
) {
    let marks = books
        .marks
        .get(&txid.to_string())
        .map_or(&[][..], Vec::as_slice);
    let is_there = !marks.is_empty();
    for statement in statements {
        if let Some(expected) = &statement.marks
            && is_there
            && marks != expected
        {
            found.push(compare_marks(txid, marks, expected));
        }
        match &statement.told {
            Some(Told::Committed) if !is_there => {
                let what = format!("{txid} was acknowledged and is lost");
                found.push(violation(Invariant::Durability, what));
            }
            Some(Told::Aborted(_)) if is_there => {
                let what = format!("{txid} was told as aborted and is there");
                found.push(violation(Invariant::Durability, what));
            }
            // A refusal speaks of its own submission only, so another one may have committed.
            Some(Told::Refused(why)) if is_there && statements.len() == 1 => {
                let what = format!("{txid} was refused ({why}) and is there");
                found.push(violation(Invariant::Durability, what));
            }
            _ => {}
        }
    }
    let says = |told: &Told| {
        statements
            .iter()
            .any(|each| each.told.as_ref() == Some(told))
    };
    let aborted = statements
        .iter()
        .any(|each| matches!(each.told, Some(Told::Aborted(_))));
    let committed = says(&Told::Committed);
    if committed && aborted {
        let what = format!("{txid} was told as committed and as aborted");
        found.push(violation(Invariant::Stability, what));
    }
    let Some(Recorded { row, status }) = recorded else {
        return;
    };
    for (source, outcome) in [("the row at home", Some(*row)), ("the status", *status)] {
        let Some(outcome) = outcome else { continue };
        if (outcome == TxidOutcome::Committed) != is_there {
            let what = format!("{txid}: {source} says {outcome:?}, and its marks say {is_there}");
            found.push(violation(Invariant::Durability, what));
        }
        let contradicts = (committed && outcome != TxidOutcome::Committed)
            || (aborted && outcome != TxidOutcome::Aborted);
        if contradicts {
            let what = format!("{txid}: {source} says {outcome:?}, a client was told otherwise");
            found.push(violation(Invariant::Stability, what));
        }
    }
}

/// Fewer marks than there should be break atomicity; others mean that something ran twice.
fn compare_marks(txid: Txid, marks: &[Mark], expected: &[Mark]) -> Violation {
    let what = format!("{txid} left {marks:?} instead of {expected:?}");
    if expected.iter().all(|each| marks.contains(each)) {
        violation(Invariant::ExactlyOnce, what)
    } else {
        violation(Invariant::Atomicity, what)
    }
}

fn violation(invariant: Invariant, what: String) -> Violation {
    Violation { invariant, what }
}

#[cfg(test)]
mod tests {
    use gavel_protocol::ShardTag;

    use super::*;

    fn mark(shard: usize) -> Mark {
        let amount = if shard == 0 { -1 } else { 1 };
        Mark {
            shard,
            account: 3,
            amount,
        }
    }

    fn txid() -> Txid {
        Txid::mint(1, ShardTag(1), [7; 16])
    }

    /// Judges one transfer over shards 0 and 1.
    fn judged(
        told: &[Told],
        left: &[usize],
        row: TxidOutcome,
        status: Option<TxidOutcome>,
    ) -> String {
        let mut books = Books::default();
        if !left.is_empty() {
            let marks = left.iter().map(|shard| mark(*shard)).collect();
            books.marks.insert(txid().to_string(), marks);
        }
        let told: Vec<Statement> = told
            .iter()
            .map(|told| Statement {
                txid: txid(),
                marks: Some(vec![mark(0), mark(1)]),
                told: Some(told.clone()),
            })
            .collect();
        let recorded = BTreeMap::from([(txid(), Recorded { row, status })]);
        let found = judge(&told, &recorded, &books);
        let names: Vec<String> = found
            .iter()
            .map(|each| each.invariant.to_string())
            .collect();
        names.join(" ")
    }

    fn no(what: &str) -> String {
        what.to_owned()
    }

    #[test]
    fn sound_books_pass() {
        let doubt = Told::InDoubt(no("lost"));
        let (yes, none) = (TxidOutcome::Committed, TxidOutcome::None);
        assert_eq!(judged(&[Told::Committed], &[0, 1], yes, None), "");
        assert_eq!(judged(&[Told::Refused(no("x"))], &[], none, None), "");
        let aborted = Told::Aborted(no("guard_failed"));
        assert_eq!(judged(&[aborted], &[], TxidOutcome::Aborted, None), "");
        assert_eq!(
            judged(std::slice::from_ref(&doubt), &[0, 1], yes, Some(yes)),
            ""
        );
        assert_eq!(
            judged(std::slice::from_ref(&doubt), &[], none, Some(none)),
            ""
        );
        // One of two submissions was refused, the other one committed.
        let both = [Told::Refused(no("contended")), Told::Committed];
        assert_eq!(judged(&both, &[0, 1], yes, None), "");
    }

    #[test]
    fn each_lie_is_found() {
        let (yes, no_row) = (TxidOutcome::Committed, TxidOutcome::None);
        let doubt = || Told::InDoubt(no("lost"));
        let aborted = || Told::Aborted(no("guard_failed"));
        // On one shard only; twice on one; lost; there although aborted or refused.
        assert_eq!(judged(&[doubt()], &[0], yes, None), "I1");
        assert_eq!(judged(&[Told::Committed], &[0, 1, 1], yes, None), "I5");
        assert_eq!(judged(&[Told::Committed], &[], yes, None), "I4 I4");
        assert_eq!(
            judged(&[aborted()], &[0, 1], TxidOutcome::Aborted, None),
            "I4 I4"
        );
        assert_eq!(judged(&[Told::Refused(no("x"))], &[0, 1], yes, None), "I4");
        // The status of an unknown one is wrong, in both directions.
        assert_eq!(judged(&[doubt()], &[0, 1], yes, Some(no_row)), "I4");
        assert_eq!(judged(&[doubt()], &[], no_row, Some(yes)), "I4");
        // Two answers that exclude each other.
        assert_eq!(
            judged(&[Told::Committed, aborted()], &[0, 1], yes, None),
            "I4 I2 I2"
        );
        // A committed one whose record says otherwise.
        assert_eq!(judged(&[Told::Committed], &[0, 1], no_row, None), "I4 I2");
    }

    #[test]
    fn marks_that_nobody_submitted_are_found() {
        let mut books = Books::default();
        books
            .marks
            .insert(txid().to_string(), vec![mark(0), mark(1)]);
        let found = strangers(&[], &books);
        assert_eq!(found.len(), 1, "{found:?}");
    }
}
