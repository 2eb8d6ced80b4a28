//! Home's register and idempotency index on real servers.

mod recovery_support;

use gavel_participant::Participant as _;
use gavel_participant::service_pool::ServiceError;
use gavel_protocol::message::{
    Decide, Decided, Decision, FailedMember, KnownTxid, Member, RecordAborts, RecordAnswer,
    Recorded, RegisterAnswer, StatusAnswer, WhyAborted,
};
use gavel_protocol::outcome::Status;
use gavel_protocol::{
    AbortCode, AbortReason, Incarnation, Isolation, Principal, RefusalCode, RequestHash, ShardTag,
    Txid,
};
use recovery_support::{World, batch, eventually, now_ms, sqlstate};

const NORTH: ShardTag = ShardTag(1);
const SOUTH: ShardTag = ShardTag(2);
const FIRST: Incarnation = Incarnation(1);

fn abort() -> RegisterAnswer {
    RegisterAnswer::Decision(Decision::Abort)
}

fn commit(prepared: &[ShardTag]) -> RegisterAnswer {
    RegisterAnswer::Decision(Decision::Commit {
        prepared: prepared.to_vec(),
    })
}

fn unreachable_because(answer: &RegisterAnswer, why: &str) {
    let RegisterAnswer::Unreachable { detail } = answer else {
        panic!("{answer:?}");
    };
    assert!(detail.contains(why), "{detail}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r7_a_resolver_forces_abort_and_a_late_decide_loses() {
    let world = World::start(&["north"]).await;
    let (peers, _) = world.peers().await;
    let (home, batch) = (&peers[&NORTH], batch());
    let before = home.look_up_decisions(vec![batch]).await;
    assert_eq!(before, [RegisterAnswer::NoRow]);
    assert_eq!(home.resolve(batch, FIRST).await, abort());
    assert_eq!(home.resolve(batch, FIRST).await, abort());
    assert_eq!(home.look_up_decisions(vec![batch]).await, [abort()]);

    let late = world.hands(NORTH).await;
    late.run("BEGIN").await.expect("begin");
    let refused = late.open_decision(batch, &[SOUTH]).await;
    assert_eq!(sqlstate(refused), "23505");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r4_r7_a_resolver_waits_for_a_working_home_and_reads_its_commit() {
    let mut world = World::start(&["north"]).await;
    world.limits.resolve_lock_timeout_ms = 10_000;
    world.limits.resolve_timeout_ms = 10_000;
    let (peers, _) = world.peers().await;
    let (home, batch) = (peers[&NORTH].clone(), batch());
    let working = world.hands(NORTH).await;
    working.run("BEGIN").await.expect("begin");
    working.open_decision(batch, &[SOUTH]).await.expect("open");

    let resolver = tokio::spawn(async move { home.resolve(batch, FIRST).await });
    let waits = "SELECT 1 FROM pg_stat_activity \
                 WHERE wait_event_type = 'Lock' AND query LIKE '%force_abort%'";
    eventually("the resolver waits", || {
        !world.admin(NORTH, waits).is_empty()
    })
    .await;
    assert!(!resolver.is_finished());
    working.run("COMMIT").await.expect("commit");
    assert_eq!(resolver.await.expect("no panic"), commit(&[SOUTH]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r7_a_resolver_does_not_wait_for_ever_and_leaves_a_session_for_others() {
    let world = World::start(&["north"]).await;
    let (peers, _) = world.peers().await;
    let home = peers[&NORTH].clone();
    let working = world.hands(NORTH).await;
    working.run("BEGIN").await.expect("begin");
    let batches: Vec<_> = (0..6).map(|_| batch()).collect();
    for batch in &batches {
        working.open_decision(*batch, &[SOUTH]).await.expect("open");
    }
    let resolvers: Vec<_> = batches
        .iter()
        .map(|batch| {
            let (home, batch) = (home.clone(), *batch);
            tokio::spawn(async move { home.resolve(batch, FIRST).await })
        })
        .collect();
    // More resolvers than sessions wait; questions are answered all the same.
    let other = home.look_up_decisions(vec![batch()]).await;
    assert_eq!(other, [RegisterAnswer::NoRow]);
    let mut still_deciding = 0;
    for resolver in resolvers {
        let answer = resolver.await.expect("no panic");
        let RegisterAnswer::Unreachable { detail } = answer else {
            panic!("{answer:?}");
        };
        still_deciding += u32::from(detail.contains("still deciding"));
    }
    assert!(still_deciding > 0);
    working.run("ROLLBACK").await.expect("rollback");
    assert_eq!(home.resolve(batches[0], FIRST).await, abort());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r13_another_incarnation_is_told_and_is_not_no_row() {
    let world = World::start(&["north"]).await;
    let (peers, _) = world.peers().await;
    let (home, undecided, decided) = (&peers[&NORTH], batch(), batch());
    world.decide(decided, NORTH, &[SOUTH]).await;
    for batch in [undecided, decided] {
        let answer = home.resolve(batch, Incarnation(2)).await;
        let RegisterAnswer::OtherIncarnation { detail } = answer else {
            panic!("{answer:?}");
        };
        assert!(detail.contains("another incarnation"), "{detail}");
    }
    assert_eq!(world.outcome(NORTH, undecided), None);
    assert_eq!(home.resolve(decided, FIRST).await, commit(&[SOUTH]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r14_below_the_floor_nothing_is_concluded() {
    let world = World::start(&["north"]).await;
    let (peers, _) = world.peers().await;
    let (home, batch) = (&peers[&NORTH], batch());
    let txid = Txid::mint(now_ms(), NORTH, rand::random());
    let floor = "UPDATE gavel.identity SET (floor, verified_floor, dropped_floor) = \
         (SELECT u, u, u FROM (SELECT gavel.uuid_at(gavel.now_ms() + 60000) AS u) AS at)";
    world.admin(NORTH, floor);
    assert_eq!(home.resolve(batch, FIRST).await, RegisterAnswer::BelowFloor);
    let looked_up = home.look_up_decisions(vec![batch]).await;
    assert_eq!(looked_up, [RegisterAnswer::BelowFloor]);
    let status = home.status(txid, None).await;
    assert_eq!(status, StatusAnswer::Status(Status::TooOld));
}

/// A commit waits for a synchronous standby that is not there until it is cancelled, and is then
/// a success with a warning. The role even tries to hide the warning.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r6_what_may_not_be_replicated_is_not_told() {
    let world = World::start(&["north"]).await;
    let decided = batch();
    world.decide(decided, NORTH, &[SOUTH]).await;
    let alice: Principal = "alice".parse().expect("a principal");
    let record = aborts(&alice, AbortCode::GuardFailed, 1);
    let txid = record.aborts[0].txid;
    let (before, _) = world.peers().await;
    let recorded = before[&NORTH].record_aborts(record.clone()).await;
    assert!(
        matches!(recorded, RecordAnswer::Recorded(_)),
        "{recorded:?}"
    );

    world.admin(
        NORTH,
        "ALTER ROLE participant SET client_min_messages = error",
    );
    world.admin(NORTH, "ALTER ROLE participant SET synchronous_commit = off");
    let standbys = "ALTER SYSTEM SET synchronous_standby_names = 'nobody'";
    world.admin(NORTH, standbys);
    world.admin(NORTH, "SELECT pg_reload_conf()");
    let shown = "SELECT 1 FROM pg_settings \
                 WHERE name = 'synchronous_standby_names' AND setting = 'nobody'";
    eventually("reloaded", || !world.admin(NORTH, shown).is_empty()).await;

    let (peers, _) = world.peers().await;
    let home = &peers[&NORTH];
    let session = home.service_pool().session().await.expect("a session");
    let barrier = session.barrier().await;
    assert!(
        matches!(barrier, Err(ServiceError::NotReplicated)),
        "{barrier:?}"
    );
    drop(session);
    let (one, two, three) = tokio::join!(
        home.resolve(decided, FIRST),
        home.look_up_decisions(vec![decided]),
        home.status(txid, None),
    );
    unreachable_because(&one, "might not be replicated");
    unreachable_because(&two[0], "might not be replicated");
    assert!(
        matches!(three, StatusAnswer::Unreachable { .. }),
        "{three:?}"
    );
    let recorded = home.record_aborts(record).await;
    assert!(
        matches!(recorded, RecordAnswer::Unknown { .. }),
        "{recorded:?}"
    );

    let waiting = "SELECT 1 FROM pg_stat_activity WHERE wait_event = 'SyncRep'";
    eventually("no session is left waiting", || {
        world.admin(NORTH, waiting).is_empty()
    })
    .await;

    world.admin(NORTH, "ALTER SYSTEM RESET synchronous_standby_names");
    world.admin(NORTH, "SELECT pg_reload_conf()");
    let gone = "SELECT 1 FROM pg_settings \
                WHERE name = 'synchronous_standby_names' AND setting = ''";
    eventually("reloaded", || !world.admin(NORTH, gone).is_empty()).await;
    assert_eq!(home.resolve(decided, FIRST).await, commit(&[SOUTH]));
}

fn aborts(principal: &Principal, code: AbortCode, hash: u8) -> RecordAborts {
    RecordAborts {
        batch: None,
        incarnation: FIRST,
        principal: principal.clone(),
        aborts: vec![FailedMember {
            txid: Txid::mint(now_ms(), NORTH, rand::random()),
            request_hash: RequestHash([hash; 32]),
            reason: AbortReason::new(code, "expected 1 row, found 0"),
        }],
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r8_a_recorded_abort_is_its_owners_and_is_never_overwritten() {
    let world = World::start(&["north"]).await;
    let (peers, _) = world.peers().await;
    let home = &peers[&NORTH];
    let alice: Principal = "alice".parse().expect("a principal");
    let bob: Principal = "bob".parse().expect("a principal");
    let record = aborts(&alice, AbortCode::GuardFailed, 1);
    let (txid, reason) = (record.aborts[0].txid, record.aborts[0].reason.clone());
    let none = home.status(txid, Some(alice.clone())).await;
    assert_eq!(none, StatusAnswer::Status(Status::NoneYet));

    let recorded = |one: Recorded| RecordAnswer::Recorded(vec![one]);
    let first = home.record_aborts(record.clone()).await;
    assert_eq!(first, recorded(Recorded::Aborted(reason.clone())));
    let own = home.status(txid, Some(alice.clone())).await;
    assert_eq!(own, StatusAnswer::Status(Status::Aborted(reason.clone())));
    let operator = home.status(txid, None).await;
    assert_eq!(operator, own);
    let other = home.status(txid, Some(bob.clone())).await;
    assert_eq!(other, StatusAnswer::OtherPrincipal);

    let mut other_content = record.clone();
    other_content.aborts[0].request_hash = RequestHash([2; 32]);
    other_content.aborts[0].reason.message = "another".to_owned();
    let answer = home.record_aborts(other_content).await;
    assert_eq!(answer, recorded(Recorded::OtherContent));
    let mut for_good = record.clone();
    for_good.aborts[0].request_hash = RequestHash([0; 32]);
    for_good.aborts[0].reason.code = AbortCode::AbortedByRequest;
    let answer = home.record_aborts(for_good.clone()).await;
    assert_eq!(answer, recorded(Recorded::Aborted(reason.clone())));
    for_good.principal = bob;
    let answer = home.record_aborts(for_good).await;
    assert_eq!(answer, recorded(Recorded::OtherPrincipal));
    assert_eq!(home.status(txid, Some(alice)).await, own);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r13_r14_aborts_are_refused_by_another_life_and_outside_the_floors() {
    let world = World::start(&["north"]).await;
    let (peers, _) = world.peers().await;
    let home = &peers[&NORTH];
    let alice: Principal = "alice".parse().expect("a principal");
    let with = |incarnation, unix_ms| {
        let mut record = aborts(&alice, AbortCode::GuardFailed, 1);
        record.incarnation = incarnation;
        record.aborts[0].txid = Txid::mint(unix_ms, NORTH, [7; 16]);
        record
    };
    const MONTH_MS: u64 = 30 * 24 * 60 * 60 * 1000;
    let cases = [
        (
            with(Incarnation(2), now_ms()),
            RefusalCode::ShardUnavailable,
        ),
        (with(FIRST, now_ms() - MONTH_MS), RefusalCode::TxidTooOld),
        (
            with(FIRST, now_ms() + MONTH_MS),
            RefusalCode::TxidFromFuture,
        ),
    ];
    for (record, code) in cases {
        let answer = home.record_aborts(record).await;
        let RecordAnswer::Refused(refusal) = answer else {
            panic!("{answer:?}");
        };
        assert_eq!(refusal.code, code, "{refusal}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_freezes_or_restarts_is_unreachable_and_comes_back() {
    let world = World::start(&["north"]).await;
    let (peers, _) = world.peers().await;
    let (home, batch) = (&peers[&NORTH], batch());
    assert_eq!(
        home.look_up_decisions(vec![batch]).await,
        [RegisterAnswer::NoRow]
    );
    world.server(NORTH).pause().expect("pause");
    let answer = home.resolve(batch, FIRST).await;
    assert!(
        matches!(answer, RegisterAnswer::Unreachable { .. }),
        "{answer:?}"
    );
    world.server(NORTH).resume();
    world.server(NORTH).kill9().expect("kill");
    let answer = home.resolve(batch, FIRST).await;
    assert!(
        matches!(answer, RegisterAnswer::Unreachable { .. }),
        "{answer:?}"
    );
    world.server(NORTH).start().expect("start");
    // The first try may meet a session of before.
    recovery_support::eventually_async("it answers again", async || {
        home.resolve(batch, FIRST).await == abort()
    })
    .await;
}

/// A repeated submit fails on a branch, because its first try has had its effects. If home could
/// not say whose row is in the way, the neighbours would be refused with it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r8_r10_home_names_a_known_txid_that_a_branch_left_out() {
    let world = World::start(&["north"]).await;
    let (peers, _) = world.peers().await;
    let home = &peers[&NORTH];
    let alice: Principal = "alice".parse().expect("a principal");
    let request_hash = RequestHash([1; 32]);
    let mint = |random| Txid::mint(now_ms(), NORTH, [random; 16]);
    let decide = |txid, failed| Decide {
        batch: batch(),
        incarnation: FIRST,
        prepared: Vec::new(),
        principal: alice.clone(),
        isolation: Isolation::default(),
        batch_safe: true,
        members: vec![Member {
            txid,
            request_hash,
            statements: Vec::new().into(),
        }],
        failed,
    };
    let (repeated, neighbour) = (mint(1), mint(2));
    let first = home.decide(decide(repeated, Vec::new())).await;
    assert_eq!(first.decided, Decided::Committed);

    let left_out = FailedMember {
        txid: repeated,
        request_hash,
        reason: AbortReason::new(AbortCode::GuardFailed, "insufficient funds"),
    };
    let second = home.decide(decide(neighbour, vec![left_out])).await;
    let known = KnownTxid {
        txid: repeated,
        record: Recorded::Committed,
    };
    assert_eq!(
        second.decided,
        Decided::Aborted(WhyAborted::Known(vec![known]))
    );
    let third = home.decide(decide(neighbour, Vec::new())).await;
    assert_eq!(third.decided, Decided::Committed);
}
