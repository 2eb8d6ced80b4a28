//! The register: decisions, forced aborts, outcomes, and branches that run once.

mod common;

use common::{
    Shard, decide, floor_call, force_abort, gid, id_at, open_branch, outcome, pid, run, sqlstate,
    text, until_blocked, within,
};
use sqlx::postgres::PgConnection;
use uuid::Uuid;

/// R1: the second execution of a batch on a shard fails, also while the first is prepared.
#[tokio::test]
async fn r1_a_batch_runs_once_per_shard() {
    let shard = Shard::start().await;
    let mut first = shard.participant().await;
    let mut second = shard.participant().await;
    let batch = id_at(0);
    run(&mut first, "BEGIN").await.expect("begin");
    open_branch(&mut first, batch).await.expect("open_branch");
    run(&mut first, &format!("PREPARE TRANSACTION '{}'", gid(batch)))
        .await
        .expect("prepare");
    assert_eq!(
        applied(&mut second, batch).await,
        0,
        "prepared is not applied"
    );

    run(&mut second, "SET lock_timeout = '20ms'")
        .await
        .expect("set");
    let waits = open_branch(&mut second, batch).await;
    assert_eq!(sqlstate(waits), "55P03", "waits for the prepared branch");
    run(&mut first, &format!("COMMIT PREPARED '{}'", gid(batch)))
        .await
        .expect("commit");
    assert_eq!(sqlstate(open_branch(&mut second, batch).await), "23505");
    assert_eq!(applied(&mut second, batch).await, 1);

    let page = "SELECT string_agg(concat_ws(' ', batch, home_tag, home_incarnation, gid), ',') \
                FROM gavel.page_branches(NULL, 10)";
    let expected = format!("{batch} 2 1 {}", gid(batch));
    assert_eq!(text(&mut second, page).await, Some(expected));
}

async fn applied(connection: &mut PgConnection, batch: Uuid) -> usize {
    sqlx::query("SELECT * FROM gavel.applied_branches($1)")
        .bind(vec![batch, batch])
        .fetch_all(connection)
        .await
        .expect("applied_branches")
        .len()
}

/// R4, R7: the resolver waits for a working home and then loses.
#[tokio::test]
async fn r4_a_resolver_waits_for_a_decide_in_flight_and_loses() {
    let shard = Shard::start().await;
    let mut observer = shard.admin().await;
    let mut home = shard.participant().await;
    let mut resolver = shard.participant().await;
    let batch = id_at(0);
    run(&mut home, "BEGIN").await.expect("begin");
    decide(&mut home, batch, &[id_at(0)]).await.expect("decide");

    run(&mut resolver, "SET lock_timeout = '20ms'")
        .await
        .expect("set");
    assert_eq!(
        sqlstate(force_abort(&mut resolver, batch).await),
        "55P03",
        "the wait has an end"
    );
    assert_eq!(outcome(&mut resolver, batch).await, None, "not decided yet");

    run(&mut resolver, "SET lock_timeout = 0")
        .await
        .expect("set");
    let (home_pid, resolver_pid) = (pid(&mut home).await, pid(&mut resolver).await);
    let waiting = tokio::spawn(async move {
        force_abort(&mut resolver, batch)
            .await
            .expect("no error, it only loses");
        outcome(&mut resolver, batch).await
    });
    until_blocked(&mut observer, resolver_pid, home_pid).await;
    run(&mut home, "COMMIT").await.expect("commit");
    let seen = within("the resolver", waiting).await.expect("no panic");
    assert_eq!(seen.as_deref(), Some("commit"));
}

