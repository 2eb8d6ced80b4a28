//! Finishing branches and recording failures.

use super::*;

fn no_answer() -> Finished {
    Finished::Unknown {
        detail: "cut".into(),
    }
}

fn damaged() -> Finished {
    Finished::Damaged {
        detail: "lost".into(),
    }
}

fn committing() -> Batch {
    let mut batch = preparing(1, &[A, B], &[]);
    batch.on(voted(A, yes(&ran(1))));
    batch.on(voted(B, yes(&ran(1))));
    assert_eq!(
        batch.on(Event::Decided(Decided::Committed)),
        [Effect::Commit(A), Effect::Commit(B), committed(0)]
    );
    batch
}

/// Rolling back A while one failure is being recorded, and member 1 runs again.
fn aborting() -> Batch {
    let mut batch = preparing(2, &[A], &[]);
    let reports = [MemberReport::Failed(guard()), MemberReport::Executed];
    batch.on(voted(A, yes(&reports)));
    assert_eq!(
        batch.on(aborted(WhyAborted::Refused(busy()))),
        [Effect::Rollback(A), refused(1, busy())]
    );
    batch
}

fn recording() -> Batch {
    let mut batch = preparing(2, &[A, B], &[]);
    batch.on(voted(A, yes(&ran(2))));
    let reports = [MemberReport::Failed(guard()), MemberReport::Executed];
    assert_eq!(
        batch.on(voted(B, yes(&reports))),
        [
            Effect::Rollback(A),
            Effect::Rollback(B),
            Effect::RecordAborts(vec![failed(0)])
        ]
    );
    batch
}

#[test]
fn i6_phase_two_is_repeated_until_done() {
    let mut batch = committing();
    for not_yet in [Finished::Busy, no_answer(), Finished::Busy] {
        let effects = batch.on(finished(A, not_yet));
        assert_eq!(effects, [Effect::Commit(A)]);
    }
    assert_eq!(batch.on(done(A)), []);
    assert_eq!(batch.on(finished(A, no_answer())), [], "a late duplicate");
    assert_eq!(batch.on(finished(HOME, no_answer())), [], "not a branch");
    assert_eq!(batch.on(done(B)), [Effect::Applied, Effect::Rest]);
    assert_eq!(batch.on(done(B)), []);
}

#[test]
fn damage_is_an_alarm_and_never_success() {
    let mut batch = committing();
    assert_eq!(
        batch.on(finished(B, damaged())),
        [Effect::Alarm("lost".into())]
    );
    assert_eq!(batch.on(done(A)), [Effect::Rest], "not applied everywhere");

    let mut batch = aborting();
    assert_eq!(
        batch.on(finished(A, damaged())),
        [
            Effect::Alarm("lost".into()),
            Effect::RunAgain(vec![alone(&[0])]),
            Effect::Rest
        ]
    );
}

#[test]
fn i6_rollback_is_repeated_until_done() {
    let mut batch = aborting();
    for not_yet in [Finished::Busy, no_answer()] {
        assert_eq!(batch.on(finished(A, not_yet)), [Effect::Rollback(A)]);
    }
    assert_eq!(batch.on(finished(B, no_answer())), [], "not a branch");
    assert_eq!(
        batch.on(done(A)),
        [Effect::RunAgain(vec![alone(&[0])]), Effect::Rest]
    );
    assert_eq!(batch.on(finished(A, no_answer())), []);
}

#[test]
fn r12_members_run_again_when_their_branches_are_gone() {
    let again = [Effect::RunAgain(vec![together(&[1])]), Effect::Rest];
    let abort = Recorded::Aborted(guard());

    let mut batch = recording();
    assert_eq!(batch.on(done(A)), []);
    assert_eq!(batch.on(done(B)), [], "a failure is being recorded");
    let mut expected = vec![told_abort(0)];
    expected.extend(again.clone());
    assert_eq!(batch.on(recorded(std::slice::from_ref(&abort))), expected);

    let mut batch = recording();
    assert_eq!(
        batch.on(recorded(std::slice::from_ref(&abort))),
        [told_abort(0)],
        "nobody waits for a rollback to be told"
    );
    assert_eq!(batch.on(recorded(&[abort])), [], "a late duplicate");
    assert_eq!(batch.on(done(A)), []);
    assert_eq!(batch.on(done(B)), again);
}

#[test]
fn i2_what_is_recorded_is_told_whatever_it_is() {
    for record in [
        Recorded::Committed,
        Recorded::OtherContent,
        Recorded::OtherPrincipal,
    ] {
        let mut batch = recording();
        assert_eq!(
            batch.on(recorded(std::slice::from_ref(&record))),
            [Effect::Answer(0, Verdict::Recorded(record))]
        );
    }
}

#[test]
fn i4_what_could_not_be_recorded_is_not_told() {
    let unrecorded = unavailable("the transaction failed, and home could not record that");
    let unknown = RecordAnswer::Unknown {
        detail: "cut".into(),
    };
    for (answer, why) in [
        (unknown, unrecorded.clone()),
        (RecordAnswer::Recorded(vec![]), unrecorded),
        (RecordAnswer::Refused(busy()), busy()),
    ] {
        let mut batch = recording();
        assert_eq!(batch.on(Event::Recorded(answer)), [refused(0, why)]);
    }
}
