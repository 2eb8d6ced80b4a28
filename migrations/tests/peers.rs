//! R13: which shards this one has to do with, and how one leaves.

mod common;

use common::{
    Shard, decide, force_abort, id_at, open_branch, outcome, prepare_branch, run, sqlstate, text,
};
use sqlx::postgres::PgConnection;

/// What is wrong with a configuration of these shards, as `tag name wrong`.
async fn wrong(home: &mut PgConnection, shards: &str) -> Vec<String> {
    let tags: Vec<i32> = shards
        .split(' ')
        .map(|shard| shard[1..].parse().expect("a number"))
        .collect();
    let names: Vec<String> = shards
        .split(' ')
        .map(|shard| shard[..1].to_owned())
        .collect();
    let sql = "SELECT tag || ' ' || shard || ' ' || wrong FROM gavel.know_peers($1, $2)";
    let asked = sqlx::query_scalar(sql).bind(tags).bind(names);
    asked.fetch_all(home).await.expect("an answer")
}

#[tokio::test]
async fn r13_no_configuration_loses_or_renames_a_shard() {
    let shard = Shard::start().await;
    let mut home = shard.participant().await;
    assert!(wrong(&mut home, "n1 s2").await.is_empty());
    assert!(wrong(&mut home, "n1 s2 w3").await.is_empty());
    assert_eq!(wrong(&mut home, "n1 s2").await, ["3 w missing"]);
    // Nothing of a configuration with anything wrong in it is noted.
    assert_eq!(wrong(&mut home, "n1 x2 w3 y9").await, ["2 s renamed"]);
    assert!(wrong(&mut home, "n1 s2 w3 z9").await.is_empty());

    let removed = text(&mut home, "gavel.remove_peer(3, 'moved')").await;
    assert_eq!(removed.as_deref(), Some("true"));
    assert!(wrong(&mut home, "n1 s2 z9").await.is_empty());
    assert_eq!(wrong(&mut home, "n1 s2 w3 z9").await, ["3 w removed"]);
    assert_eq!(wrong(&mut home, "n1 s2 q3 z9").await, ["3 w renamed"]);
    let unexplained = run(&mut home, "SELECT gavel.remove_peer(2, ' ')").await;
    assert_eq!(sqlstate(unexplained), "22023");
}

#[tokio::test]
async fn r13_a_shard_that_anything_names_is_not_removed() {
    let shard = Shard::start().await;
    let mut home = shard.participant().await;
    assert!(wrong(&mut home, "n1 s2 w3").await.is_empty());
    // `common` decides for shard 2, and its branches have home 2.
    decide(&mut home, id_at(0), &[id_at(0)])
        .await
        .expect("decide");
    let remove = "gavel.remove_peer(2, 'a test')";
    assert_eq!(text(&mut home, remove).await.as_deref(), Some("false"));
    let other = "gavel.remove_peer(3, 'a test')";
    assert_eq!(text(&mut home, other).await.as_deref(), Some("true"));

    let mut admin = shard.admin().await;
    let drop = "DELETE FROM gavel.decision; DELETE FROM gavel.transaction";
    run(&mut admin, drop).await.expect("delete");
    let batch = id_at(0);
    prepare_branch(&mut home, batch).await;
    assert_eq!(text(&mut home, remove).await.as_deref(), Some("false"));
    let gid = common::gid(batch);
    run(&mut home, &format!("ROLLBACK PREPARED '{gid}'"))
        .await
        .expect("roll back");
    assert_eq!(text(&mut home, remove).await.as_deref(), Some("true"));
}

#[tokio::test]
async fn r13_a_retired_shard_begins_nothing_and_still_resolves() {
    let shard = Shard::start().await;
    let mut home = shard.participant().await;
    decide(&mut home, id_at(0), &[id_at(0)])
        .await
        .expect("decide");
    assert_eq!(
        text(&mut home, "gavel.retire('test')").await.as_deref(),
        Some("false")
    );
    assert_eq!(
        text(&mut home, "gavel.is_retired()").await.as_deref(),
        Some("false")
    );
    let mut admin = shard.admin().await;
    let drop = "DELETE FROM gavel.decision; DELETE FROM gavel.transaction";
    run(&mut admin, drop).await.expect("delete");
    assert_eq!(
        text(&mut home, "gavel.retire('test')").await.as_deref(),
        Some("true")
    );
    assert_eq!(
        text(&mut home, "gavel.is_retired()").await.as_deref(),
        Some("true")
    );

    assert_eq!(sqlstate(open_branch(&mut home, id_at(0)).await), "GV002");
    let decided = decide(&mut home, id_at(0), &[id_at(0)]).await;
    assert_eq!(sqlstate(decided), "GV002");
    // Whoever prepared for it a moment ago still gets an answer.
    let batch = id_at(0);
    force_abort(&mut home, batch).await.expect("the register");
    assert_eq!(outcome(&mut home, batch).await.as_deref(), Some("abort"));
}