/// R4, R7: the other order. The coordinator's decide loses whole.
#[tokio::test]
async fn r4_a_decide_waits_for_a_resolver_and_loses_whole() {
    let shard = Shard::start().await;
    let mut observer = shard.admin().await;
    let mut home = shard.participant().await;
    let mut resolver = shard.participant().await;
    let (batch, txid) = (id_at(0), id_at(0));
    run(&mut resolver, "BEGIN").await.expect("begin");
    force_abort(&mut resolver, batch)
        .await
        .expect("force_abort");

    let (home_pid, resolver_pid) = (pid(&mut home).await, pid(&mut resolver).await);
    let waiting = tokio::spawn(async move { decide(&mut home, batch, &[txid]).await });
    until_blocked(&mut observer, home_pid, resolver_pid).await;
    run(&mut resolver, "COMMIT").await.expect("commit");
    let lost = within("the decide", waiting).await.expect("no panic");
    assert_eq!(sqlstate(lost), "23505");
    assert_eq!(
        outcome(&mut resolver, batch).await.as_deref(),
        Some("abort")
    );
    let rows = format!("SELECT count(*) FROM gavel.read_transactions('{{{txid}}}')");
    assert_eq!(text(&mut resolver, &rows).await.as_deref(), Some("0"));
    force_abort(&mut resolver, batch)
        .await
        .expect("again changes nothing");
}

/// R4: rows are inserted in the order of their txids, whatever order they came in, so that two
/// tries at the same txids meet without a deadlock.
#[tokio::test]
async fn r4_transaction_rows_are_written_in_txid_order() {
    let shard = Shard::start().await;
    let mut home = shard.participant().await;
    let mut txids: Vec<Uuid> = (0..20).map(|_| id_at(0)).collect();
    txids.sort_unstable_by(|a, b| b.cmp(a));
    decide(&mut home, id_at(0), &txids).await.expect("decide");
    let aborted: Vec<Uuid> = txids.iter().map(|_| id_at(-1)).rev().collect();
    sqlx::query("SELECT gavel.record_aborts(NULL, 1, $1, $2, $3, 'alice')")
        .bind(&aborted)
        .bind(vec![vec![7_u8]; aborted.len()])
        .bind(vec!["guard"; aborted.len()])
        .execute(&mut home)
        .await
        .expect("record_aborts");

    let mut admin = shard.admin().await;
    for outcome in ["committed", "aborted"] {
        let written: Vec<Uuid> = sqlx::query_scalar(
            "SELECT txid FROM gavel.transaction WHERE outcome = $1 ORDER BY tableoid, ctid",
        )
        .bind(outcome)
        .fetch_all(&mut admin)
        .await
        .expect("rows");
        assert_eq!(written.len(), 20);
        assert!(written.is_sorted(), "{outcome}");
    }
}

/// txid, outcome, request hash, principal, reason.
type TransactionRow = (Uuid, String, Vec<u8>, String, Option<String>);

/// R8: one outcome per txid; a try that meets a recorded txid loses whole, an abort keeps out.
#[tokio::test]
async fn r8_a_txid_has_one_outcome() {
    let shard = Shard::start().await;
    let mut home = shard.participant().await;
    let (txid, other) = (id_at(0), id_at(0));
    decide(&mut home, id_at(0), &[txid]).await.expect("decide");
    let second = id_at(0);
    assert_eq!(
        sqlstate(decide(&mut home, second, &[other, txid]).await),
        "23505"
    );
    assert_eq!(
        outcome(&mut home, second).await,
        None,
        "the decision went with it"
    );

    sqlx::query("SELECT gavel.record_aborts($1, 1, $2, $3, $4, 'bob')")
        .bind(None::<Uuid>)
        .bind(vec![txid, other])
        .bind(vec![vec![1_u8], vec![2_u8]])
        .bind(vec!["patience", "patience"])
        .execute(&mut home)
        .await
        .expect("record_aborts");
    let rows: Vec<TransactionRow> = sqlx::query_as(
        "SELECT txid, outcome, request_hash, principal, reason FROM gavel.read_transactions($1) \
         ORDER BY outcome DESC",
    )
    .bind(vec![txid, other])
    .fetch_all(&mut home)
    .await
    .expect("read_transactions");
    let kept = (
        txid,
        "committed".to_owned(),
        vec![7],
        "alice".to_owned(),
        None,
    );
    let bobs = "bob".to_owned();
    let new = (
        other,
        "aborted".to_owned(),
        vec![2],
        bobs,
        Some("patience".to_owned()),
    );
    assert_eq!(rows, [kept, new]);
    assert_eq!(
        sqlstate(decide(&mut home, id_at(0), &[other]).await),
        "23505"
    );
}

