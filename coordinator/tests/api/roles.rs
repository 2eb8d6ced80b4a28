//! Who may do what: every route with no, a wrong, a weaker and the right identity.

use std::collections::BTreeSet;

use gavel_coordinator::api::{Authenticator, Permissions, Permitted, Role};
use gavel_protocol::outcome::Status;
use gavel_protocol::{Limits, Outcome, Principal};
use serde_json::{Value, json};

use crate::scripted::{A, Asked, GID, Heard, Script, Server, hear, txid_at};

const CLIENT: &str = "client-token-0123456789abc";
const OPERATOR: &str = "operator-token-0123456789a";

async fn guarded() -> Server {
    let mut auth = Authenticator::open();
    let name = |name: &str| name.parse().unwrap();
    auth.add(name("alice"), Role::Client, CLIENT).unwrap();
    auth.add(name("oscar"), Role::Operator, OPERATOR).unwrap();
    let script = Script {
        // The one outcome with a status of 2xx on every route.
        outcome: Some(Outcome::InDoubt {
            detail: "scripted".to_owned(),
        }),
        status: Some(Ok(Status::Committed)),
        begun: Some(Ok(())),
        executed: Some(Ok(gavel_coordinator::InteractiveAnswer::Done(
            Default::default(),
        ))),
        ..Script::default()
    };
    Server::start_with(script, auth, Limits::default()).await
}

/// Every route: method, path, body, and whether it is for operators.
fn routes() -> Vec<(&'static str, String, Value, bool)> {
    let txid = txid_at(A);
    let select = json!({ "sql": "select 1" });
    let submit = json!({ "branches": [{ "shard": "alpha", "statements": [select] }] });
    let step = json!({ "sequence": 0, "shard": "alpha", "sql": "select 1" });
    vec![
        ("POST", "/v1/transactions".into(), submit, false),
        (
            "GET",
            format!("/v1/transactions/{txid}"),
            Value::Null,
            false,
        ),
        (
            "POST",
            format!("/v1/transactions/{txid}/abort"),
            json!({}),
            false,
        ),
        ("POST", "/v1/txids".into(), json!({}), false),
        ("POST", "/v1/sessions".into(), json!({}), false),
        (
            "POST",
            format!("/v1/sessions/{txid}/statements"),
            step,
            false,
        ),
        (
            "POST",
            format!("/v1/sessions/{txid}/commit"),
            json!({}),
            false,
        ),
        ("DELETE", format!("/v1/sessions/{txid}"), Value::Null, false),
        ("GET", "/v1/shards".into(), Value::Null, false),
        ("GET", "/health/shards".into(), Value::Null, false),
        ("GET", "/v1/in-doubt".into(), Value::Null, true),
        ("GET", "/v1/standing".into(), Value::Null, true),
        (
            "GET",
            format!("/v1/transactions/{txid}/story"),
            Value::Null,
            true,
        ),
        (
            "POST",
            "/v1/in-doubt/resolve".into(),
            json!({ "gid": GID, "because": "ticket 1" }),
            true,
        ),
        (
            "POST",
            "/v1/shards/retry".into(),
            json!({ "shard": "beta", "because": "ticket 1" }),
            true,
        ),
        (
            "POST",
            "/v1/draining".into(),
            json!({ "draining": true, "because": "ticket 1" }),
            true,
        ),
    ]
}

async fn ask(server: &Server, method: &str, path: &str, body: &Value, token: &str) -> Heard {
    let mut request = server.request(method, path);
    if !body.is_null() {
        request = request.json(body);
    }
    if !token.is_empty() {
        request = request.bearer_auth(token);
    }
    hear(request).await
}

/// What is open to everybody: files that are the same for all, and health.
const OPEN: [&str; 6] = [
    "/console",
    "/console/",
    "/console/{file}",
    "/openapi.json",
    "/health/live",
    "/health/ready",
];

/// Whose methods have tests of their own; health is open to everybody.
const GRPC: [&str; 2] = [
    "/gavel.v1.Gavel/{method}",
    "/grpc.health.v1.Health/{method}",
];

#[test]
fn every_route_is_in_the_list() {
    let source = include_str!("../../src/api/http.rs");
    let declared = |call: &str| -> BTreeSet<String> {
        let lines = source.lines().filter_map(|line| {
            let rest = line.trim().strip_prefix(call)?.strip_prefix("(\"")?;
            rest.split_once('"').map(|(path, _)| path.to_owned())
        });
        lines.collect()
    };
    let txid = txid_at(A).to_string();
    let listed = routes().into_iter();
    let listed = listed.map(|(_, path, ..)| path.replace(&txid, "{txid}"));
    let listed: BTreeSet<String> = listed.chain(OPEN.map(str::to_owned)).collect();
    assert_eq!(declared(".route"), listed);
    let services = BTreeSet::from(GRPC.map(str::to_owned));
    assert_eq!(declared(".route_service"), services);
}

#[tokio::test]
async fn every_route_wants_an_identity() {
    let server = guarded().await;
    for (method, path, body, _) in routes() {
        for token in ["", "wrong-token-0123456789abcd"] {
            let heard = ask(&server, method, &path, &body, token).await;
            assert_eq!(
                (heard.status, heard.code()),
                (401, "unauthenticated"),
                "{path}"
            );
        }
    }
    // Not even what exists is told.
    let heard = ask(&server, "GET", "/nothing", &Value::Null, "").await;
    assert_eq!(heard.status, 401);
    assert_eq!(server.asked(), []);
    assert_eq!(server.get("/health/live").await.status, 200);
}

