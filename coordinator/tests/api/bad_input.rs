//! Bad input over HTTP: each kind has its code, and the service goes on.

use gavel_coordinator::api::Authenticator;
use gavel_protocol::{Limits, Outcome};
use serde_json::{Value, json};

use crate::scripted::{A, GID, Heard, Script, Server, hear, txid_at};

const SUBMIT: &str = "/v1/transactions";

fn branch(shard: &str, sql: &str) -> Value {
    json!({ "shard": shard, "statements": [{ "sql": sql }] })
}

fn submit(branches: Value) -> Value {
    json!({ "branches": branches })
}

fn committing() -> Script {
    Script {
        outcome: Some(Outcome::Committed { applied: true }),
        ..Script::default()
    }
}

fn expect(heard: &Heard, status: u16, code: &str) {
    assert_eq!((heard.status, heard.code()), (status, code), "{heard:?}");
    assert!(!heard.message().is_empty(), "{heard:?}");
}

#[tokio::test]
async fn every_bad_transaction_has_its_code_and_never_reaches_the_engine() {
    let server = Server::start(committing()).await;
    let good = || branch("alpha", "select 1");
    let statement =
        |statement: Value| submit(json!([{ "shard": "alpha", "statements": [statement] }]));
    let with = |field: &str, value: Value| {
        let mut body = submit(json!([good()]));
        body[field] = value;
        body
    };
    let version_4 = "5b1d54d3-1c3c-4c62-8d3c-0a1a3c1a2b3c";
    let unknown_home = txid_at(gavel_protocol::ShardTag(77)).to_string();
    let many_params: Vec<u32> = (0..1001).collect();
    let many_statements: Vec<_> = (0..1001).map(|_| json!({ "sql": "select 1" })).collect();
    for (body, code) in [
        (json!({}), "invalid_request"),
        (json!([]), "invalid_request"),
        (json!("x"), "invalid_request"),
        (with("surprise", json!(1)), "invalid_request"),
        (with("ack", json!("soon")), "invalid_request"),
        (with("isolation", json!("chaos")), "invalid_request"),
        (with("timeout_ms", json!(-1)), "invalid_request"),
        (with("timeout_ms", json!(0)), "invalid_timeout"),
        (with("txid", json!("hello")), "invalid_txid"),
        (with("txid", json!(version_4)), "invalid_txid"),
        (with("txid", json!(unknown_home)), "unknown_home"),
        (submit(json!([])), "empty_transaction"),
        (
            submit(json!([branch("gamma", "select 1")])),
            "unknown_shard",
        ),
        (
            submit(json!([branch(&"x".repeat(99), "select 1")])),
            "unknown_shard",
        ),
        (
            submit(json!([branch("Alpha'; --", "select 1")])),
            "unknown_shard",
        ),
        (submit(json!([good(), good()])), "duplicate_shard"),
        (
            submit(json!([{ "shard": "alpha", "statements": [] }])),
            "empty_branch",
        ),
        (
            submit(json!([{ "shard": "alpha", "statements": many_statements }])),
            "too_many_statements",
        ),
        (
            submit(json!([branch("alpha", "COMMIT")])),
            "transaction_control",
        ),
        (
            submit(json!([branch("alpha", "/* x */ rollback")])),
            "transaction_control",
        ),
        (
            submit(json!([branch("alpha", "copy t from stdin")])),
            "unsupported_statement",
        ),
        (submit(json!([branch("alpha", "  ")])), "empty_statement"),
        (
            submit(json!([branch("alpha", "select '\u{0}'")])),
            "nul_byte",
        ),
        (
            submit(json!([branch(
                "alpha",
                &format!("select '{}'", "x".repeat(1 << 20))
            )])),
            "statement_too_long",
        ),
        (
            statement(json!({ "sql": "select $1", "params": many_params })),
            "too_many_parameters",
        ),
        (
            statement(json!({ "sql": "x", "expect": { "rows": 1 } })),
            "invalid_request",
        ),
        (
            statement(json!({ "sql": "x", "expekt": { "rows_exactly": 1 } })),
            "invalid_request",
        ),
        (statement(json!({ "sql": 1 })), "invalid_request"),
        (statement(json!({ "params": [] })), "invalid_request"),
        (
            statement(json!({ "sql": "x", "params": { "a": 1 } })),
            "invalid_request",
        ),
    ] {
        let shown: String = body.to_string().chars().take(200).collect();
        let heard = server.post(SUBMIT, body).await;
        assert_eq!(
            (heard.status, heard.code()),
            (400, code),
            "{shown}\n{heard:?}"
        );
    }
    assert_eq!(server.asked(), [], "nothing of that reached the engine");
    assert_eq!(
        server.post(SUBMIT, submit(json!([good()]))).await.status,
        200
    );
}

#[tokio::test]
async fn messages_name_shards_as_the_caller_does() {
    let server = Server::start(committing()).await;
    let body = submit(json!([branch("alpha", "commit")]));
    let heard = server.post(SUBMIT, body).await;
    assert!(heard.message().contains("shard `alpha`"), "{heard:?}");
    let heard = server
        .post(SUBMIT, submit(json!([branch("gamma", "select 1")])))
        .await;
    assert!(heard.message().contains("alpha, beta"), "{heard:?}");
}