/// R13: every write names the incarnation it believes in. A new one refuses the old, and its
/// birth is its floor.
#[tokio::test]
async fn r13_writes_for_another_incarnation_are_refused() {
    let shard = Shard::start().await;
    let mut home = shard.participant().await;
    let mut operator = shard.admin().await;
    let before = id_at(-2);
    assert_eq!(
        text(&mut operator, "gavel.new_incarnation('test')")
            .await
            .as_deref(),
        Some("2")
    );
    assert_eq!(sqlstate(open_branch(&mut home, id_at(0)).await), "GV001");
    assert_eq!(
        sqlstate(decide(&mut home, id_at(0), &[id_at(0)]).await),
        "GV001"
    );
    assert_eq!(sqlstate(force_abort(&mut home, id_at(0)).await), "GV001");
    let abort = |i: i64, txid: Uuid| {
        format!("SELECT gavel.record_aborts(NULL, {i}, '{{{txid}}}', '{{x}}', '{{y}}', 'p')")
    };
    assert_eq!(sqlstate(run(&mut home, &abort(1, id_at(0))).await), "GV001");

    let decide_again = |txid: Uuid| {
        let batch = id_at(1);
        format!(
            "SELECT gavel.open_decision('{batch}', 2, '{{}}', '{{{txid}}}', '{{committed}}', '{{x}}', '{{NULL}}', 'p')"
        )
    };
    assert_eq!(
        sqlstate(run(&mut home, &decide_again(before)).await),
        "GV002"
    );
    assert_eq!(sqlstate(run(&mut home, &abort(2, before)).await), "GV002");
    run(&mut home, &decide_again(id_at(1)))
        .await
        .expect("later ids work");

    run(&mut operator, "DELETE FROM gavel.identity")
        .await
        .expect("unclaim");
    assert_eq!(sqlstate(open_branch(&mut home, id_at(0)).await), "GV004");
    assert_eq!(
        sqlstate(decide(&mut home, id_at(0), &[id_at(0)]).await),
        "GV004"
    );
    assert_eq!(
        sqlstate(run(&mut home, "SELECT * FROM gavel.prepared()").await),
        "GV004"
    );
}

/// R13: no decide that checked the old incarnation commits after the new one is born.
#[tokio::test]
async fn r13_a_new_incarnation_waits_for_decides_in_flight() {
    let shard = Shard::start().await;
    let mut observer = shard.admin().await;
    let mut operator = shard.admin().await;
    let mut home = shard.participant().await;
    run(&mut home, "BEGIN").await.expect("begin");
    decide(&mut home, id_at(0), &[id_at(0)])
        .await
        .expect("decide");
    let (home_pid, operator_pid) = (pid(&mut home).await, pid(&mut operator).await);
    let birth =
        tokio::spawn(async move { text(&mut operator, "gavel.new_incarnation('test')").await });
    until_blocked(&mut observer, operator_pid, home_pid).await;
    run(&mut home, "COMMIT").await.expect("commit");
    let born = within("the birth", birth).await.expect("no panic");
    assert_eq!(born.as_deref(), Some("2"));
}

/// R14: ids far from this database's clock are not executed, but an old branch's abort is.
#[tokio::test]
async fn r14_batches_far_from_the_clock_are_refused() {
    let shard = Shard::start().await;
    let mut home = shard.participant().await;
    let day = 24 * 3600;
    for far in [-day - 60, day + 60] {
        assert_eq!(sqlstate(open_branch(&mut home, id_at(far)).await), "GV003");
        assert_eq!(
            sqlstate(decide(&mut home, id_at(far), &[id_at(0)]).await),
            "GV003"
        );
    }
    for near in [60 - day, day - 60] {
        open_branch(&mut home, id_at(near))
            .await
            .expect("within a day");
        decide(&mut home, id_at(near), &[id_at(0)])
            .await
            .expect("within a day");
    }
    let old = id_at(-day - 60);
    force_abort(&mut home, old)
        .await
        .expect("a resolver's abort has no age limit");
    assert_eq!(outcome(&mut home, old).await.as_deref(), Some("abort"));
    floor_call(&mut home, "raise_floor", id_at(-10))
        .await
        .expect("raise");
    force_abort(&mut home, id_at(-60))
        .await
        .expect("nor does the floor stop it");
}

