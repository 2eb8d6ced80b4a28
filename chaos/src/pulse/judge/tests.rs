//! Lives of streams that are known to be good or bad.

use std::collections::BTreeSet;

use super::*;
use crate::nemesis::Reach;
use crate::proxy::Step;
use crate::pulse::Stream;

const CALM_UNTIL: u64 = 3_000;
const END: u64 = 120_000;
const SHARD: usize = 0;

/// One stream that a fault on shard 0 touches, and one that it does not.
fn two_streams(at_ms: [Vec<u64>; 2]) -> Beats {
    let on = |shard| Stream {
        coordinator: 0,
        home: shard,
        shards: vec![shard],
    };
    Beats {
        streams: vec![on(SHARD), on(1)],
        names: vec!["near".to_owned(), "far".to_owned()],
        at_ms: at_ms.to_vec(),
        from_ms: 0,
        until_ms: END,
    }
}

/// Beats five times a second, but not where `is_silent` says.
fn steady(is_silent: impl Fn(u64) -> bool) -> Vec<u64> {
    (0..END).step_by(200).filter(|at| !is_silent(*at)).collect()
}

fn blow(from_ms: u64, length_ms: u64, reach: Reach) -> Blow {
    Blow {
        nemesis: "pause-postgres",
        step: Step::Work,
        hit: true,
        target: "server of alpha".to_owned(),
        from_ms: from_ms - 500,
        struck_ms: from_ms,
        until_ms: from_ms + length_ms,
        reach,
    }
}

fn shard(shard: usize) -> Reach {
    Reach {
        shards: BTreeSet::from([shard]),
        ..Reach::default()
    }
}

/// Fourteen faults of shard 0, three seconds each, one every six seconds.
fn faults() -> Vec<Blow> {
    (1..=14)
        .map(|number| blow(number * 6_000, 3_000, shard(SHARD)))
        .collect()
}

fn is_under_fault(at: u64) -> bool {
    faults()
        .iter()
        .any(|blow| (blow.struck_ms..blow.until_ms).contains(&at))
}

/// The share of what was expected.
fn share(group: &Group) -> f64 {
    group.kept().expect("enough")
}

fn what(kept: &Kept) -> Vec<&str> {
    assert!(
        kept.violations
            .iter()
            .all(|each| each.invariant == Invariant::Progress)
    );
    kept.violations
        .iter()
        .map(|each| each.what.as_str())
        .collect()
}

#[test]
fn who_is_touched_may_stop_and_the_others_go_on() {
    let beats = two_streams([steady(is_under_fault), steady(|_| false)]);
    let kept = judge(&beats, &faults());
    assert_eq!(what(&kept), Vec::<&str>::new());
    assert_eq!((kept.blows, kept.all.stretches), (14, 14));
    assert!(share(&kept.all) > 0.9, "{kept:?}");
    assert!(
        share(&kept.touched) < 0.1,
        "a fault is seen in whom it touches: {kept:?}"
    );
    assert!(
        kept.evidence()
            .expect("enough")
            .starts_with("14 faults, 14 stretches of streams that")
    );
}

#[test]
fn a_stream_that_stops_under_faults_of_others_is_rejected() {
    let beats = two_streams([steady(is_under_fault), steady(is_under_fault)]);
    let kept = judge(&beats, &faults());
    // Three seconds each are within what one silence may last: the shares find it.
    assert_eq!(
        what(&kept),
        [
            "streams that faults did not touch: 0 % of the calm rate in 14 stretches",
            "streams that `pause-postgres` did not touch: 0 % of the calm rate in 14 stretches",
            "far, under faults that did not touch it: 0 % of the calm rate in 14 stretches",
        ]
    );
}

#[test]
fn a_stream_that_crawls_is_rejected() {
    let two_of_five = |at: u64| is_under_fault(at) && at / 200 % 5 > 1;
    let beats = two_streams([steady(is_under_fault), steady(two_of_five)]);
    let kept = judge(&beats, &faults());
    assert!(what(&kept)[0].contains("40 %"), "{kept:?}");
    let four_of_five = |at: u64| at > CALM_UNTIL && at / 200 % 5 > 3;
    let beats = two_streams([steady(is_under_fault), steady(four_of_five)]);
    assert_eq!(
        what(&judge(&beats, &faults())),
        Vec::<&str>::new(),
        "a busy machine"
    );
}