#[tokio::test]
async fn operators_routes_want_an_operator() {
    let server = guarded().await;
    for (method, path, body, is_for_operators) in routes() {
        let heard = ask(&server, method, &path, &body, CLIENT).await;
        if is_for_operators {
            assert_eq!((heard.status, heard.code()), (403, "forbidden"), "{path}");
        } else {
            assert!(heard.status < 300, "{path} {heard:?}");
        }
        let heard = ask(&server, method, &path, &body, OPERATOR).await;
        assert!(heard.status < 300, "{path} {heard:?}");
    }
}

#[tokio::test]
async fn r8_the_engine_hears_who_asks() {
    let server = guarded().await;
    let path = format!("/v1/transactions/{}", txid_at(A));
    ask(&server, "GET", &path, &Value::Null, CLIENT).await;
    ask(&server, "GET", &path, &Value::Null, OPERATOR).await;
    let alice: Principal = "alice".parse().unwrap();
    assert_eq!(
        server.asked(),
        [
            Asked::Status(txid_at(A), Some(alice)),
            Asked::Status(txid_at(A), None),
        ]
    );
}

#[tokio::test]
async fn statements_run_on_permitted_shards_only() {
    let mut auth = Authenticator::open();
    let alice: Principal = "alice".parse().unwrap();
    auth.add(alice.clone(), Role::Client, CLIENT).unwrap();
    let only_alpha = Permissions {
        shards: Permitted::from_iter(["alpha".parse().unwrap()]),
        ..Permissions::ALL
    };
    auth.restrict(&alice, &only_alpha);
    let server = Server::start_with(Script::default(), auth, Limits::default()).await;
    let select = json!([{ "sql": "select 1" }]);
    let on = |shards: &[&str]| {
        let branches = shards.iter();
        let branches = branches.map(|shard| json!({ "shard": shard, "statements": select }));
        json!({ "branches": branches.collect::<Vec<_>>() })
    };
    let txid = txid_at(A);
    let session = format!("/v1/sessions/{txid}/statements");
    let step = |shard: &str| json!({ "sequence": 0, "shard": shard, "sql": "select 1" });
    for (path, body) in [
        ("/v1/transactions", on(&["beta"])),
        ("/v1/transactions", on(&["alpha", "beta"])),
        (session.as_str(), step("beta")),
    ] {
        let heard = ask(&server, "POST", path, &body, CLIENT).await;
        assert_eq!((heard.status, heard.code()), (403, "forbidden"), "{body}");
    }
    assert_eq!(server.asked(), []);
    for (path, body) in [
        ("/v1/transactions", on(&["alpha"])),
        (session.as_str(), step("alpha")),
    ] {
        let heard = ask(&server, "POST", path, &body, CLIENT).await;
        assert_ne!(heard.status, 403, "{body}");
    }
}

#[tokio::test]
async fn only_registered_statements_run_where_there_is_a_list() {
    const DEBIT: &str = "update account set balance = balance - $2 where id = $1";
    let mut auth = Authenticator::open();
    let alice: Principal = "alice".parse().unwrap();
    auth.add(alice.clone(), Role::Client, CLIENT).unwrap();
    let only_debit = Permissions {
        statements: Permitted::from_iter([DEBIT.to_owned()]),
        ..Permissions::ALL
    };
    auth.restrict(&alice, &only_debit);
    let server = Server::start_with(Script::default(), auth, Limits::default()).await;
    let session = format!("/v1/sessions/{}/statements", txid_at(A));
    let bodies = |sqls: &[&str]| {
        let statements = sqls
            .iter()
            .map(|sql| json!({ "sql": sql, "params": ["1", "2"] }))
            .collect::<Vec<_>>();
        let last = sqls[sqls.len() - 1];
        [
            (
                "/v1/transactions",
                json!({ "branches": [{ "shard": "alpha", "statements": statements }] }),
            ),
            (
                session.as_str(),
                json!({ "sequence": 0, "shard": "alpha", "sql": last, "params": ["1", "2"] }),
            ),
        ]
    };
    for other in [
        "select 1",
        "update account set balance = balance - $2 where id = $1 or true",
        "update account set balance = balance + $2 where id = $1",
        "UPDATE account set balance = balance - $2 where id = $1",
        "update account set balance = balance - $2 where id = $1;select 1",
    ] {
        for (path, body) in bodies(&[DEBIT, other]) {
            let heard = ask(&server, "POST", path, &body, CLIENT).await;
            assert!((400..404).contains(&heard.status), "{body} {heard:?}");
            assert!(!heard.body.to_string().contains(other), "{heard:?}");
        }
    }
    assert_eq!(server.asked(), []);
    for (path, body) in bodies(&[&format!("\n  {DEBIT}\n"), DEBIT]) {
        let heard = ask(&server, "POST", path, &body, CLIENT).await;
        assert_ne!(heard.status, 403, "{body}");
    }
}

#[tokio::test]
async fn a_web_page_with_a_name_that_leads_here_gets_nothing() {
    let server = Server::start(Script::default()).await;
    let port = server.address.port();
    let ask = async |host: &str| {
        let request = server.request("GET", "/v1/shards").header("host", host);
        let heard = hear(request).await;
        (heard.status, heard.code().to_owned())
    };
    for host in [
        "evil.example",
        "localhost.evil.example",
        "127.0.0.1.evil.example:80",
    ] {
        assert_eq!(ask(host).await, (403, "forbidden".to_owned()), "{host}");
    }
    assert_eq!(server.asked(), []);
    for host in ["localhost", "LOCALHOST", "127.0.0.1", "[::1]"] {
        assert_eq!(ask(&format!("{host}:{port}")).await.0, 200, "{host}");
    }
    // Who has to say who he is may call it what he likes.
    let server = guarded().await;
    let request = server
        .request("GET", "/v1/shards")
        .header("host", "gavel.example");
    assert_eq!(hear(request.bearer_auth(CLIENT)).await.status, 200);
}
