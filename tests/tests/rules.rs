//! Rules of the design that only real servers can prove, one test each.

use std::sync::Arc;
use std::time::{Duration, Instant};

use gavel_coordinator::{Coordinator, Engine, Submission};
use gavel_participant::pg::Target;
use gavel_participant::{Directory, LocalParticipant, Participant};
use gavel_protocol::message::{
    Decision, Finish, FinishKind, Finished, Member, Prepare, RegisterAnswer, Vote,
};
use gavel_protocol::{
    Access, BatchId, BranchWork, DriverId, Gid, Incarnation, Isolation, Limits, Outcome,
    RefusalCode, RequestHash, ShardTag, Statement, Transaction, Txid,
};
use gavel_tests::bank::{self, ACCOUNTS};
use gavel_tests::embedded::{DEPLOYMENT, Embedded, is_committed, submission};

const FIRST: Incarnation = Incarnation(1);

fn now_ms() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    u64::try_from(since.expect("after 1970").as_millis()).expect("before the year 500 million")
}

fn fresh_batch() -> BatchId {
    BatchId::mint(now_ms(), rand::random())
}

/// A branch of a new batch with home 1, on shard 2, that adds to an account.
fn branch(batch: BatchId, account: i64, amount: i64) -> Prepare {
    let txid = Txid::mint(now_ms(), ShardTag(1), rand::random());
    let gid = Gid {
        deployment: DEPLOYMENT.parse().expect("a name"),
        home: ShardTag(1),
        home_incarnation: FIRST,
        batch,
        shard: ShardTag(2),
    };
    Prepare {
        gid,
        incarnation: FIRST,
        driver: DriverId(uuid::Uuid::from_u128(4711)),
        access: Access::ReadWrite,
        isolation: Isolation::ReadCommitted,
        batch_safe: true,
        members: vec![Member {
            txid,
            request_hash: RequestHash([7; 32]),
            statements: bank::entry(txid, account, amount).into(),
        }],
    }
}

