//! Everything a client can get wrong has its own code, does nothing, and harms nobody.

mod support;

use reqwest::{Method, StatusCode};
use serde_json::json;
use support::{World, code, read};

const NOBODY: &str = "0192f0c1-2b3c-7d4e-8f50-112233445566";

#[tokio::test(flavor = "multi_thread")]
async fn every_mistake_has_its_code() {
    let world = World::start(2).await;
    let [from, to] = world.two_accounts([1_000, 0], false).await;
    bad_transfers(&world, &from, &to).await;
    bad_keys(&world, &from, &to).await;
    unknown_accounts(&world, &from).await;
    bad_accounts(&world).await;
    bad_paths(&world).await;
    // And the service goes on.
    assert_eq!(world.balance(&from).await, 1_000);
    assert_eq!(
        world.transfer("good", &from, &to, 1).await.0,
        StatusCode::CREATED
    );
    assert_eq!(world.audit().await["balanced"], true);
}

async fn bad_transfers(world: &World, from: &str, to: &str) {
    let with_amount =
        |amount: &str| format!(r#"{{"from":"{from}","to":"{to}","amount":{amount}}}"#);
    let cases = [
        (with_amount("0"), 400, "amount_zero"),
        (with_amount("-1"), 400, "amount_negative"),
        (with_amount("-9223372036854775808"), 400, "amount_negative"),
        (with_amount("1.5"), 400, "amount_not_integer"),
        (with_amount("1e3"), 400, "amount_not_integer"),
        (
            with_amount("9223372036854775808"),
            400,
            "amount_out_of_range",
        ),
        (with_amount("\"5\""), 400, "invalid_request"),
        (with_amount("null"), 400, "invalid_request"),
        (
            with_amount("5, \"currency\": \"EUR\""),
            400,
            "invalid_request",
        ),
        (with_amount("5, \"amount\": 6"), 400, "invalid_request"),
        (
            format!(r#"{{"from":"{from}","to":"{to}"}}"#),
            400,
            "invalid_request",
        ),
        (
            format!(r#"{{"from":"{from}","to":"{from}","amount":1}}"#),
            400,
            "self_transfer",
        ),
        (
            format!(r#"{{"from":"bob","to":"{to}","amount":1}}"#),
            400,
            "invalid_account_id",
        ),
        (
            with_amount("9223372036854775807"),
            409,
            "insufficient_funds",
        ),
        (String::new(), 400, "malformed_json"),
        ("{".to_owned(), 400, "malformed_json"),
        ("[]".to_owned(), 400, "invalid_request"),
        ("[".repeat(10_000), 400, "invalid_request"),
        (with_amount(&"1".repeat(20_000)), 413, "body_too_large"),
    ];
    for (number, (body, status, expected)) in cases.into_iter().enumerate() {
        let key = format!("bad {number}");
        let answer = world.post_transfer(&world.url, &key, body.clone()).await;
        let shown: String = body.chars().take(120).collect();
        assert_eq!(
            (answer.0.as_u16(), code(&answer)),
            (status, expected),
            "{shown}"
        );
        assert!(answer.1["error"]["message"].is_string());
    }
}

async fn bad_keys(world: &World, from: &str, to: &str) {
    let body = json!({"from": from, "to": to, "amount": 1});
    let without = world.post("/transfers", &body).await;
    assert_eq!(
        (without.0.as_u16(), code(&without)),
        (400, "idempotency_key_missing")
    );
    for key in ["", &"k".repeat(256)] {
        let answer = world.transfer(key, from, to, 1).await;
        assert_eq!(
            (answer.0.as_u16(), code(&answer)),
            (400, "idempotency_key_invalid")
        );
    }
}

async fn unknown_accounts(world: &World, from: &str) {
    for (number, (payer, payee)) in [(from, NOBODY), (NOBODY, from)].into_iter().enumerate() {
        let answer = world
            .transfer(&format!("nobody {number}"), payer, payee, 1)
            .await;
        assert_eq!((answer.0.as_u16(), code(&answer)), (404, "unknown_account"));
    }
}

async fn bad_accounts(world: &World) {
    let cases = [
        (json!({"initial_balance": -1}), "amount_negative"),
        (json!({"initial_balance": 0.5}), "amount_not_integer"),
        (
            json!({"owner": "x".repeat(201), "initial_balance": 0}),
            "owner_too_long",
        ),
        (
            json!({"owner": "\u{0}", "initial_balance": 0}),
            "invalid_request",
        ),
        (json!({"owner": 7, "initial_balance": 0}), "invalid_request"),
        (json!({}), "invalid_request"),
    ];
    for (body, expected) in cases {
        let answer = world.post("/accounts", &body).await;
        assert_eq!(
            (answer.0.as_u16(), code(&answer)),
            (400, expected),
            "{body}"
        );
    }
}

async fn bad_paths(world: &World) {
    let cases = [
        (format!("/accounts/{NOBODY}"), 404, "unknown_account"),
        ("/accounts/bob".to_owned(), 400, "invalid_account_id"),
        ("/accounts/%ff".to_owned(), 400, "invalid_account_id"),
        (format!("/transfers/{NOBODY}"), 404, "unknown_transfer"),
        ("/transfers/7".to_owned(), 400, "invalid_transfer_id"),
        ("/nothing".to_owned(), 404, "not_found"),
    ];
    for (path, status, expected) in cases {
        let answer = world.get(&path).await;
        assert_eq!(
            (answer.0.as_u16(), code(&answer)),
            (status, expected),
            "{path}"
        );
    }
    let deleting = world
        .http
        .request(Method::DELETE, format!("{}/audit", world.url));
    let answer = read(deleting.send().await.expect("an answer")).await;
    assert_eq!(
        (answer.0.as_u16(), code(&answer)),
        (405, "method_not_allowed")
    );
}
