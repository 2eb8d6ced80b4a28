//! From the start to the decide, or to the end of a batch that never got there.

use super::*;
use crate::message::MemberFailure;

#[test]
fn r2_plain_commit_on_two_shards() {
    let (mut batch, effects) = Batch::start(spec(2, &[A], &[]));
    assert_eq!(effects, [Effect::Prepare(A)]);
    assert!(!batch.is_in_doubt());
    assert_eq!(batch.on(voted(A, yes(&ran(2)))), [decide(2)]);
    assert!(batch.is_in_doubt());
    assert_eq!(
        batch.on(Event::Decided(Decided::Committed)),
        [Effect::Commit(A), committed(0), committed(1)]
    );
    assert!(!batch.is_in_doubt());
    assert_eq!(batch.on(done(A)), [Effect::Applied, Effect::Rest]);
}

/// Three shards with work; home may be a fourth, without any: the machine cannot tell.
#[test]
fn i3_plain_commit_waits_for_every_vote() {
    let (mut batch, effects) = Batch::start(spec(1, &[A, B], &[READER]));
    let prepares = [A, B, READER].map(Effect::Prepare);
    assert_eq!(effects, prepares);
    assert_eq!(batch.on(voted(B, yes(&ran(1)))), []);
    assert_eq!(
        batch.on(voted(B, yes(&ran(1)))),
        [],
        "a duplicate is no vote"
    );
    assert_eq!(
        batch.on(voted(HOME, yes(&ran(1)))),
        [],
        "nor is a stranger's"
    );
    assert_eq!(batch.on(voted(A, yes(&ran(1)))), []);
    let reports = ran(1);
    assert_eq!(
        batch.on(voted(READER, Vote::ReadOnly { reports })),
        [decide(1)]
    );
    assert_eq!(
        batch.on(Event::Decided(Decided::Committed)),
        [Effect::Commit(A), Effect::Commit(B), committed(0)]
    );
    assert_eq!(batch.on(done(B)), []);
    assert_eq!(batch.on(done(A)), [Effect::Applied, Effect::Rest]);
}

#[test]
fn one_shard_decides_at_once() {
    let (mut batch, effects) = Batch::start(spec(2, &[], &[]));
    assert_eq!(effects, [decide(2)]);
    assert_eq!(
        batch.on(Event::Decided(Decided::Committed)),
        [committed(0), committed(1), Effect::Applied, Effect::Rest]
    );
}

#[test]
fn r18_a_read_only_branch_ends_at_the_vote() {
    let mut batch = preparing(1, &[], &[READER]);
    let reports = ran(1);
    assert_eq!(
        batch.on(voted(READER, Vote::ReadOnly { reports })),
        [decide(1)]
    );
    assert_eq!(
        batch.on(Event::Decided(Decided::Committed)),
        [committed(0), Effect::Applied, Effect::Rest],
        "nothing is prepared, so nothing is finished"
    );
    let mut batch = preparing(1, &[A], &[READER]);
    batch.on(voted(A, yes(&ran(1))));
    assert_eq!(
        batch.on(voted(READER, lost_vote())),
        [
            Effect::Rollback(A),
            refused(0, unavailable("a vote did not arrive: cut"))
        ],
        "its vote counts like any other"
    );
    assert_eq!(batch.on(done(A)), [Effect::Rest]);
}

#[test]
fn i3_a_no_vote_aborts_and_refuses_everybody() {
    let mut batch = preparing(2, &[A, B], &[]);
    batch.on(voted(A, yes(&ran(2))));
    assert_eq!(
        batch.on(voted(B, Vote::No(NoVote::Refused(busy())))),
        [Effect::Rollback(A), refused(0, busy()), refused(1, busy())],
        "b has nothing to roll back; nobody waits for a to be told"
    );
    assert_eq!(batch.on(done(A)), [Effect::Rest]);
}

