//! Moving money through the API: what it does, and that repeating it does it once.

mod support;

use futures::future::join_all;
use reqwest::StatusCode;
use serde_json::json;
use support::{World, code};

#[tokio::test(flavor = "multi_thread")]
async fn money_moves_on_one_shard_and_across_two() {
    let world = World::start(2).await;
    for on_one_shard in [true, false] {
        let [from, to] = world.two_accounts([1_000, 50], on_one_shard).await;
        let key = format!("rent {on_one_shard}");
        let (status, transfer) = world.transfer(&key, &from, &to, 300).await;
        assert_eq!(status, StatusCode::CREATED, "{transfer}");
        assert_eq!(transfer["state"], "committed");
        assert_eq!(world.balance(&from).await, 700);
        assert_eq!(world.balance(&to).await, 350);
        let id = transfer["id"].as_str().unwrap();
        let shown = world.get(&format!("/transfers/{id}")).await;
        assert_eq!(shown, (StatusCode::OK, transfer.clone()));
        let rows = world.sql_everywhere(&format!(
            "SELECT count(*) FROM transfers WHERE txid = '{id}'"
        ));
        if on_one_shard {
            assert!(rows == ["2", "0"] || rows == ["0", "2"], "{rows:?}");
        } else {
            assert_eq!(rows, ["1", "1"]);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_stands_for_one_transfer() {
    let world = World::start(2).await;
    let [from, to] = world.two_accounts([1_000, 0], false).await;
    let first = world.transfer("k", &from, &to, 100).await;
    assert_eq!(first.0, StatusCode::CREATED, "{}", first.1);

    // Again, here and through an API that was started anew.
    assert_eq!(world.transfer("k", &from, &to, 100).await, first);
    let restarted = world.start_api().await;
    let body = json!({"from": from, "to": to, "amount": 100}).to_string();
    assert_eq!(world.post_transfer(&restarted, "k", body).await, first);
    assert_eq!(world.balance(&from).await, 900);

    // Other content.
    let other = world.account(0).await;
    for (payee, amount) in [(&to, 101), (&other, 100)] {
        let reused = world.transfer("k", &from, payee, amount).await;
        assert_eq!(code(&reused), "idempotency_key_reused");
        assert_eq!(reused.0, StatusCode::UNPROCESSABLE_ENTITY);
    }
    assert_eq!(world.balance(&from).await, 900);

    // Another key, and the same key of another payer, are other transfers.
    assert_eq!(
        world.transfer("k2", &from, &to, 100).await.0,
        StatusCode::CREATED
    );
    assert_eq!(
        world.transfer("k", &to, &from, 50).await.0,
        StatusCode::CREATED
    );
    assert_eq!(world.balance(&from).await, 850);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_sent_many_times_at_once_moves_money_once() {
    let world = World::start(2).await;
    let [from, to] = world.two_accounts([1_000, 0], false).await;
    let second_api = world.start_api().await;
    let body = json!({"from": from, "to": to, "amount": 70}).to_string();
    let sending = (0..24).map(|number| {
        let api = if number % 2 == 0 {
            &world.url
        } else {
            &second_api
        };
        world.post_transfer(api, "once", body.clone())
    });
    let answers = join_all(sending).await;
    assert_eq!(answers[0].0, StatusCode::CREATED, "{}", answers[0].1);
    assert!(
        answers.iter().all(|answer| *answer == answers[0]),
        "{answers:?}"
    );
    assert_eq!(world.balance(&from).await, 930);
    assert_eq!(world.balance(&to).await, 70);

    // The same for a transfer that is not possible.
    let body = json!({"from": from, "to": to, "amount": 5_000}).to_string();
    let sending = (0..24).map(|_| world.post_transfer(&world.url, "never", body.clone()));
    let answers = join_all(sending).await;
    assert_eq!(code(&answers[0]), "insufficient_funds");
    assert!(
        answers.iter().all(|answer| *answer == answers[0]),
        "{answers:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_abort_is_final_and_explained_the_same_way_for_ever() {
    let world = World::start(2).await;
    for on_one_shard in [true, false] {
        let [poor, rich] = world.two_accounts([10, i64::MAX - 500], on_one_shard).await;
        let key = format!("key {on_one_shard}");
        let refused = world.transfer(&key, &poor, &rich, 11).await;
        assert_eq!(refused.0, StatusCode::CONFLICT);
        assert_eq!(code(&refused), "insufficient_funds");
        assert_eq!(
            world.transfer("more", &rich, &poor, 400).await.0,
            StatusCode::CREATED
        );
        // Now there is enough, but this key has had its answer.
        assert_eq!(world.transfer(&key, &poor, &rich, 11).await, refused);
        let id = refused.1["error"]["transfer"].as_str().unwrap();
        let (status, shown) = world.get(&format!("/transfers/{id}")).await;
        assert_eq!(status, StatusCode::OK);
        assert_eq!(shown["state"], "aborted");
        assert_eq!(shown["error"], refused.1["error"]);

        let [payer, full] = world
            .two_accounts([1_000, i64::MAX - 5], on_one_shard)
            .await;
        let overflow = world.transfer("full", &payer, &full, 6).await;
        assert_eq!(overflow.0, StatusCode::CONFLICT);
        assert_eq!(code(&overflow), "balance_overflow");
        assert_eq!(
            world.transfer("fits", &payer, &full, 5).await.0,
            StatusCode::CREATED
        );
        assert_eq!(world.balance(&full).await, i64::MAX);
    }
}
