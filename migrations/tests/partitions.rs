//! R14: partitions ahead of time, beside prepared branches.

mod common;

use common::{
    Shard, decide, force_abort, id_at, open_branch, partitions, prepare_branch, run, sqlstate, text,
};

const DAY: i64 = 24 * 3600;

#[tokio::test]
async fn r14_partitions_are_created_once_and_beside_prepared_branches() {
    let shard = Shard::start().await;
    let mut participant = shard.participant().await;
    prepare_branch(&mut participant, id_at(0)).await;

    // A lock that queues behind the branch would run into this.
    run(&mut participant, "SET lock_timeout = '2s'")
        .await
        .expect("set");
    let grow = "gavel.ensure_partitions(3, 9)";
    assert_eq!(text(&mut participant, grow).await.as_deref(), Some("3"));
    assert_eq!(text(&mut participant, grow).await.as_deref(), Some("0"));
    let mut admin = shard.admin().await;
    for table in ["decision", "transaction", "branch"] {
        assert_eq!(partitions(&mut admin, table).await.len(), 13, "{table}");
    }
    let default = "SELECT count(*) FROM pg_partitioned_table WHERE partdefid <> 0";
    assert_eq!(text(&mut admin, default).await.as_deref(), Some("0"));
    for wrong in ["-1, 7", "2, 0", "2, 401", "NULL, 7"] {
        let sql = format!("SELECT gavel.ensure_partitions({wrong})");
        assert_eq!(
            sqlstate(run(&mut participant, &sql).await),
            "22023",
            "{wrong}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn r14_concurrent_calls_create_each_day_once() {
    let shard = Shard::start().await;
    let mut calls = Vec::new();
    for _ in 0..8 {
        let mut participant = shard.participant().await;
        calls.push(tokio::spawn(async move {
            text(&mut participant, "gavel.ensure_partitions(2, 12)").await
        }));
    }
    let mut created = 0;
    for call in calls {
        let days = call.await.expect("no error").expect("a number");
        created += days.parse::<i32>().expect("a number");
    }
    assert_eq!(created, 5);
}

/// A missing partition says which one and what to run; running it helps.
#[tokio::test]
async fn r14_a_missing_partition_is_a_clear_error() {
    let shard = Shard::start().await;
    let mut admin = shard.admin().await;
    let tomorrow = id_at(DAY - 60);
    run(
        &mut admin,
        "DO $$ DECLARE t text; d int := gavel.day_of(gavel.uuid_at(gavel.now_ms())); BEGIN \
           FOREACH t IN ARRAY ARRAY['decision', 'transaction', 'branch'] LOOP \
             FOR i IN 1..7 LOOP EXECUTE 'DROP TABLE gavel.' || gavel.partition_name(t, d + i); \
             END LOOP; END LOOP; END $$; \
         UPDATE gavel.identity SET partitions_until = \
           gavel.uuid_at((gavel.day_of(gavel.uuid_at(gavel.now_ms())) + 1) * 86400000::bigint)",
    )
    .await
    .expect("as if nobody had renewed them for a week");
    let mut home = shard.participant().await;
    assert_eq!(sqlstate(open_branch(&mut home, tomorrow).await), "GV005");
    assert_eq!(
        sqlstate(decide(&mut home, tomorrow, &[id_at(0)]).await),
        "GV005"
    );
    assert_eq!(
        sqlstate(decide(&mut home, id_at(0), &[tomorrow]).await),
        "GV005"
    );
    let error = force_abort(&mut home, tomorrow)
        .await
        .expect_err("no partition");
    let database = error.as_database_error().expect("from the server");
    let error = database.downcast_ref::<sqlx::postgres::PgDatabaseError>();
    assert_eq!(error.code(), "GV005");
    let hint = error.hint().expect("a hint");
    let sql = hint.strip_prefix("Run: ").expect("a statement");
    run(&mut home, sql).await.expect("the hint works");
    force_abort(&mut home, tomorrow).await.expect("and helps");
    open_branch(&mut home, tomorrow).await.expect("and helps");
    let old = decide(&mut home, id_at(0), &[id_at(-30 * DAY)]).await;
    assert_eq!(
        sqlstate(old),
        "GV002",
        "a txid older than all partitions is too old"
    );
}

/// After a long stop the days in between are there, so that their branches can be resolved.
#[tokio::test]
async fn r14_a_gap_is_filled() {
    let shard = Shard::start().await;
    let mut admin = shard.admin().await;
    run(
        &mut admin,
        "DO $$ DECLARE t text; d int := gavel.day_of(gavel.uuid_at(gavel.now_ms())); BEGIN \
           FOREACH t IN ARRAY ARRAY['decision', 'transaction', 'branch'] LOOP \
             FOR i IN -2..7 LOOP EXECUTE 'DROP TABLE gavel.' || gavel.partition_name(t, d + i); \
             END LOOP; END LOOP; \
           UPDATE gavel.identity SET partitions_until = gavel.uuid_at((d - 12) * 86400000::bigint); \
         END $$",
    )
    .await
    .expect("as if the last call was 20 days ago");
    let mut home = shard.participant().await;
    assert_eq!(
        text(&mut home, "gavel.ensure_partitions(2, 7)")
            .await
            .as_deref(),
        Some("20")
    );
    force_abort(&mut home, id_at(-11 * DAY))
        .await
        .expect("a branch of the stop");
}
