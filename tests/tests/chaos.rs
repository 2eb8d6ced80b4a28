//! A minute of faults at every step, and some failovers, with the judgement of every invariant.

use std::time::Duration;

use gavel_chaos::nemesis::{self, Nemesis};
use gavel_chaos::report::terminal::Timeline;
use gavel_chaos::run::{Conclusion, Options, run, temporary_folder};
use gavel_chaos::workload::Crowd;
use gavel_tests::batch_members;
use gavel_tests::fleet::gavel_binary;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn chaos_for_a_minute_breaks_no_invariant() {
    assert_it_holds(nemesis::usual(), Duration::from_secs(60)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn chaos_with_failovers_to_synchronous_standbys_loses_nothing() {
    let failover = nemesis::by_name("failover").expect("its name");
    assert_it_holds(vec![failover], Duration::from_secs(20)).await;
}

async fn assert_it_holds(nemeses: Vec<Nemesis>, time: Duration) {
    // What it leaves behind when it fails is the evidence.
    let folder = temporary_folder().expect("make a folder");
    let options = Options {
        time,
        nemeses,
        folder: folder.clone(),
        executable: gavel_binary(),
        crowd: Crowd {
            bank: 8,
            locked: 4,
            plain: 4,
        },
        batch_members: batch_members().into_iter().collect(),
        stop: Default::default(),
    };
    let mut timeline = Timeline::default();
    let report = run(&options, |progress| {
        for line in timeline.lines(&progress) {
            println!("{line}");
        }
    });
    let report = report.await.expect("the run can be carried out");
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