#[test]
fn an_unknown_vote_is_no_yes_and_may_be_prepared() {
    let mut batch = preparing(1, &[A, B], &[]);
    batch.on(voted(A, lost_vote()));
    assert_eq!(
        batch.on(voted(B, yes(&ran(1)))),
        [
            Effect::Rollback(A),
            Effect::Rollback(B),
            refused(0, unavailable("a vote did not arrive: cut"))
        ]
    );
    assert_eq!(
        batch.on(voted(A, yes(&ran(1)))),
        [],
        "a late yes is the scan's"
    );
    assert_eq!(batch.on(done(A)), []);
    assert_eq!(batch.on(done(B)), [Effect::Rest]);
}

#[test]
fn r2_unequal_sets_abort_and_run_again_without_the_failing() {
    let mut batch = preparing(3, &[A, B], &[]);
    batch.on(voted(A, yes(&ran(3))));
    let reports = [
        MemberReport::Executed,
        MemberReport::Failed(guard()),
        MemberReport::Executed,
    ];
    assert_eq!(
        batch.on(voted(B, yes(&reports))),
        [Effect::Rollback(A), Effect::Rollback(B)],
        "r10: the failure ran after another, who is not committed: it is not told"
    );
    assert_eq!(batch.on(done(A)), [], "r12: nobody runs again before this");
    assert_eq!(
        batch.on(done(B)),
        [
            Effect::RunAgain(vec![alone(&[1]), together(&[0, 2])]),
            Effect::Rest
        ]
    );
}

#[test]
fn r2_one_failure_seen_by_all_rides_along() {
    let mut batch = preparing(3, &[A, B], &[]);
    let on_a = [
        MemberReport::Executed,
        MemberReport::Refused(busy()),
        MemberReport::NotRun,
    ];
    let on_b = [
        MemberReport::Executed,
        MemberReport::Failed(guard()),
        MemberReport::NotRun,
    ];
    batch.on(voted(A, yes(&on_a)));
    assert_eq!(
        batch.on(voted(B, yes(&on_b))),
        [Effect::Decide {
            members: vec![0],
            failed: vec![failed(1)]
        }],
        "a failure says more than a refusal"
    );
    assert_eq!(
        batch.on(Event::Decided(Decided::Committed)),
        [
            Effect::Commit(A),
            Effect::Commit(B),
            committed(0),
            told_abort(1)
        ],
        "r10: all that the failing member saw has committed"
    );
    batch.on(done(A));
    assert_eq!(
        batch.on(done(B)),
        [
            Effect::Applied,
            Effect::RunAgain(vec![together(&[2])]),
            Effect::Rest
        ]
    );
}

#[test]
fn r10_a_failure_is_told_if_it_ran_first() {
    let mut batch = preparing(3, &[A], &[]);
    let reports = [
        MemberReport::Failed(guard()),
        MemberReport::Refused(busy()),
        MemberReport::Failed(guard()),
    ];
    assert_eq!(
        batch.on(voted(A, none(&reports))),
        [
            refused(1, busy()),
            Effect::RecordAborts(vec![failed(0), failed(2)])
        ],
        "nobody was executed, so everybody ran first"
    );
    let aborted = Recorded::Aborted(guard());
    assert_eq!(
        batch.on(recorded(&[aborted, Recorded::Committed])),
        [
            told_abort(0),
            Effect::Answer(2, Verdict::Recorded(Recorded::Committed)),
            Effect::Rest
        ],
        "r8: an outcome that was recorded earlier wins"
    );
}

#[test]
fn r10_a_failure_of_its_own_outweighs_a_doubtful_one() {
    let first = [MemberReport::Executed, MemberReport::Failed(guard())];
    let second = [MemberReport::NotRun, MemberReport::Failed(guard())];
    for votes in [[yes(&first), none(&second)], [none(&second), yes(&first)]] {
        let mut batch = preparing(2, &[A, B], &[]);
        let [on_a, on_b] = votes;
        batch.on(voted(A, on_a));
        let effects = batch.on(voted(B, on_b));
        assert!(
            effects.contains(&Effect::RecordAborts(vec![failed(1)])),
            "{effects:?}"
        );
    }
}