/// R15, R12: only our own prepared branches are listed; others are counted and left alone.
#[tokio::test]
async fn r15_prepared_lists_our_branches_with_their_age() {
    let shard = Shard::start().await;
    let mut admin = shard.admin().await;
    let batch = id_at(0);
    for name in [
        gid(batch),
        "gavel:tests:2:1:x:1".to_owned(),
        "xa".to_owned(),
    ] {
        let sql = format!("BEGIN; SELECT pg_current_xact_id(); PREPARE TRANSACTION '{name}'");
        run(&mut admin, &sql).await.expect("prepare");
    }
    shard.server.create_database("elsewhere").expect("database");
    let elsewhere = "BEGIN; PREPARE TRANSACTION 'gavel:test:2:1:y:1'";
    let mut neighbour = common::connect(&shard.server.url("elsewhere")).await;
    run(&mut neighbour, elsewhere).await.expect("prepare");

    let mut participant = shard.participant().await;
    let ours: Vec<(String, f64, String)> =
        sqlx::query_as("SELECT gid, age_seconds, xid FROM gavel.prepared()")
            .fetch_all(&mut participant)
            .await
            .expect("prepared");
    assert_eq!(ours.len(), 1, "{ours:?}");
    let (name, age, xid) = &ours[0];
    assert_eq!(*name, gid(batch));
    assert!((0.0..60.0).contains(age), "{age}");
    assert!(xid.parse::<u32>().is_ok(), "{xid}");
    assert_eq!(
        text(&mut participant, "gavel.foreign_prepared()")
            .await
            .as_deref(),
        Some("2")
    );
}

/// R16: the same damage is reported once.
#[tokio::test]
async fn r16_damage_is_new_once() {
    let shard = Shard::start().await;
    let mut participant = shard.participant().await;
    let batch = id_at(0);
    let record = format!(
        "gavel.record_damage('{batch}', '{}', 'lost', 'why')",
        gid(batch)
    );
    assert_eq!(
        text(&mut participant, &record).await.as_deref(),
        Some("true")
    );
    assert_eq!(
        text(&mut participant, &record).await.as_deref(),
        Some("false")
    );
    let unnamed = "gavel.record_damage(NULL, 'g', 'lost', NULL)";
    assert_eq!(
        text(&mut participant, unnamed).await.as_deref(),
        Some("true")
    );
    assert_eq!(
        text(&mut participant, unnamed).await.as_deref(),
        Some("false")
    );
    let count = "SELECT count(*) FROM gavel.list_damage()";
    assert_eq!(text(&mut participant, count).await.as_deref(), Some("2"));
}

/// The auditor's pages come in the order of batch ids and leave nothing out.
#[tokio::test]
async fn r16_pages_walk_through_every_decision_once() {
    let shard = Shard::start().await;
    let mut home = shard.participant().await;
    let mut written: Vec<Uuid> = [-80_000, -40_000, 0, 40_000].map(id_at).to_vec();
    for batch in written.iter().rev() {
        decide(&mut home, *batch, &[id_at(0)])
            .await
            .expect("decide");
    }
    force_abort(&mut home, written[1]).await.expect("loses");
    written.sort_unstable();
    let (mut after, mut seen) = (None::<Uuid>, Vec::new());
    loop {
        let page: Vec<(Uuid, String, i64, Vec<i32>)> =
            sqlx::query_as("SELECT * FROM gavel.page_decisions($1, 3)")
                .bind(after)
                .fetch_all(&mut home)
                .await
                .expect("page");
        let Some(last) = page.last() else { break };
        after = Some(last.0);
        for (batch, outcome, incarnation, shards) in page {
            assert_eq!(
                (outcome.as_str(), incarnation, shards),
                ("commit", 1, vec![2])
            );
            seen.push(batch);
        }
    }
    assert_eq!(seen, written);
}