#[tokio::test]
async fn malformed_bodies_have_their_codes() {
    let limits = Limits {
        request_bytes_max: 2000,
        ..Limits::default()
    };
    let server = Server::start_with(committing(), Authenticator::open(), limits).await;
    let nested = "[".repeat(200);
    let deep =
        format!(r#"{{"branches":[{{"shard":"alpha","statements":[{{"sql":"x","params":{nested}"#);
    for text in [
        "",
        "{",
        "nonsense",
        "{\"branches\":[],}",
        "\u{feff}{}",
        &deep,
    ] {
        let heard = server.post_text(SUBMIT, text.to_owned()).await;
        expect(&heard, 400, "malformed_json");
    }
    expect(
        &server.post_text(SUBMIT, vec![b'"', 0xff, b'"']).await,
        400,
        "malformed_json",
    );
    expect(
        &server.post_text(SUBMIT, "x".repeat(2001)).await,
        413,
        "body_too_large",
    );
    // Without an announced length, the limit is met while reading.
    let chunks = (0..3).map(|_| Ok::<_, std::io::Error>("x".repeat(1000)));
    let stream = reqwest::Body::wrap_stream(futures::stream::iter(chunks));
    expect(
        &server.post_text(SUBMIT, stream).await,
        413,
        "body_too_large",
    );

    let untyped = server.request("POST", SUBMIT).body("{}");
    expect(&hear(untyped).await, 415, "unsupported_media_type");
    let form = server.request("POST", SUBMIT).body("a=b");
    let form = form.header("content-type", "application/x-www-form-urlencoded");
    expect(&hear(form).await, 415, "unsupported_media_type");
    let zipped = server.request("POST", SUBMIT).json(&json!({}));
    let zipped = zipped.header("content-encoding", "gzip");
    expect(&hear(zipped).await, 415, "unsupported_encoding");
    assert_eq!(server.asked(), []);
}

#[tokio::test]
async fn unknown_routes_and_methods_are_json_too() {
    let server = Server::start(Script::default()).await;
    for path in [
        "/",
        "/v1",
        "/v1/transaction",
        "/metrics",
        "/v1/transactions/a/b/c",
        "/health",
    ] {
        expect(&server.get(path).await, 404, "not_found");
    }
    for (method, path) in [
        ("GET", "/v1/transactions"),
        ("DELETE", "/v1/transactions"),
        ("PUT", "/v1/in-doubt"),
        ("POST", "/health/live"),
    ] {
        let heard = hear(server.request(method, path)).await;
        expect(&heard, 405, "method_not_allowed");
    }
}

#[tokio::test]
async fn bad_txids_are_refused_on_every_route() {
    let server = Server::start(Script::default()).await;
    let unknown_home = txid_at(gavel_protocol::ShardTag(77)).to_string();
    for (txid, code) in [
        ("nonsense", "invalid_txid"),
        ("5b1d54d3-1c3c-4c62-8d3c-0a1a3c1a2b3c", "invalid_txid"),
        ("%ff%fe", "invalid_txid"),
        (&*unknown_home, "unknown_home"),
    ] {
        let step = json!({ "sequence": 0, "shard": "alpha", "sql": "select 1" });
        for heard in [
            server.get(&format!("/v1/transactions/{txid}")).await,
            server
                .post(&format!("/v1/transactions/{txid}/abort"), json!({}))
                .await,
            server
                .post(&format!("/v1/sessions/{txid}/commit"), json!({}))
                .await,
            server
                .post(&format!("/v1/sessions/{txid}/statements"), step)
                .await,
            hear(server.request("DELETE", &format!("/v1/sessions/{txid}"))).await,
        ] {
            expect(&heard, 400, code);
        }
    }
    let begin = json!({ "txid": txid_at(A), "home": "beta" });
    expect(
        &server.post("/v1/sessions", begin).await,
        400,
        "home_mismatch",
    );
    expect(
        &server.post("/v1/txids", json!({ "home": "gamma" })).await,
        400,
        "unknown_shard",
    );
    assert_eq!(server.asked(), []);
}

#[tokio::test]
async fn bad_statements_of_a_session_are_refused() {
    let server = Server::start(Script::default()).await;
    let path = format!("/v1/sessions/{}/statements", txid_at(A));
    for (body, code) in [
        (
            json!({ "shard": "alpha", "sql": "select 1" }),
            "invalid_request",
        ),
        (
            json!({ "sequence": -1, "shard": "alpha", "sql": "select 1" }),
            "invalid_request",
        ),
        (
            json!({ "sequence": 0, "shard": "gamma", "sql": "select 1" }),
            "unknown_shard",
        ),
        (
            json!({ "sequence": 0, "shard": "alpha", "sql": "end" }),
            "transaction_control",
        ),
        (
            json!({ "sequence": 0, "shard": "alpha", "sql": "" }),
            "empty_statement",
        ),
    ] {
        expect(&server.post(&path, body).await, 400, code);
    }
    for because in ["", " \t", &"x".repeat(501)] {
        let resolve = json!({ "gid": GID, "because": because });
        let retry = json!({ "shard": "alpha", "because": because });
        let drain = json!({ "draining": true, "because": because });
        for (path, body) in [
            ("/v1/in-doubt/resolve", resolve),
            ("/v1/shards/retry", retry),
            ("/v1/draining", drain),
        ] {
            expect(&server.post(path, body).await, 400, "invalid_reason");
        }
    }
    let nowhere = json!({ "shard": "gamma", "because": "ticket 1" });
    let heard = server.post("/v1/shards/retry", nowhere).await;
    expect(&heard, 400, "unknown_shard");
    let gid = json!({ "gid": "pg_gid_16395_731", "because": "ticket 1" });
    expect(
        &server.post("/v1/in-doubt/resolve", gid).await,
        400,
        "invalid_gid",
    );
    assert_eq!(server.asked(), []);
}