#[test]
fn r10_what_has_no_culprit_is_split_to_the_end() {
    for failure in [
        MemberFailure::Failed(guard()),
        MemberFailure::Refused(busy()),
    ] {
        let no = || Vote::No(NoVote::NoCulprit(failure.clone()));
        let mut batch = preparing(5, &[A], &[]);
        assert_eq!(
            batch.on(voted(A, no())),
            [
                Effect::RunAgain(vec![alone(&[0, 1, 2]), alone(&[3, 4])]),
                Effect::Rest
            ]
        );
    }
    let no = |failure| Vote::No(NoVote::NoCulprit(failure));
    let mut batch = preparing(1, &[A], &[]);
    assert_eq!(
        batch.on(voted(A, no(MemberFailure::Failed(guard())))),
        [Effect::RecordAborts(vec![failed(0)])],
        "with one member it is that one's failure"
    );
    let mut batch = preparing(1, &[A], &[]);
    assert_eq!(
        batch.on(voted(A, no(MemberFailure::Refused(busy())))),
        [refused(0, busy()), Effect::Rest]
    );
}

/// A branch takes `savepoints_max` members after a failure. If the others came back in one group
/// with those, the next batch would be the same batch, until everybody is refused.
#[test]
fn r10_who_got_no_turn_does_not_hold_up_who_did() {
    let mut batch = preparing(4, &[A, B], &[]);
    batch.on(voted(A, yes(&ran(4))));
    let mut reports = ran(2);
    reports.extend([MemberReport::NotRun, MemberReport::NotRun]);
    batch.on(voted(B, yes(&reports)));
    batch.on(done(A));
    assert_eq!(
        batch.on(done(B)),
        [
            Effect::RunAgain(vec![together(&[0, 1]), together(&[2, 3])]),
            Effect::Rest
        ]
    );
}

#[test]
fn r10_members_that_got_nowhere_are_split() {
    let mut batch = preparing(4, &[A], &[]);
    assert_eq!(
        batch.on(voted(A, none(&vec![MemberReport::NotRun; 4]))),
        [
            Effect::RunAgain(vec![alone(&[0, 1]), alone(&[2, 3])]),
            Effect::Rest
        ]
    );
}

#[test]
fn i3_a_vote_that_contradicts_itself_is_no_vote() {
    let writer = |vote: Vote, what: &str, rollback: bool| {
        let mut batch = preparing(2, &[A], &[]);
        let mut expected = vec![Effect::Alarm(what.into())];
        expected.extend(rollback.then_some(Effect::Rollback(A)));
        expected.extend([0, 1].map(|index| refused(index, unavailable(what))));
        expected.extend((!rollback).then_some(Effect::Rest));
        assert_eq!(batch.on(voted(A, vote)), expected);
    };
    let Vote::Yes { digest, xid, .. } = yes(&ran(1)) else {
        unreachable!("it is a yes");
    };
    let reports = ran(2);
    let wrong_digest = Vote::Yes {
        digest,
        xid,
        reports: reports.clone(),
    };
    let what = "shard 1 executed other members than it reports";
    writer(wrong_digest, what, true);
    writer(yes(&ran(1)), "shard 1 reports 1 members of 2", true);
    let what = "shard 1 did not prepare a branch that writes";
    writer(Vote::ReadOnly { reports }, what, false);

    let mut batch = preparing(1, &[], &[READER]);
    let what = "shard 3 prepared a branch that only reads";
    assert_eq!(
        batch.on(voted(READER, yes(&ran(1)))),
        [
            Effect::Alarm(what.into()),
            Effect::Rollback(READER),
            refused(0, unavailable(what))
        ]
    );
}

#[test]
#[should_panic(expected = "one branch on a shard")]
fn a_shard_has_one_branch() {
    Batch::start(spec(1, &[A], &[A]));
}
