//! What a run has shown, for people and for programs.
//!
//! The page is one file: its data is JSON inside it, a script inside it draws the charts, and its
//! own policy forbids it to load anything else.

pub mod terminal;

use serde_json::{Value, json};

use crate::nemesis;
use crate::proxy::Step;
use crate::run::{Report, Round};
use crate::verdict::Invariant;

const PAGE: &str = include_str!("page.html");
/// Where the data goes in the page.
const PLACE: &str = "/*DATA*/";

/// The report as a document of its own.
#[must_use]
pub fn html(report: &Report) -> String {
    // A script element ends at the first `</`, whatever is around it.
    let data = data(report).to_string().replace('<', "\\u003c");
    PAGE.replace(PLACE, &data)
}

/// The result, without what was seen over time.
#[must_use]
pub fn summary(report: &Report) -> Value {
    let rounds: Vec<Value> = report
        .rounds
        .iter()
        .map(|round| {
            json!({
                "batch_members": round.batch_members,
                "largest_batch": round.largest_batch,
                "seconds": round.seconds,
                "told": round.samples.last(),
                "steps": round.steps,
                "kept": round.kept,
                "verdicts": round.verdicts,
            })
        })
        .collect();
    json!({
        "conclusion": report.conclusion(),
        "missed": report.missed(),
        "skipped": skipped(report),
        "hits": hits(report),
        "rounds": rounds,
    })
}

fn data(report: &Report) -> Value {
    let nemeses: Vec<Value> = report
        .nemeses
        .iter()
        .filter_map(|name| nemesis::by_name(name))
        .map(|nemesis| json!({"name": nemesis.name, "about": nemesis.about}))
        .collect();
    let steps = Step::ALL.map(|step| json!({"step": step, "meaning": step.meaning()}));
    let invariants = Invariant::ALL
        .map(|invariant| json!({"id": invariant.to_string(), "name": invariant.name()}));
    json!({
        "conclusion": report.conclusion(),
        "missed": report.missed(),
        "skipped": skipped(report),
        "nemeses": nemeses,
        "steps": steps,
        "invariants": invariants,
        "hits": hits(report),
        "rounds": report.rounds.iter().map(round).collect::<Vec<_>>(),
    })
}

fn hits(report: &Report) -> Vec<Value> {
    let hits = report.hits().into_iter();
    hits.map(|((nemesis, step), count)| json!({"nemesis": nemesis, "step": step, "count": count}))
        .collect()
}

fn skipped(report: &Report) -> Vec<Value> {
    let skipped = report.skipped.iter();
    skipped
        .map(|(nemesis, why)| json!({"nemesis": nemesis, "why": why}))
        .collect()
}

fn round(round: &Round) -> Value {
    let mut value = json!(round);
    let blows = value["blows"].as_array_mut().into_iter().flatten();
    for (blow, struck) in blows.zip(&round.blows) {
        blow["kind"] = nemesis::by_name(struck.nemesis)
            .map_or("wire", |nemesis| nemesis.kind().as_str())
            .into();
    }
    value
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::nemesis::Blow;
    use crate::pulse::{Group, Kept};
    use crate::run::Conclusion;
    use crate::verdict::{Verdict, Violation};

    fn report(violation: Option<&str>, hit: bool) -> Report {
        let verdict = |invariant| Verdict {
            invariant,
            evidence: "12 of them".to_owned(),
            lacking: String::new(),
            violations: violation
                .map(|what| Violation {
                    invariant,
                    what: what.to_owned(),
                })
                .into_iter()
                .collect(),
        };
        let blow = Blow {
            nemesis: "cut",
            step: Step::Decided,
            hit,
            target: "server of alpha".to_owned(),
            from_ms: 100,
            struck_ms: 200,
            until_ms: 900,
            reach: Default::default(),
        };
        Report {
            nemeses: vec!["cut"],
            skipped: vec![("clock", "no library".to_owned())],
            rounds: vec![Round {
                batch_members: [500, 1],
                largest_batch: 7,
                seconds: 1.0,
                blows: vec![blow],
                steps: BTreeMap::from([("S4b".to_owned(), 3)]),
                samples: vec![],
                latencies: vec![],
                kept: Some(Kept {
                    faults: BTreeMap::from([("cut", Group::default())]),
                    ..Kept::default()
                }),
                verdicts: Invariant::ALL.map(verdict).to_vec(),
            }],
        }
    }

    #[test]
    fn a_run_holds_only_if_every_fault_struck() {
        assert_eq!(report(None, true).conclusion(), Conclusion::Held);
        assert_eq!(report(None, false).conclusion(), Conclusion::NotRun);
        assert_eq!(report(None, false).missed(), ["cut"]);
        assert_eq!(report(Some("x"), true).conclusion(), Conclusion::Violated);
        let mut not_compared = report(None, true);
        not_compared.rounds[0].verdicts[3].evidence.clear();
        assert_eq!(not_compared.conclusion(), Conclusion::NotRun);
    }

    #[test]
    fn the_page_is_whole_and_loads_nothing() {
        let page = html(&report(Some("</script><b>"), true));
        assert!(!page.contains(PLACE));
        assert!(
            !page.contains("</script><b>"),
            "data cannot end its element"
        );
        assert_eq!(page.matches("</script>").count(), 2);
        let elsewhere = page.replace("http://www.w3.org/2000/svg", "");
        for never in ["http://", "https://", "src=", "@import", "url(", "href="] {
            assert!(!elsewhere.contains(never), "{never}");
        }
        let json = page.split("id=\"data\">").nth(1).expect("the data");
        let json = json.split("</script>").next().expect("its end");
        let data: Value = serde_json::from_str(json).expect("JSON");
        assert_eq!(data["conclusion"], "violated");
        assert_eq!(data["hits"][0]["step"], "S4b");
        assert_eq!(data["rounds"][0]["blows"][0]["kind"], "wire");
    }
}
