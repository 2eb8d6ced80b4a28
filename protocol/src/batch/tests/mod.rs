//! Stories of one batch each, told as whole lists of effects, and a world that draws stories at
//! random.

mod aftermath;
mod decision;
mod home_first;
mod votes;
mod world;

use super::*;
use crate::digest::MembersDigest;
use crate::message::{Decision, NoVote, WhyAborted};
use crate::outcome::{AbortCode, RefusalCode};

const A: ShardTag = ShardTag(1);
const B: ShardTag = ShardTag(2);
const READER: ShardTag = ShardTag(3);
const HOME: ShardTag = ShardTag(9);

fn txid(index: MemberIndex) -> Txid {
    Txid::mint(1, HOME, [u8::try_from(index).expect("few members"); 16])
}

fn spec(members: usize, prepared: &[ShardTag], read_only: &[ShardTag]) -> BatchSpec {
    let each = (0..members).map(|index| (txid(index), RequestHash([7; 32])));
    BatchSpec {
        members: each.collect(),
        prepared: prepared.to_vec(),
        read_only: read_only.to_vec(),
        home_first: false,
    }
}

/// A batch that waits for its votes.
fn preparing(members: usize, prepared: &[ShardTag], read_only: &[ShardTag]) -> Batch {
    Batch::start(spec(members, prepared, read_only)).0
}

/// A batch on shard A and home, in which everybody was executed on A.
fn deciding(members: usize) -> Batch {
    let mut batch = preparing(members, &[A], &[]);
    let effects = batch.on(voted(A, yes(&ran(members))));
    assert_eq!(effects, [decide(members)]);
    batch
}

fn ran(members: usize) -> Vec<MemberReport> {
    vec![MemberReport::Executed; members]
}

/// A yes vote whose digest is that of `reports`.
fn yes(reports: &[MemberReport]) -> Vote {
    let each = reports.iter().enumerate();
    let executed = each
        .filter(|(_, report)| **report == MemberReport::Executed)
        .map(|(index, _)| txid(index));
    Vote::Yes {
        digest: MembersDigest::of(executed),
        xid: 4711,
        reports: reports.to_vec(),
    }
}

fn none(reports: &[MemberReport]) -> Vote {
    Vote::No(NoVote::NoneExecuted {
        reports: reports.to_vec(),
    })
}

fn lost_vote() -> Vote {
    Vote::Unknown {
        detail: "cut".into(),
    }
}

fn voted(shard: ShardTag, vote: Vote) -> Event {
    Event::Voted { shard, vote }
}

fn done(shard: ShardTag) -> Event {
    finished(shard, Finished::Done)
}

fn finished(shard: ShardTag, finished: Finished) -> Event {
    Event::Finished { shard, finished }
}

fn aborted(why: WhyAborted) -> Event {
    Event::Decided(Decided::Aborted(why))
}

fn register(decision: Decision) -> Event {
    Event::Register(RegisterAnswer::Decision(decision))
}

fn recorded(records: &[Recorded]) -> Event {
    Event::Recorded(RecordAnswer::Recorded(records.to_vec()))
}

fn decide(members: usize) -> Effect {
    Effect::Decide {
        members: (0..members).collect(),
        failed: vec![],
    }
}

fn guard() -> AbortReason {
    AbortReason::new(AbortCode::GuardFailed, "insufficient funds")
}

fn busy() -> Refusal {
    Refusal::new(RefusalCode::LockTimeout, "a row was locked")
}

fn failed(index: MemberIndex) -> FailedMember {
    FailedMember {
        txid: txid(index),
        request_hash: RequestHash([7; 32]),
        reason: guard(),
    }
}

fn committed(index: MemberIndex) -> Effect {
    Effect::Answer(index, Verdict::Committed)
}

fn told_abort(index: MemberIndex) -> Effect {
    Effect::Answer(index, Verdict::Aborted(guard()))
}

fn refused(index: MemberIndex, why: Refusal) -> Effect {
    Effect::Answer(index, Verdict::Refused(why))
}

fn unavailable(message: &str) -> Refusal {
    Refusal::new(RefusalCode::ShardUnavailable, message)
}

fn together(members: &[MemberIndex]) -> Rerun {
    rerun(members, false)
}

fn alone(members: &[MemberIndex]) -> Rerun {
    rerun(members, true)
}

fn rerun(members: &[MemberIndex], alone: bool) -> Rerun {
    Rerun {
        members: members.to_vec(),
        alone,
        because: super::aftermath::contended(),
    }
}
