//! What home says, and what follows.

use super::*;
use crate::message::{KnownTxid, MemberFailure};

/// Home blames the member at `index` of those that it was sent.
fn blamed(index: usize, failure: MemberFailure, recorded: bool) -> Event {
    aborted(WhyAborted::Member {
        index,
        failure,
        recorded,
        also: Vec::new(),
    })
}

fn own() -> MemberFailure {
    MemberFailure::Failed(guard())
}

/// A batch of three on A and home in which member 0 failed on A, behind nobody.
fn deciding_without_the_first() -> Batch {
    let mut batch = preparing(4, &[A], &[]);
    let reports = [
        MemberReport::Failed(guard()),
        MemberReport::Executed,
        MemberReport::Executed,
        MemberReport::NotRun,
    ];
    assert_eq!(
        batch.on(voted(A, yes(&reports))),
        [Effect::Decide {
            members: vec![1, 2],
            failed: vec![failed(0)]
        }]
    );
    batch
}

#[test]
fn r10_who_fails_first_at_home_is_recorded_and_told() {
    let mut batch = deciding(3);
    assert_eq!(
        batch.on(blamed(0, own(), false)),
        [Effect::Rollback(A), Effect::RecordAborts(vec![failed(0)])]
    );
    let again = Effect::RunAgain(vec![together(&[1, 2])]);
    assert_eq!(
        batch.on(recorded(&[Recorded::Aborted(guard())])),
        [told_abort(0)]
    );
    assert_eq!(batch.on(done(A)), [again, Effect::Rest]);
}

#[test]
fn r10_who_fails_later_at_home_runs_again_alone() {
    let mut batch = deciding(3);
    assert_eq!(batch.on(blamed(1, own(), false)), [Effect::Rollback(A)]);
    let again = Effect::RunAgain(vec![alone(&[1]), together(&[0, 2])]);
    assert_eq!(batch.on(done(A)), [again, Effect::Rest]);
}

#[test]
fn r10_what_a_rehearsal_found_is_not_told() {
    let mut batch = deciding(4);
    let why = WhyAborted::Member {
        index: 0,
        failure: own(),
        recorded: false,
        also: vec![2, 77],
    };
    assert_eq!(
        batch.on(aborted(why)),
        [Effect::Rollback(A), Effect::RecordAborts(vec![failed(0)])]
    );
    batch.on(recorded(&[Recorded::Aborted(guard())]));
    let again = Effect::RunAgain(vec![alone(&[2]), together(&[1, 3])]);
    assert_eq!(batch.on(done(A)), [again, Effect::Rest]);
}

#[test]
fn r10_the_only_member_failing_at_home_is_told_once_recorded() {
    let mut batch = deciding(1);
    assert_eq!(
        batch.on(blamed(0, own(), true)),
        [Effect::Rollback(A), told_abort(0)]
    );
    assert_eq!(batch.on(done(A)), [Effect::Rest]);

    let mut batch = deciding(1);
    assert_eq!(
        batch.on(blamed(0, own(), false)),
        [Effect::Rollback(A), Effect::RecordAborts(vec![failed(0)])],
        "not recorded, so not told"
    );
}

#[test]
fn a_refusal_at_home_is_the_members_alone() {
    let mut batch = deciding(2);
    assert_eq!(
        batch.on(blamed(1, MemberFailure::Refused(busy()), false)),
        [Effect::Rollback(A), refused(1, busy())]
    );
    let again = Effect::RunAgain(vec![together(&[0])]);
    assert_eq!(batch.on(done(A)), [again, Effect::Rest]);
}

/// Home counts in what it was sent, not in the batch. The failure on A was not told: it saw
/// nobody, but the next batch will say the same of it.
#[test]
fn r10_home_counts_those_it_was_sent() {
    let mut batch = deciding_without_the_first();
    assert_eq!(batch.on(blamed(1, own(), false)), [Effect::Rollback(A)]);
    let again = vec![alone(&[0]), alone(&[2]), together(&[1]), together(&[3])];
    assert_eq!(batch.on(done(A)), [Effect::RunAgain(again), Effect::Rest]);
}

#[test]
fn home_blaming_nobody_in_the_batch_raises_an_alarm() {
    let mut batch = deciding(1);
    assert_eq!(
        batch.on(blamed(5, own(), false)),
        [
            Effect::Alarm("home blames member 5 of 1".into()),
            Effect::Rollback(A),
            refused(0, super::super::aftermath::contended())
        ]
    );
}

#[test]
fn r10_no_culprit_at_home_is_split() {
    let no_culprit = |failure, recorded| aborted(WhyAborted::NoCulprit { failure, recorded });
    let mut batch = deciding(3);
    assert_eq!(batch.on(no_culprit(own(), false)), [Effect::Rollback(A)]);
    let again = Effect::RunAgain(vec![alone(&[0, 1]), alone(&[2])]);
    assert_eq!(batch.on(done(A)), [again, Effect::Rest]);

    let mut batch = deciding(1);
    assert_eq!(
        batch.on(no_culprit(own(), true)),
        [Effect::Rollback(A), told_abort(0)]
    );
    let mut batch = deciding(1);
    assert_eq!(
        batch.on(no_culprit(MemberFailure::Refused(busy()), false)),
        [Effect::Rollback(A), refused(0, busy())]
    );
    let mut batch = deciding_without_the_first();
    batch.on(no_culprit(own(), false));
    let again = vec![alone(&[0]), alone(&[1]), alone(&[2]), together(&[3])];
    assert_eq!(batch.on(done(A)), [Effect::RunAgain(again), Effect::Rest]);
}

