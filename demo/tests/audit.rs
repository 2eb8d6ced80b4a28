//! The audit finds what is wrong, and nothing else, also while money is moving.

mod support;

use futures::future::join;
use gavel_demo::OpenError;
use rand::Rng as _;
use reqwest::StatusCode;
use support::World;

#[tokio::test(flavor = "multi_thread")]
async fn the_sum_is_exact_while_money_moves() {
    let world = World::start(2).await;
    let mut accounts = Vec::new();
    for _ in 0..8 {
        accounts.push(world.account(10_000).await);
    }
    let moving = async {
        for number in 0..60 {
            let from = rand::rng().random_range(0..accounts.len());
            let to = (from + rand::rng().random_range(1..accounts.len())) % accounts.len();
            let key = format!("move {number}");
            let (status, answer) = world
                .transfer(&key, &accounts[from], &accounts[to], 7)
                .await;
            assert_eq!(status, StatusCode::CREATED, "{answer}");
        }
    };
    let auditing = async {
        for _ in 0..15 {
            let audit = world.audit().await;
            assert_eq!(audit["balanced"], true, "{audit}");
            assert_eq!(audit["total"]["balance"], 80_000, "{audit}");
        }
    };
    join(moving, auditing).await;
    let audit = world.audit().await;
    assert_eq!(audit["total"]["transfers"], 60, "{audit}");
    assert_eq!(audit["total"]["debits"], 60);
    assert_eq!(audit["total"]["credits"], 60);
    assert_eq!(audit["in_flight"], 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn half_a_transfer_and_a_changed_balance_are_found() {
    let world = World::start(2).await;
    let [from, to] = world.two_accounts([1_000, 0], false).await;
    world.transfer("k", &from, &to, 100).await;
    assert_eq!(world.audit().await["balanced"], true);

    // Somebody takes money by hand.
    let sql = format!("UPDATE accounts SET balance = balance - 1 WHERE id = '{from}'");
    world.sql_everywhere(&sql);
    let audit = world.audit().await;
    assert_eq!(audit["balanced"], false, "{audit}");
    assert_eq!(audit["mismatches"], 1);
    assert_eq!(audit["total"]["balance"], 999);
    world.sql_everywhere(&sql.replace("- 1", "+ 1"));
    assert_eq!(world.audit().await["balanced"], true);

    // The payee's half is lost, as a failover that forgets it would do.
    world.sql_everywhere("DELETE FROM transfers WHERE amount > 0");
    world.sql_everywhere(&format!(
        "UPDATE accounts SET balance = 0 WHERE id = '{to}'"
    ));
    let audit = world.audit().await;
    assert_eq!(audit["balanced"], false, "{audit}");
    assert_eq!(audit["mismatches"], 1, "{audit}");
    assert_eq!(audit["total"]["balance"], 900, "{audit}");
}

#[tokio::test(flavor = "multi_thread")]
async fn accounts_are_not_looked_for_where_they_are_not() {
    let world = World::start(2).await;
    let mut turned = world.shards.clone();
    turned.reverse();
    world
        .open_bank(turned)
        .await
        .expect("the order of configuration does not matter");
    let fewer = world.shards[..1].to_vec();
    let refused = world
        .open_bank(fewer)
        .await
        .expect_err("another list of shards");
    assert!(
        matches!(refused, OpenError::OtherPlacement { .. }),
        "{refused}"
    );
    let twice = [world.shards.clone(), world.shards.clone()].concat();
    let refused = world.open_bank(twice).await.expect_err("a shard twice");
    assert!(matches!(refused, OpenError::Shards(_)), "{refused}");
}
