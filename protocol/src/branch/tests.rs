use super::*;
use crate::message::Decision;

const US: ShardTag = ShardTag(2);

fn commit() -> Event {
    let prepared = vec![ShardTag(1), US];
    Event::Register(RegisterAnswer::Decision(Decision::Commit { prepared }))
}

fn abort() -> Event {
    Event::Register(RegisterAnswer::Decision(Decision::Abort))
}

fn unreachable() -> Event {
    let detail = String::new();
    Event::Register(RegisterAnswer::Unreachable { detail })
}

fn unknown() -> Event {
    let detail = String::new();
    Event::Finished(Finished::Unknown { detail })
}

/// Plays events and compares the whole list of effects, event by event.
fn story(script: Vec<(Event, Vec<Effect>)>) -> State {
    let mut branch = Branch::new(US);
    for (index, (event, expected)) in script.into_iter().enumerate() {
        let shown = format!("{index}: {event:?} in {:?}", branch.state());
        assert_eq!(branch.on_event(event), expected, "{shown}");
    }
    branch.state()
}

#[test]
fn r15_a_driver_that_attends_is_left_alone() {
    let state = story(vec![
        (Event::Seen(DriverSeen::Attending), vec![]),
        (Event::PassedInDoubtAfter, vec![]),
        (Event::Seen(DriverSeen::Attending), vec![]),
        (Event::Gone, vec![Effect::Forget]),
    ]);
    assert_eq!(state, State::Over);
}

#[test]
fn r15_a_closed_driver_is_acted_on_at_once() {
    story(vec![
        (Event::Seen(DriverSeen::Attending), vec![]),
        (Event::DriverClosed, vec![Effect::AskHome]),
        (abort(), vec![Effect::Apply(FinishKind::Rollback)]),
        (Event::Finished(Finished::Done), vec![Effect::Forget]),
    ]);
    story(vec![(
        Event::Seen(DriverSeen::Closed),
        vec![Effect::AskHome],
    )]);
}

#[test]
fn r15_an_unknown_driver_gets_its_time() {
    story(vec![
        (Event::Seen(DriverSeen::Unknown), vec![]),
        (Event::Seen(DriverSeen::Unknown), vec![]),
        (Event::PassedInDoubtAfter, vec![Effect::AskHome]),
        (Event::PassedInDoubtAfter, vec![]),
        (commit(), vec![Effect::Apply(FinishKind::Commit)]),
        (Event::Finished(Finished::Done), vec![Effect::Forget]),
        (Event::Gone, vec![]),
    ]);
}

#[test]
fn r15_an_old_branch_is_resolved_whoever_attends() {
    story(vec![
        (Event::Seen(DriverSeen::Attending), vec![]),
        (Event::OldByDatabaseClock, vec![Effect::AskHome]),
    ]);
}

#[test]
fn a_home_that_cannot_be_asked_is_asked_again_with_growing_pauses() {
    story(vec![
        (Event::Seen(DriverSeen::Closed), vec![Effect::AskHome]),
        (unreachable(), vec![Effect::RetryAfter { attempt: 1 }]),
        (Event::DriverClosed, vec![]),
        (Event::RetryDue, vec![Effect::AskHome]),
        (unreachable(), vec![Effect::RetryAfter { attempt: 2 }]),
        (Event::RetryDue, vec![Effect::AskHome]),
        (
            Event::Register(RegisterAnswer::NoRow),
            vec![Effect::RetryAfter { attempt: 3 }],
        ),
        (Event::RetryDue, vec![Effect::AskHome]),
        (commit(), vec![Effect::Apply(FinishKind::Commit)]),
    ]);
}

#[test]
fn a_decision_is_not_asked_for_twice() {
    story(vec![
        (Event::Seen(DriverSeen::Closed), vec![Effect::AskHome]),
        (commit(), vec![Effect::Apply(FinishKind::Commit)]),
        (
            Event::Finished(Finished::Busy),
            vec![Effect::RetryAfter { attempt: 1 }],
        ),
        (Event::RetryDue, vec![Effect::Apply(FinishKind::Commit)]),
        (unknown(), vec![Effect::RetryAfter { attempt: 2 }]),
        (Event::RetryDue, vec![Effect::Apply(FinishKind::Commit)]),
        (Event::Finished(Finished::Done), vec![Effect::Forget]),
    ]);
}

#[test]
fn r1_gone_is_not_committed() {
    let detail = "neither prepared nor applied".to_owned();
    story(vec![
        (Event::Seen(DriverSeen::Closed), vec![Effect::AskHome]),
        (commit(), vec![Effect::Apply(FinishKind::Commit)]),
        (unknown(), vec![Effect::RetryAfter { attempt: 1 }]),
        (Event::Gone, vec![]),
        (Event::RetryDue, vec![Effect::Apply(FinishKind::Commit)]),
        (
            Event::Finished(Finished::Damaged { detail }),
            vec![Effect::Damage(DamageKind::LostBranch), Effect::Forget],
        ),
    ]);
}

#[test]
fn a_commit_that_does_not_name_us_is_an_alarm() {
    let elsewhere = Decision::Commit {
        prepared: vec![ShardTag(9)],
    };
    story(vec![
        (Event::Seen(DriverSeen::Closed), vec![Effect::AskHome]),
        (
            Event::Register(RegisterAnswer::Decision(elsewhere)),
            vec![
                Effect::Alarm(Alarm::CommitOmitsShard),
                Effect::Apply(FinishKind::Rollback),
            ],
        ),
    ]);
}

#[test]
fn r14_below_the_floor_nothing_is_automatic() {
    let below = || Event::Register(RegisterAnswer::BelowFloor);
    let state = story(vec![
        (Event::Seen(DriverSeen::Closed), vec![Effect::AskHome]),
        (below(), vec![Effect::Alarm(Alarm::BelowFloor)]),
        (Event::OldByDatabaseClock, vec![]),
        (Event::RetryDue, vec![]),
        (Event::Seen(DriverSeen::Closed), vec![]),
        (Event::OperatorAsks, vec![Effect::AskHome]),
        (below(), vec![Effect::Alarm(Alarm::BelowFloor)]),
    ]);
    assert_eq!(state, State::Stuck);
}

#[test]
fn an_operator_does_not_wait_for_the_pause() {
    story(vec![
        (Event::Seen(DriverSeen::Unknown), vec![]),
        (Event::OperatorAsks, vec![Effect::AskHome]),
        (Event::OperatorAsks, vec![]),
        (unreachable(), vec![Effect::RetryAfter { attempt: 1 }]),
        (Event::OperatorAsks, vec![Effect::AskHome]),
        (Event::RetryDue, vec![]),
    ]);
}

#[test]
fn a_zombie_prepare_is_a_new_branch() {
    story(vec![
        (Event::Seen(DriverSeen::Closed), vec![Effect::AskHome]),
        (abort(), vec![Effect::Apply(FinishKind::Rollback)]),
        (Event::Finished(Finished::Done), vec![Effect::Forget]),
        (Event::Seen(DriverSeen::Closed), vec![]),
    ]);
    story(vec![
        (Event::Seen(DriverSeen::Closed), vec![Effect::AskHome]),
        (abort(), vec![Effect::Apply(FinishKind::Rollback)]),
    ]);
}