#[test]
fn r8_a_known_txid_hears_what_is_recorded() {
    let known = [
        (0, Recorded::Committed),
        (2, Recorded::OtherContent),
        (77, Recorded::Committed),
    ];
    let known = known.map(|(index, record)| KnownTxid {
        txid: txid(index),
        record,
    });
    let mut batch = deciding(3);
    assert_eq!(
        batch.on(aborted(WhyAborted::Known(known.to_vec()))),
        [
            Effect::Rollback(A),
            Effect::Answer(0, Verdict::Recorded(Recorded::Committed)),
            Effect::Answer(2, Verdict::Recorded(Recorded::OtherContent)),
        ]
    );
    let again = Effect::RunAgain(vec![together(&[1])]);
    assert_eq!(batch.on(done(A)), [again, Effect::Rest]);
}

/// The member failed on A because its first try had committed long ago.
#[test]
fn r8_a_known_txid_may_be_one_that_was_left_out() {
    let mut batch = deciding_without_the_first();
    let known = vec![KnownTxid {
        txid: txid(0),
        record: Recorded::Committed,
    }];
    assert_eq!(
        batch.on(aborted(WhyAborted::Known(known))),
        [
            Effect::Rollback(A),
            Effect::Answer(0, Verdict::Recorded(Recorded::Committed))
        ]
    );
    let again = vec![together(&[1, 2]), together(&[3])];
    assert_eq!(batch.on(done(A)), [Effect::RunAgain(again), Effect::Rest]);
}

#[test]
fn a_refused_decide_refuses_everybody() {
    let mut batch = deciding(2);
    assert_eq!(
        batch.on(aborted(WhyAborted::Refused(busy()))),
        [Effect::Rollback(A), refused(0, busy()), refused(1, busy())]
    );
}

#[test]
fn r5_an_unknown_decide_is_settled_by_the_register() {
    let unknown = || {
        Event::Decided(Decided::Unknown {
            detail: "cut".into(),
        })
    };
    let mut batch = deciding(1);
    assert_eq!(batch.on(unknown()), [Effect::AskRegister]);
    assert!(batch.is_in_doubt());
    assert_eq!(
        batch.on(Event::Decided(Decided::Committed)),
        [],
        "too late: the register has been asked, and will say the same"
    );
    let unreachable = RegisterAnswer::Unreachable {
        detail: "down".into(),
    };
    for answer in [unreachable, RegisterAnswer::NoRow] {
        let effects = batch.on(Event::Register(answer));
        assert_eq!(effects, [Effect::AskRegister], "nothing is concluded");
        assert!(batch.is_in_doubt());
    }
    let mut other_way = batch.clone();
    assert_eq!(
        batch.on(register(Decision::Commit { prepared: vec![A] })),
        [Effect::Commit(A), committed(0)]
    );
    let why = Refusal::new(
        RefusalCode::Contended,
        "home was lost sight of while deciding, and the batch was aborted",
    );
    assert_eq!(
        other_way.on(register(Decision::Abort)),
        [Effect::Rollback(A), refused(0, why)]
    );
}

fn resolving() -> Batch {
    let mut batch = deciding(2);
    let detail = "cut".to_owned();
    batch.on(Event::Decided(Decided::Unknown { detail }));
    batch
}

fn left_in_doubt(detail: &str) -> Vec<Effect> {
    let in_doubt = || Verdict::InDoubt(detail.to_owned());
    vec![
        Effect::Alarm(detail.to_owned()),
        Effect::Answer(0, in_doubt()),
        Effect::Answer(1, in_doubt()),
        Effect::Rest,
    ]
}

#[test]
fn r14_below_the_floor_nobody_knows_and_nothing_is_done() {
    let mut batch = resolving();
    let detail = "home has dropped rows of this age: the outcome is not known";
    assert_eq!(
        batch.on(Event::Register(RegisterAnswer::BelowFloor)),
        left_in_doubt(detail)
    );
    assert!(batch.is_in_doubt());
    assert_eq!(batch.on(register(Decision::Abort)), []);
}

/// It would ask for ever, and keep its lane from everybody.
#[test]
fn r13_a_home_in_another_life_is_not_waited_for() {
    let mut batch = resolving();
    let answer = RegisterAnswer::OtherIncarnation {
        detail: "home is in incarnation 2".into(),
    };
    assert_eq!(
        batch.on(Event::Register(answer)),
        left_in_doubt("the outcome is not known: home is in incarnation 2")
    );
    assert!(batch.is_in_doubt());
    assert_eq!(batch.on(register(Decision::Abort)), []);
}

/// The recovery table rolls such a branch back; committing it here would race with that.
#[test]
fn i1_a_decision_that_names_other_shards_is_not_acted_on() {
    for prepared in [vec![], vec![B], vec![A, B]] {
        let mut batch = resolving();
        let detail = format!(
            "the decision names shards {prepared:?}, the batch has {:?}",
            [A]
        );
        assert_eq!(
            batch.on(register(Decision::Commit { prepared })),
            left_in_doubt(&detail)
        );
    }
}

#[test]
fn i8_nothing_finishes_before_the_decision_is_known() {
    let finished_early = [
        done(A),
        finished(A, Finished::Busy),
        Event::Recorded(RecordAnswer::Refused(busy())),
        voted(A, yes(&ran(2))),
    ];
    for mut batch in [preparing(2, &[A, B], &[]), deciding(2), resolving()] {
        for event in finished_early.clone() {
            let before = batch.clone();
            let effects = batch.on(event.clone());
            assert_eq!(effects, [], "{before:?} {event:?}");
        }
    }
}
