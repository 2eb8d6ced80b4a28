//! Batches whose home works before the branches are asked.

use super::*;

/// A batch on shard A whose home has left these out.
fn after_home(members: usize, left_out: &[(MemberIndex, MemberReport)]) -> (Batch, Vec<Effect>) {
    let spec = BatchSpec {
        home_first: true,
        ..spec(members, &[A], &[])
    };
    let (mut batch, effects) = Batch::start(spec);
    assert_eq!(effects, [Effect::WorkFirst]);
    assert!(!batch.is_in_doubt());
    let left_out = left_out.iter().cloned().collect();
    let effects = batch.on(Event::WorkedFirst { left_out });
    (batch, effects)
}

fn guard_fails() -> MemberReport {
    MemberReport::Failed(guard())
}

/// A yes for these members of those who were asked.
fn yes_of(executed: &[MemberIndex], reports: &[MemberReport]) -> Vote {
    Vote::Yes {
        digest: MembersDigest::of(executed.iter().map(|member| txid(*member))),
        xid: 4711,
        reports: reports.to_vec(),
    }
}

#[test]
fn r2_who_fails_at_home_is_not_asked_of_the_branches_and_is_told_with_the_commit() {
    let (mut batch, effects) = after_home(3, &[(1, guard_fails())]);
    assert_eq!(effects, [Effect::Prepare(A)]);
    assert_eq!(batch.asked().collect::<Vec<_>>(), [0, 2]);
    assert_eq!(
        batch.on(voted(A, yes_of(&[0, 2], &ran(2)))),
        [Effect::Decide {
            members: vec![0, 2],
            failed: vec![failed(1)]
        }]
    );
    assert_eq!(
        batch.on(Event::Decided(Decided::Committed)),
        [Effect::Commit(A), committed(0), committed(2), told_abort(1)]
    );
}

#[test]
fn a_home_that_did_nothing_first_decides_as_ever() {
    let (mut batch, effects) = after_home(2, &[]);
    assert_eq!(effects, [Effect::Prepare(A)]);
    assert_eq!(batch.on(voted(A, yes(&ran(2)))), [decide(2)]);
}

#[test]
fn r10_what_home_saw_holds_only_if_the_branches_leave_out_nobody_else() {
    let left_out = [(0, guard_fails()), (2, guard_fails())];
    let (mut batch, _) = after_home(4, &left_out);
    let reports = [MemberReport::Executed, guard_fails()];
    // 0 has seen nobody; 2 has seen 1, in a transaction that home will not commit.
    assert_eq!(
        batch.on(voted(A, yes_of(&[1], &reports))),
        [Effect::Decide {
            members: vec![1],
            failed: vec![failed(0), failed(3)]
        }]
    );
    let effects = batch.on(Event::Decided(Decided::Committed));
    let told = [committed(1), told_abort(0), told_abort(3)];
    assert_eq!(effects[1..], told);
    assert_eq!(
        batch.on(done(A)),
        [
            Effect::Applied,
            Effect::RunAgain(vec![together(&[2])]),
            Effect::Rest
        ]
    );
}

#[test]
fn r10_a_batch_of_which_home_executes_nobody_prepares_nothing() {
    let left_out = [
        (0, guard_fails()),
        (1, MemberReport::Refused(busy())),
        (2, MemberReport::NotRun),
    ];
    let (mut batch, effects) = after_home(3, &left_out);
    assert_eq!(
        effects,
        [refused(1, busy()), Effect::RecordAborts(vec![failed(0)])]
    );
    let record = Recorded::Aborted(guard());
    assert_eq!(
        batch.on(recorded(&[record])),
        [
            told_abort(0),
            Effect::RunAgain(vec![together(&[2])]),
            Effect::Rest
        ]
    );
}

#[test]
fn a_branch_that_reports_members_it_was_not_asked_to_run_is_not_believed() {
    let (mut batch, _) = after_home(2, &[(1, guard_fails())]);
    let effects = batch.on(voted(A, yes(&ran(2))));
    assert!(matches!(effects[0], Effect::Alarm(_)), "{effects:?}");
    assert!(
        !effects
            .iter()
            .any(|effect| matches!(effect, Effect::Decide { .. }))
    );
}

#[test]
fn a_late_answer_of_home_changes_nothing() {
    let (mut batch, _) = after_home(2, &[]);
    let left_out = BTreeMap::from([(0, guard_fails())]);
    assert_eq!(batch.on(Event::WorkedFirst { left_out }), []);
    assert_eq!(batch.asked().count(), 2);
}