#[test]
fn one_long_silence_is_rejected_whatever_the_share_is() {
    let mut faults = faults();
    faults[6].until_ms += 5_000;
    let silent = faults[6].struck_ms + 400..faults[6].until_ms - 400;
    let beats = two_streams([steady(is_under_fault), steady(|at| silent.contains(&at))]);
    let kept = judge(&beats, &faults);
    assert!(share(&kept.all) > 0.8);
    let [found] = what(&kept)[..] else {
        panic!("{kept:?}");
    };
    assert!(found.starts_with("far: no commit for 7."), "{found}");
    assert!(
        found.ends_with("while pause-postgres struck server of alpha"),
        "{found}"
    );
}

#[test]
fn one_stream_of_many_cannot_hide() {
    let mut beats = two_streams([steady(|_| false), steady(|_| false)]);
    for name in ["c", "d", "e"] {
        beats.streams.push(beats.streams[1].clone());
        beats.names.push(name.to_owned());
        beats.at_ms.push(steady(|_| false));
    }
    beats.at_ms[2] = steady(is_under_fault);
    let kept = judge(&beats, &faults());
    assert!(share(&kept.all) > KEPT_MIN);
    assert_eq!(what(&kept).len(), 1, "{kept:?}");
    assert!(what(&kept)[0].starts_with("c, under faults"));
}

#[test]
fn too_little_is_no_evidence() {
    let beats = two_streams([steady(is_under_fault), steady(|_| false)]);
    let few = judge(&beats, &faults()[..5]);
    assert_eq!((few.all.stretches, few.evidence()), (5, None));
    assert!(few.lacking().contains(": 5 faults, 5 stretches, "));
    let still = two_streams([steady(|_| false), steady(is_under_fault)]);
    let unjudged = judge(&still, &faults()[..5]);
    assert_eq!(what(&unjudged), Vec::<&str>::new(), "nor is it a violation");
    let missed: Vec<Blow> = faults()
        .into_iter()
        .map(|blow| Blow { hit: false, ..blow })
        .collect();
    assert_eq!(judge(&beats, &missed).all.stretches, 0);
    let everybody = Reach {
        everybody: true,
        ..Reach::default()
    };
    let all: Vec<Blow> = faults()
        .into_iter()
        .map(|blow| Blow {
            reach: everybody.clone(),
            ..blow
        })
        .collect();
    assert_eq!(judge(&beats, &all).evidence(), None);
    assert_eq!(judge(&Beats::default(), &[]), Kept::default());
}

#[test]
fn who_was_touched_before_counts_again_when_it_is_back() {
    // The second fault finds the far stream still down from the first, the third finds it back.
    let down = 10_000..17_500;
    let beats = two_streams([steady(|_| false), steady(|at| down.contains(&at))]);
    let blows = [
        blow(10_000, 3_000, shard(1)),
        blow(14_000, 3_000, shard(SHARD)),
        blow(18_000, 3_000, shard(SHARD)),
    ];
    let kept = judge(&beats, &blows);
    assert_eq!(kept.streams["far"].stretches, 1);
    assert_eq!(what(&kept), Vec::<&str>::new());
}

#[test]
fn who_does_not_come_back_counts_in_the_end() {
    // Touched once, and down ever after.
    let beats = Beats {
        until_ms: 52_000,
        ..two_streams([steady(|_| false), steady(|at| at > 6_000)])
    };
    let mut blows = vec![blow(6_000, 1_000, shard(1))];
    blows.extend((2..9).map(|number| blow(number * 6_000, 3_000, shard(SHARD))));
    let kept = judge(&beats, &blows);
    assert_eq!(kept.streams["far"].stretches, 6, "not the first of them");
    assert!(!what(&kept).is_empty(), "{kept:?}");
}

#[test]
fn a_stretch_ends_where_the_next_fault_touches() {
    let down = 11_500..14_500;
    let beats = two_streams([steady(|_| false), steady(|at| down.contains(&at))]);
    let first = blow(10_000, 200, shard(SHARD));
    let next = |from| blow(from, 3_000, shard(1));
    let cut_short = judge(&beats, &[first.clone(), next(10_900)]);
    assert_eq!(
        cut_short.streams.get("far"),
        None,
        "less than a second says nothing"
    );
    let whole = judge(&beats, &[first, next(11_500)]);
    assert!(whole.streams["far"].beats > 0, "{whole:?}");
}