async fn until(what: &str, limit: Duration, mut holds: impl FnMut() -> bool) -> Duration {
    let started = Instant::now();
    while !holds() {
        assert!(started.elapsed() < limit, "{what}: not within {limit:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    started.elapsed()
}

fn prepared_on(gavel: &Embedded, shard: usize) -> usize {
    let rows =
        gavel.cluster.servers()[shard].sql(bank::DATABASE, "SELECT 1 FROM pg_prepared_xacts");
    rows.expect("ask the server").len()
}

#[tokio::test(flavor = "multi_thread")]
async fn r1_a_second_execution_of_a_batch_fails_before_and_after_it_is_applied() {
    let gavel = Embedded::start(2).await;
    let shard = gavel.directory.shard(ShardTag(2)).expect("shard 2");
    let message = branch(fresh_batch(), 1, 5);
    let (a, b) = tokio::join!(
        shard.prepare(message.clone()),
        shard.prepare(message.clone())
    );
    let yes = [&a.vote, &b.vote]
        .iter()
        .filter(|vote| matches!(vote, Vote::Yes { .. }))
        .count();
    assert_eq!(yes, 1, "one of two may prepare: {:?} {:?}", a.vote, b.vote);
    let commit = Finish {
        gid: message.gid.clone(),
        kind: FinishKind::Commit,
    };
    assert_eq!(shard.finish(vec![commit.clone()]).await, [Finished::Done]);
    let late = shard.prepare(message).await;
    assert!(matches!(late.vote, Vote::Unknown { .. }), "{:?}", late.vote);
    // "Does not exist" is explained by the branch row: applied, not damaged.
    assert_eq!(shard.finish(vec![commit]).await, [Finished::Done]);
    let marks = gavel.cluster.servers()[1]
        .sql(bank::DATABASE, "SELECT 1 FROM mark")
        .unwrap();
    assert_eq!(marks.len(), 1, "I5: applied once");
}

#[tokio::test(flavor = "multi_thread")]
async fn r1_does_not_exist_is_never_success_by_itself() {
    let gavel = Embedded::start(2).await;
    let shard = gavel.directory.shard(ShardTag(2)).expect("shard 2");
    let never_prepared = branch(fresh_batch(), 1, 5).gid;
    let commit = Finish {
        gid: never_prepared,
        kind: FinishKind::Commit,
    };
    let [finished] = &shard.finish(vec![commit]).await[..] else {
        panic!("one answer")
    };
    assert!(matches!(finished, Finished::Damaged { .. }), "{finished:?}");
    let damage = gavel.cluster.servers()[1].sql(bank::DATABASE, "SELECT kind FROM gavel.damage");
    assert_eq!(damage.unwrap(), vec![vec![Some("commit_lost".to_owned())]]);
}

#[tokio::test(flavor = "multi_thread")]
async fn r3_a_failed_guard_stops_prepare_and_commit_from_being_sent() {
    let gavel = Embedded::start_with(2, Limits::default(), |options| {
        options.setting("log_statement", "all")
    })
    .await;
    // The guard fails on the prepared shard, then at home.
    for (from, to) in [((1, 1), (2, 9_999)), ((1, 9_999), (2, 1))] {
        let answer = gavel.transfer(from, to, 1).await;
        assert!(matches!(answer.outcome, Outcome::Aborted(_)), "{answer:?}");
        if to.1 == 9_999 {
            let log = gavel.cluster.servers()[1].log_tail(2_000);
            assert!(
                !log.contains("PREPARE TRANSACTION"),
                "PREPARE was sent:\n{log}"
            );
        }
    }
    let decisions = "SELECT outcome FROM gavel.decision WHERE outcome = 'commit'";
    let rows = gavel.cluster.servers()[0]
        .sql(bank::DATABASE, decisions)
        .unwrap();
    assert_eq!(rows.len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn r3_a_vanished_participant_does_not_leave_a_decision_open() {
    let limits = Limits {
        lock_timeout_ms: 200,
        statement_timeout_ms: 500,
        idle_in_transaction_ms: 1_000,
        ..Limits::default()
    };
    let gavel = Embedded::start_with(1, limits.clone(), |options| options).await;
    let url = gavel.cluster.servers()[0].url(bank::DATABASE);
    let mut vanished = Target::from_url(&url, &limits)
        .unwrap()
        .connect()
        .await
        .unwrap();
    let batch = fresh_batch();
    let open = format!(
        "SELECT gavel.open_decision('{batch}', 1, '{{}}', '{{}}', '{{}}', '{{}}', '{{}}', 'local')"
    );
    let segments = vanished.run(|pipeline| {
        pipeline.run("BEGIN", &[]).run(&open, &[]).sync();
    });
    assert_eq!(segments.await.unwrap()[0].error, None);
    // Its socket stays open, and nothing is ever sent on it again.
    let home = gavel.directory.shard(ShardTag(1)).expect("home");
    let started = Instant::now();
    loop {
        match home.resolve(batch, FIRST).await {
            RegisterAnswer::Decision(decision) => {
                assert_eq!(decision, Decision::Abort);
                break;
            }
            other => assert!(started.elapsed() < Duration::from_secs(10), "{other:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn r5_a_late_duplicate_of_a_decide_loses_against_the_register() {
    let gavel = Embedded::start(2).await;
    let home = gavel.directory.shard(ShardTag(1)).expect("home");
    let batch = fresh_batch();
    let answer = home.resolve(batch, FIRST).await;
    assert_eq!(answer, RegisterAnswer::Decision(Decision::Abort));
    let member = branch(batch, 1, 5).members.remove(0);
    let decide = gavel_protocol::message::Decide {
        batch,
        incarnation: FIRST,
        prepared: vec![ShardTag(2)],
        principal: gavel_protocol::Principal::local(),
        isolation: Isolation::ReadCommitted,
        batch_safe: true,
        members: vec![member],
        failed: Vec::new(),
    };
    let decided = home.decide(decide).await.decided;
    assert!(
        matches!(decided, gavel_protocol::message::Decided::Aborted(_)),
        "the register said abort first: {decided:?}"
    );
    let marks = gavel.cluster.servers()[0]
        .sql(bank::DATABASE, "SELECT 1 FROM mark")
        .unwrap();
    assert_eq!(marks.len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn r11_principals_share_no_batch_and_settings_do_not_leak() {
    let gavel = Embedded::start(2).await;
    let submits = (0..60).map(|i: i64| {
        let gavel = &gavel;
        async move {
            let txid = gavel.mint(1);
            let account = i % ACCOUNTS;
            let transaction =
                bank::transfer(txid, (ShardTag(1), account), (ShardTag(2), account), 1);
            let principal = if i % 2 == 0 { "alice" } else { "bob" }
                .parse()
                .expect("a name");
            let submission = Submission {
                principal,
                ..submission(txid, transaction)
            };
            gavel.coordinator.submit(submission).await
        }
    });
    for answer in futures::future::join_all(submits).await {
        assert!(is_committed(&answer.outcome), "{answer:?}");
    }
    let ask = |sql: &str| gavel.cluster.servers()[0].sql(bank::DATABASE, sql).unwrap();
    let shared = "SELECT 1 FROM gavel.transaction GROUP BY batch HAVING count(*) > 1";
    assert!(!ask(shared).is_empty(), "batches did form");
    let mixed =
        "SELECT 1 FROM gavel.transaction GROUP BY batch HAVING count(DISTINCT principal) > 1";
    assert_eq!(ask(mixed).len(), 0, "two principals shared a batch");

    // Settings that would break every later transaction on the same connection, or weaken it.
    for setting in [
        "SET search_path = nowhere",
        "SET synchronous_commit = off",
        "SET ROLE NONE",
    ] {
        let statements = vec![Statement::new(setting, [""; 0])];
        let transaction = Transaction::new(vec![
            BranchWork::write(ShardTag(1), statements.clone()),
            BranchWork::write(ShardTag(2), statements),
        ]);
        let answer = gavel.submit(gavel.mint(1), transaction).await;
        assert!(is_committed(&answer.outcome), "{setting}: {answer:?}");
    }
    // A temporary table would stand in front of the real one for whoever comes next.
    for _ in 0..8 {
        let shadow = Statement::new("SELECT * INTO TEMP account FROM account", [""; 0]);
        let transaction = Transaction::new(vec![BranchWork::write(ShardTag(1), vec![shadow])]);
        let answer = gavel.submit(gavel.mint(1), transaction).await;
        assert!(is_committed(&answer.outcome), "{answer:?}");
    }
    let after = (0..30).map(|i| gavel.transfer((1, i), (2, i), 1));
    for answer in futures::future::join_all(after).await {
        assert!(
            is_committed(&answer.outcome),
            "a setting leaked: {answer:?}"
        );
    }
    gavel.books_at_rest().await.assert_sound(2);
}

#[tokio::test(flavor = "multi_thread")]
async fn r15_a_zombie_prepare_after_the_abort_is_rolled_back_by_the_scan() {
    let gavel = Embedded::start(2).await;
    let home = gavel.directory.shard(ShardTag(1)).expect("home");
    let shard = gavel.directory.shard(ShardTag(2)).expect("shard 2");
    let message = branch(fresh_batch(), 1, 5);
    let answer = home.resolve(message.gid.batch, FIRST).await;
    assert_eq!(answer, RegisterAnswer::Decision(Decision::Abort));
    let vote = shard.prepare(message).await.vote;
    assert!(matches!(vote, Vote::Yes { .. }), "{vote:?}");
    until("the zombie is gone", Duration::from_secs(10), || {
        prepared_on(&gavel, 1) == 0
    })
    .await;
    gavel.books_at_rest().await.assert_sound(2);
}

#[tokio::test(flavor = "multi_thread")]
async fn r17_an_embedded_deployment_resolves_at_its_next_start() {
    let gavel = Embedded::start(2).await;
    let message = branch(fresh_batch(), 1, 5);
    let shard = gavel.directory.shard(ShardTag(2)).expect("shard 2");
    assert!(matches!(
        shard.prepare(message).await.vote,
        Vote::Yes { .. }
    ));
    let again = gavel.restart().await;
    until("resolved at start", Duration::from_secs(10), || {
        prepared_on(&again, 1) == 0
    })
    .await;
    let answer = again.transfer((1, 1), (2, 1), 1).await;
    assert!(is_committed(&answer.outcome), "{answer:?}");
    again.books_at_rest().await.assert_sound(2);
}

#[tokio::test(flavor = "multi_thread")]
async fn f2_a_cancelled_wait_for_standbys_is_unknown_not_yes() {
    let gavel = Embedded::start(2).await;
    let server = &gavel.cluster.servers()[1];
    let shard = gavel.directory.shard(ShardTag(2)).expect("shard 2").clone();
    // Opens and warms the connection before the standby is missed.
    assert!(is_committed(
        &gavel.transfer((1, 1), (2, 1), 1).await.outcome
    ));
    gavel.books_at_rest().await.assert_sound(2);
    let set = |value: &str| {
        let alter = format!("ALTER SYSTEM SET synchronous_standby_names = '{value}'");
        server.sql(bank::DATABASE, &alter).expect("alter");
        server
            .sql(bank::DATABASE, "SELECT pg_reload_conf()")
            .expect("reload");
    };
    set("nobody");
    let waiting = "SELECT pid FROM pg_stat_activity WHERE wait_event = 'SyncRep' \
                   AND query LIKE 'PREPARE%'";
    let ask = |sql: &str| server.sql("postgres", sql).unwrap_or_default();
    // The checkpointer tells the others of the setting in its own time: until it has, PREPARE
    // does not wait.
    let started = Instant::now();
    let vote = loop {
        let (shard, message) = (shard.clone(), branch(fresh_batch(), 2, 5));
        let gid = message.gid.clone();
        let vote = tokio::spawn(async move { shard.prepare(message).await.vote });
        while !vote.is_finished() && ask(waiting).is_empty() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        if !vote.is_finished() {
            break vote;
        }
        assert!(
            started.elapsed() < Duration::from_secs(10),
            "PREPARE never waited"
        );
        set("");
        server
            .sql("postgres", "SELECT 1")
            .expect("the server answers");
        let rollback = Finish {
            gid,
            kind: FinishKind::Rollback,
        };
        let shard = gavel.directory.shard(ShardTag(2)).expect("shard 2");
        assert_eq!(shard.finish(vec![rollback]).await, [Finished::Done]);
        set("nobody");
    };
    ask(&format!("SELECT pg_cancel_backend(pid) FROM ({waiting}) w"));
    let vote = vote.await.expect("the vote");
    assert!(matches!(vote, Vote::Unknown { .. }), "facts 2: {vote:?}");
    set("");
    until("resolved", Duration::from_secs(15), || {
        prepared_on(&gavel, 1) == 0
    })
    .await;
    gavel.books_at_rest().await.assert_sound(2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deferred_check_that_waits_for_a_prepared_branch_ends() {
    let gavel = Embedded::start(2).await;
    // Somebody's prepared branch holds the key that home's deferred check needs at COMMIT.
    let server = &gavel.cluster.servers()[0];
    let blocker =
        "BEGIN; UPDATE account SET id = 4711 WHERE id = 7; PREPARE TRANSACTION 'not-ours'";
    server.sql(bank::DATABASE, blocker).unwrap();
    let insert = Statement::new("INSERT INTO late VALUES (1, 7)", [""; 0]);
    let transaction = Transaction::new(vec![
        BranchWork::write(ShardTag(1), vec![insert.clone()]),
        BranchWork::write(ShardTag(2), vec![insert]),
    ]);
    let started = Instant::now();
    let answer = gavel.submit(gavel.mint(1), transaction).await;
    let Outcome::Refused(why) = &answer.outcome else {
        panic!("{answer:?}")
    };
    assert_eq!(why.code, RefusalCode::LockTimeout);
    assert!(
        started.elapsed() < Duration::from_secs(5),
        "the wait is bounded"
    );
    server
        .sql(bank::DATABASE, "ROLLBACK PREPARED 'not-ours'")
        .unwrap();
    gavel.books_at_rest().await.assert_sound(2);
}

#[tokio::test(flavor = "multi_thread")]
async fn ddl_makes_no_transaction_fail_for_good() {
    let gavel = Embedded::start(2).await;
    let submit = || async {
        let update = "UPDATE account SET balance = balance WHERE id = 1 RETURNING *";
        let statements = vec![Statement::new(update, [""; 0])];
        let transaction = Transaction::new(vec![
            BranchWork::write(ShardTag(1), statements.clone()),
            BranchWork::write(ShardTag(2), statements),
        ]);
        gavel.submit(gavel.mint(1), transaction).await
    };
    assert!(is_committed(&submit().await.outcome));
    for server in gavel.cluster.servers() {
        server
            .sql(bank::DATABASE, "ALTER TABLE account ADD COLUMN note text")
            .unwrap();
    }
    // The connections' prepared statements are stale; each try replaces one.
    for _ in 0..4 {
        match submit().await.outcome {
            Outcome::Committed { .. } => return,
            Outcome::Refused(why) => assert!(why.is_retryable(), "{why}"),
            other => panic!("DDL is not the transaction's fault: {other:?}"),
        }
    }
    panic!("stale statements were never replaced");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_wait_ends_and_does_not_spread() {
    let gavel = Embedded::start(2).await;
    let server = &gavel.cluster.servers()[1];
    let (client, connection) =
        tokio_postgres::connect(&server.url(bank::DATABASE), tokio_postgres::NoTls)
            .await
            .unwrap();
    tokio::spawn(connection);
    client
        .batch_execute("BEGIN; SELECT * FROM account WHERE id = 7 FOR UPDATE")
        .await
        .unwrap();
    let started = Instant::now();
    let stuck = gavel.transfer((1, 7), (2, 7), 1);
    let neighbours = async {
        // Another lane: home 2, and rows that nobody holds.
        let others = (10..20).map(|i| gavel.transfer((2, i), (1, i), 1));
        let answers = futures::future::join_all(others).await;
        (answers, started.elapsed())
    };
    let (stuck, (others, others_took)) = tokio::join!(stuck, neighbours);
    let Outcome::Refused(why) = &stuck.outcome else {
        panic!("{stuck:?}")
    };
    assert_eq!(why.code, RefusalCode::LockTimeout);
    assert!(
        started.elapsed() < Duration::from_secs(5),
        "the wait is bounded"
    );
    assert!(
        others.iter().all(|answer| is_committed(&answer.outcome)),
        "{others:?}"
    );
    assert!(
        others_took < Duration::from_millis(900),
        "others waited for it: {others_took:?}"
    );
    client.batch_execute("ROLLBACK").await.unwrap();
    let again = gavel.transfer((1, 7), (2, 7), 1).await;
    assert!(is_committed(&again.outcome), "{again:?}");
    gavel.books_at_rest().await.assert_sound(2);
}

#[tokio::test(flavor = "multi_thread")]
async fn hot_rows_crossed_both_ways_keep_moving() {
    let gavel = Arc::new(Embedded::start(2).await);
    let until = Instant::now() + Duration::from_secs(4);
    let mut clients = tokio::task::JoinSet::new();
    for client in 0..16_u32 {
        let gavel = gavel.clone();
        clients.spawn(async move {
            let mut committed = 0;
            let mut number = i64::from(client);
            while Instant::now() < until {
                // Two accounts a shard; homes cross, which makes cross-shard deadlocks.
                let (from, to) = if number % 2 == 0 { (1, 2) } else { (2, 1) };
                let answer = gavel
                    .transfer((from, number % 2), (to, (number / 2) % 2), 1)
                    .await;
                committed += u32::from(is_committed(&answer.outcome));
                number += 7;
            }
            committed
        });
    }
    let committed: u32 = clients.join_all().await.into_iter().sum();
    assert!(committed > 20, "it froze: {committed} in 4 s");
    gavel.books_at_rest().await.assert_sound(2);
}

#[tokio::test(flavor = "multi_thread")]
async fn r12_exhausted_slots_are_an_early_refusal_and_recovery_still_works() {
    let gavel = Embedded::start_with(2, Limits::default(), |mut options| {
        options.max_prepared_transactions = 2;
        options
    })
    .await;
    // Somebody else holds one slot; one of two is the home's share.
    let foreign = "BEGIN; INSERT INTO late VALUES (1, 1); PREPARE TRANSACTION 'not-ours'";
    gavel.cluster.servers()[1]
        .sql(bank::DATABASE, foreign)
        .unwrap();
    let transfers = (0..50).map(|i| gavel.transfer((1, i), (2, i), 1));
    for answer in futures::future::join_all(transfers).await {
        match &answer.outcome {
            Outcome::Committed { .. } => {}
            Outcome::Refused(why) => assert!(why.is_retryable(), "{why}"),
            other => panic!("{other:?}"),
        }
    }
    let ours = "SELECT 1 FROM pg_prepared_xacts WHERE gid LIKE 'gavel:%'";
    let ask = |sql: &str| gavel.cluster.servers()[1].sql(bank::DATABASE, sql).unwrap();
    until("ours are finished", Duration::from_secs(10), || {
        ask(ours).is_empty()
    })
    .await;
    assert_eq!(
        ask("SELECT gid FROM pg_prepared_xacts").len(),
        1,
        "I6: foreign gids are untouched"
    );
    ask("ROLLBACK PREPARED 'not-ours'");
    gavel.books_at_rest().await.assert_sound(2);
}

#[tokio::test(flavor = "multi_thread")]
async fn r13_a_branch_meant_for_another_shard_is_refused() {
    let gavel = Embedded::start(2).await;
    let wrong = gavel.directory.shard(ShardTag(1)).expect("shard 1");
    let answer = wrong.prepare(branch(fresh_batch(), 1, 5)).await;
    assert!(matches!(answer.vote, Vote::No(_)), "{:?}", answer.vote);
    // A directory whose addresses are crossed never becomes ready, and commits nothing.
    let crossed = Directory::new([
        Arc::new(Crossed(gavel.participants[1].clone(), ShardTag(1))) as Arc<dyn Participant>,
        Arc::new(Crossed(gavel.participants[0].clone(), ShardTag(2))),
    ]);
    let coordinator = Coordinator::start(gavel.shards.clone(), crossed, gavel.limits.clone());
    let txid = gavel.mint(1);
    let transfer = bank::transfer(txid, (ShardTag(1), 1), (ShardTag(2), 1), 1);
    let answer = coordinator.submit(submission(txid, transfer)).await;
    assert!(matches!(answer.outcome, Outcome::Refused(_)), "{answer:?}");
    gavel.books_at_rest().await.assert_sound(2);
}

/// A participant under a wrong tag, as a mistaken address would give.
struct Crossed(LocalParticipant, ShardTag);

macro_rules! forward {
    ($($name:ident($($arg:ident: $type:ty),*) -> $out:ty;)+) => {
        #[async_trait::async_trait]
        impl Participant for Crossed {
            fn tag(&self) -> ShardTag { self.1 }
            $(async fn $name(&self, $($arg: $type),*) -> $out { self.0.$name($($arg),*).await })+
        }
    };
}

use gavel_participant::{Attendance, Unavailable};
use gavel_protocol::Principal;
use gavel_protocol::message::*;

forward! {
    identity() -> Result<ShardIdentity, Unavailable>;
    attend(driver: DriverId) -> Result<Arc<dyn Attendance>, Unavailable>;
    prepare(message: Prepare) -> PrepareAnswer;
    decide(message: Decide) -> DecideAnswer;
    finish(branches: Vec<Finish>) -> Vec<Finished>;
    resolve(batch: BatchId, incarnation: Incarnation) -> RegisterAnswer;
    look_up_decisions(batches: Vec<BatchId>) -> Vec<RegisterAnswer>;
    look_up_branches(batches: Vec<BatchId>) -> Result<Vec<BranchRow>, Unavailable>;
    record_aborts(record: RecordAborts) -> RecordAnswer;
    status(txid: Txid, asker: Option<Principal>) -> StatusAnswer;
    session_open(open: SessionOpen, is_home: bool) -> SessionStep;
    session_execute(execute: SessionExecute) -> Executed;
    session_prepare(batch: BatchId) -> Vote;
    session_enter_decision(decide: Decide) -> SessionStep;
    session_commit(batch: BatchId) -> Decided;
    session_rollback(batch: BatchId) -> SessionStep;
    in_doubt() -> Result<Vec<InDoubtBranch>, Unavailable>;
    resolve_now(gid: Gid) -> Result<Finished, Unavailable>;
    page_decisions(after: Option<BatchId>, limit: u32) -> Result<Vec<DecisionRow>, Unavailable>;
    page_branches(after: Option<BatchId>, limit: u32) -> Result<Vec<BranchRow>, Unavailable>;
    retention() -> Result<Retention, Unavailable>;
}
