//! The table at the end, and whether everything is as it must be.

use std::process::ExitCode;
use std::time::Duration;

use serde::Serialize;

use super::kills::Blow;
use super::load::Done;
use super::show::{Show, money, thousands};
use super::verify::Found;

/// What the demo found. Amounts are minor units.
#[derive(Debug, Clone, Serialize)]
pub struct DemoReport {
    committed: u64,
    aborted: u64,
    retried: u64,
    in_doubt_answers: u64,
    refused_answers: u64,
    kills: Vec<Blow>,
    longest_in_doubt_s: f64,
    money_before: i128,
    #[serde(flatten)]
    found: Found,
    problems: Vec<String>,
    took_s: f64,
}

impl DemoReport {
    pub(super) fn new(
        done: Done,
        found: Found,
        kills: Vec<Blow>,
        money_before: i128,
        longest_in_doubt: Duration,
        took: Duration,
    ) -> Self {
        let mut problems = problems(&found, money_before);
        problems.extend(kills.iter().flat_map(|blow| blow.problems.iter().cloned()));
        if done.committed.is_empty() {
            problems.push("no transfer was committed at all".to_owned());
        }
        Self {
            committed: done.committed.len() as u64,
            aborted: done.aborted.len() as u64,
            retried: done.retried,
            in_doubt_answers: done.in_doubt_answers,
            refused_answers: done.refused_answers,
            kills,
            longest_in_doubt_s: longest_in_doubt.as_secs_f64(),
            money_before,
            found,
            problems,
            took_s: took.as_secs_f64(),
        }
    }

    /// Whether no money is missing, every acknowledged transfer is on both sides, and nothing is
    /// left prepared.
    #[must_use]
    pub fn is_right(&self) -> bool {
        self.problems.is_empty()
    }

    /// Success if everything is right.
    #[must_use]
    pub fn exit_code(&self) -> ExitCode {
        ExitCode::from(u8::from(!self.is_right()))
    }

    pub(super) fn print(&self, show: &Show) {
        show.line("");
        for (name, value, remark) in self.rows() {
            show.line(&format!("  {name:<32}{value:>14}  {remark}"));
        }
        show.line("");
        for problem in &self.problems {
            show.bad(&format!("WRONG: {problem}"));
        }
        if self.is_right() {
            show.good(
                "Nothing was lost: every transfer that was called done is in both databases, \
                 every other one is in neither, and the sum of money is what it was.",
            );
        }
    }

    fn rows(&self) -> Vec<(String, String, String)> {
        let count = |name: &str, number, remark: &str| {
            (name.to_owned(), thousands(number), remark.to_owned())
        };
        let other = |name: &str, value, remark: &str| (name.to_owned(), value, remark.to_owned());
        let found = &self.found;
        let mut rows = vec![
            count("transfers committed", self.committed, ""),
            count("transfers aborted", self.aborted, "not enough money"),
            count("transfers retried", self.retried, "same key, same transfer"),
            count("answers \"not known yet\"", self.in_doubt_answers, ""),
            count("answers \"not now\" or none", self.refused_answers, ""),
            count("kills survived", self.kills.len() as u64, ""),
        ];
        for (index, blow) in self.kills.iter().enumerate() {
            let name = format!("  kill {} resolved after", index + 1);
            let after = format!("{:.1} s", blow.resolved_after_s);
            rows.push((name, after, blow.remark()));
        }
        let longest = format!("{:.1} s", self.longest_in_doubt_s);
        rows.push(other(
            "longest in doubt",
            longest,
            "measured on the databases",
        ));
        rows.push(other("money before", money(self.money_before), "by SQL"));
        rows.push(other("money after", money(found.money_after), "by SQL"));
        rows.extend([
            count(
                "acknowledged transfers missing",
                found.acknowledged_missing,
                "",
            ),
            count("transfers on one side only", found.half, ""),
            count("branches left prepared", found.left_prepared, ""),
        ]);
        rows.push(other("the demo took", format!("{:.0} s", self.took_s), ""));
        rows
    }
}

impl Blow {
    /// What the resolution waited for.
    fn remark(&self) -> String {
        let branches = self.branches_left;
        match self.back_after_s {
            Some(back) => format!("{branches} in doubt; back up after {back:.1} s"),
            None => format!("{branches} in doubt; without a coordinator"),
        }
    }
}

fn problems(found: &Found, money_before: i128) -> Vec<String> {
    let checks = [
        (
            found.money_after != money_before,
            "the sum of money has changed".to_owned(),
        ),
        (
            found.acknowledged_missing > 0,
            format!(
                "{} acknowledged transfers are not complete",
                found.acknowledged_missing
            ),
        ),
        (
            found.half > 0,
            format!("{} transfers are on one side only", found.half),
        ),
        (
            found.aborted_but_done > 0,
            format!(
                "{} transfers were called aborted, and are there",
                found.aborted_but_done
            ),
        ),
        (
            found.done_but_never_told > 0,
            format!(
                "{} transfers are there that no client was told of",
                found.done_but_never_told
            ),
        ),
        (
            found.unexplained_balances > 0,
            format!(
                "{} balances are not explained by transfers",
                found.unexplained_balances
            ),
        ),
        (
            found.left_prepared > 0,
            format!("{} branches are still prepared", found.left_prepared),
        ),
        (
            found.damage > 0,
            format!("{} rows in gavel.damage", found.damage),
        ),
    ];
    checks
        .into_iter()
        .filter_map(|(is_wrong, problem)| is_wrong.then_some(problem))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(found: Found) -> DemoReport {
        let done = Done {
            committed: vec![super::super::load::Acknowledged {
                txid: uuid::Uuid::nil(),
                from: uuid::Uuid::nil(),
                to: uuid::Uuid::nil(),
                amount: 1,
            }],
            ..Done::default()
        };
        DemoReport::new(done, found, Vec::new(), 100, Duration::ZERO, Duration::ZERO)
    }

    #[test]
    fn anything_that_is_off_fails_the_demo() {
        let right = Found {
            money_after: 100,
            ..Found::default()
        };
        assert!(report(right.clone()).is_right());
        let wrong: [fn(&mut Found); 8] = [
            |found| found.money_after = 99,
            |found| found.acknowledged_missing = 1,
            |found| found.half = 1,
            |found| found.aborted_but_done = 1,
            |found| found.done_but_never_told = 1,
            |found| found.unexplained_balances = 1,
            |found| found.left_prepared = 1,
            |found| found.damage = 1,
        ];
        for (index, spoil) in wrong.iter().enumerate() {
            let mut found = right.clone();
            spoil(&mut found);
            assert!(!report(found).is_right(), "check {index}");
        }
    }
}
