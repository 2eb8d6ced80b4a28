//! A minute of faults at every step, and the judgement of every invariant.

use std::time::Duration;

use gavel_chaos::nemesis;
use gavel_chaos::run::{Conclusion, Options, Progress, run};
use gavel_chaos::workload::Crowd;
use gavel_tests::fleet::gavel_binary;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn chaos_for_a_minute_breaks_no_invariant() {
    let seconds = std::env::var("CHAOS_SECONDS").ok();
    let seconds = seconds.and_then(|text| text.parse().ok()).unwrap_or(60);
    let only = std::env::var("CHAOS_NEMESES").unwrap_or_default();
    let chosen = |name: &str| only.is_empty() || only.split(',').any(|each| each == name);
    let folder = tempfile::Builder::new()
        .prefix("gavel-chaos-")
        .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o755))
        .tempdir()
        .expect("make a folder");
    // What it leaves behind when it fails is the evidence.
    let folder = folder.keep();
    let options = Options {
        time: Duration::from_secs(seconds),
        nemeses: nemesis::ALL
            .iter()
            .copied()
            .filter(|nemesis| chosen(nemesis.name))
            .collect(),
        folder: folder.clone(),
        executable: gavel_binary(),
        crowd: Crowd {
            bank: 8,
            locked: 4,
            plain: 4,
        },
    };
    let report = run(&options, |progress| match progress {
        Progress::Blow(blow) => println!(
            "{:>8} ms {:18} {:3} {} {}",
            blow.from_ms,
            blow.nemesis,
            blow.step.to_string(),
            if blow.hit { "hit " } else { "MISS" },
            blow.target
        ),
        Progress::Sample(sample) => println!("{sample:?}"),
        _ => {}
    })
    .await
    .expect("the run can be carried out");
    for verdict in report.rounds.iter().flat_map(|round| &round.verdicts) {
        println!(
            "{} {}: {}",
            verdict.invariant,
            verdict.invariant.name(),
            verdict.evidence
        );
        for violation in &verdict.violations {
            println!("    {violation}");
        }
    }
    println!("steps passed: {:?}", report.rounds[0].steps);
    let missed = report.missed();
    let conclusion = report.conclusion();
    assert_eq!(
        conclusion,
        Conclusion::Held,
        "missed: {missed:?}; evidence in {}",
        folder.display()
    );
    std::fs::remove_dir_all(&folder).expect("remove the folder");
}
