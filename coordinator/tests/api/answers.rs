//! How an engine's answers are told over HTTP.

use std::time::Duration;

use gavel_coordinator::InteractiveAnswer;
use gavel_protocol::outcome::{Column, StatementResult, Status};
use gavel_protocol::{
    AbortCode, AbortReason, Access, Ack, BranchWork, Guard, Isolation, Outcome, Principal, Refusal,
    RefusalCode, Statement, Transaction,
};
use serde_json::json;

use crate::scripted::{A, Asked, B, GID, Script, Server, Submitted, hear, txid_at};

const SUBMIT: &str = "/v1/transactions";

fn one_statement() -> serde_json::Value {
    json!({ "branches": [{ "shard": "alpha", "statements": [{ "sql": "select 1" }] }] })
}

async fn outcome_heard(outcome: Outcome) -> crate::scripted::Heard {
    let server = Server::start(Script {
        outcome: Some(outcome),
        ..Script::default()
    })
    .await;
    server.post(SUBMIT, one_statement()).await
}

fn balance() -> StatementResult {
    StatementResult {
        row_count: 1,
        columns: vec![Column {
            name: "balance".to_owned(),
            type_oid: 20,
        }],
        rows: vec![vec![Some("900".to_owned())]],
    }
}

#[tokio::test]
async fn everything_that_is_sent_reaches_the_engine() {
    let server = Server::start(Script {
        outcome: Some(Outcome::Committed { applied: false }),
        results: vec![(A, vec![balance()])],
        ..Script::default()
    })
    .await;
    let body = json!({
        "txid": txid_at(B),
        "ack": "decided",
        "timeout_ms": 1234,
        "isolation": "serializable",
        "retry": true,
        "branches": [
            { "shard": "beta", "read_only": true, "statements": [{ "sql": "select 1" }] },
            { "shard": "alpha", "statements": [{
                "sql": "update t set a = $1, b = $2, c = $3, d = $4",
                "params": [1.10, "x", null, {"k": [true]}],
                "expect": { "rows_at_least": 2 },
            }] },
        ],
    });
    let heard = server.post(SUBMIT, body).await;
    let update = Statement {
        sql: "update t set a = $1, b = $2, c = $3, d = $4".into(),
        params: vec![
            Some("1.1".to_owned()),
            Some("x".to_owned()),
            None,
            Some(r#"{"k":[true]}"#.to_owned()),
        ],
        guard: Some(Guard::RowsAtLeast(2)),
    };
    let select = Statement::new("select 1", Vec::<String>::new());
    let mut transaction = Transaction::new(vec![
        BranchWork::read(B, vec![select]),
        BranchWork::write(A, vec![update]),
    ]);
    transaction.isolation = Isolation::Serializable;
    assert_eq!(transaction.branches[1].access, Access::ReadOnly);
    let submitted = Submitted {
        txid: txid_at(B),
        transaction,
        principal: Principal::local(),
        ack: Ack::Decided,
        timeout: Some(Duration::from_millis(1234)),
        is_retry: true,
    };
    assert_eq!(server.asked(), [Asked::Submit(Box::new(submitted))]);
    assert_eq!(heard.status, 200);
    let expected = json!({
        "txid": txid_at(B),
        "outcome": "committed",
        "applied": false,
        "results": { "alpha": [{
            "row_count": 1,
            "columns": [{ "name": "balance", "type_oid": 20 }],
            "rows": [["900"]],
        }] },
    });
    assert_eq!(heard.body, expected);
}

#[tokio::test]
async fn without_a_txid_the_lowest_writing_shard_is_home() {
    let server = Server::start(Script {
        outcome: Some(Outcome::Committed { applied: true }),
        ..Script::default()
    })
    .await;
    let body = json!({ "branches": [
        { "shard": "alpha", "read_only": true, "statements": [{ "sql": "select 1" }] },
        { "shard": "beta", "statements": [{ "sql": "select 1" }] },
    ] });
    let heard = server.post(SUBMIT, body).await;
    assert_eq!(heard.body["txid"], json!(txid_at(B)));
}

#[tokio::test]
async fn aborted_tells_where_and_why() {
    let heard = outcome_heard(Outcome::Aborted(AbortReason {
        code: AbortCode::SqlError,
        message: "duplicate key".to_owned(),
        shard: Some(B),
        statement: Some(3),
        sqlstate: Some("23505".to_owned()),
    }))
    .await;
    assert_eq!(heard.status, 409);
    assert_eq!(heard.body["outcome"], "aborted");
    let error = json!({
        "code": "sql_error", "message": "duplicate key", "retryable": false,
        "shard": "beta", "statement": 3, "sqlstate": "23505",
    });
    assert_eq!(heard.body["error"], error);
}

#[tokio::test]
async fn refusals_say_whether_to_come_back() {
    for (code, status, comes_back) in [
        (RefusalCode::Overloaded, 429, true),
        (RefusalCode::LockTimeout, 503, true),
        (RefusalCode::TxidReused, 422, false),
        (RefusalCode::TxidTooOld, 410, false),
        (RefusalCode::TxidFromFuture, 400, false),
        (RefusalCode::NotYours, 403, false),
    ] {
        let heard = outcome_heard(Outcome::Refused(Refusal::new(code, "why"))).await;
        assert_eq!((heard.status, heard.code()), (status, code.as_str()));
        assert_eq!(heard.body["outcome"], "refused");
        assert_eq!(heard.body["error"]["retryable"], comes_back);
        assert_eq!(heard.retry_after, comes_back);
    }
}

#[tokio::test]
async fn unknown_is_never_told_as_aborted() {
    let detail = "home is down".to_owned();
    let heard = outcome_heard(Outcome::InDoubt { detail }).await;
    assert_eq!(
        (heard.status, &heard.body["outcome"]),
        (202, &json!("in_doubt"))
    );

    let server = Server::start(Script {
        panics: true,
        ..Script::default()
    })
    .await;
    let heard = server.post(SUBMIT, one_statement()).await;
    assert_eq!(
        (heard.status, &heard.body["outcome"]),
        (202, &json!("in_doubt"))
    );

    let server = Server::start(Script {
        status: Some(Ok(Status::NoneYet)),
        ..Script::default()
    })
    .await;
    let heard = server
        .get(&format!("/v1/transactions/{}", txid_at(A)))
        .await;
    assert_eq!(
        (heard.status, &heard.body["outcome"]),
        (200, &json!("none_yet"))
    );
}

#[tokio::test]
async fn an_abort_that_came_too_late_is_a_conflict() {
    for (outcome, status, told) in [
        (
            Outcome::Aborted(AbortReason::new(AbortCode::AbortedByRequest, "x")),
            200,
            "aborted",
        ),
        (Outcome::Committed { applied: true }, 409, "committed"),
    ] {
        let server = Server::start(Script {
            outcome: Some(outcome),
            ..Script::default()
        })
        .await;
        let path = format!("/v1/transactions/{}/abort", txid_at(A));
        // No body, and no content type.
        let heard = hear(server.request("POST", &path)).await;
        assert_eq!(
            (heard.status, &heard.body["outcome"]),
            (status, &json!(told))
        );
        assert_eq!(
            server.asked(),
            [Asked::Abort(txid_at(A), Principal::local())]
        );
    }
}

#[tokio::test]
async fn a_session_runs_from_begin_to_commit() {
    let server = Server::start(Script {
        begun: Some(Ok(())),
        executed: Some(Ok(InteractiveAnswer::Done(balance()))),
        outcome: Some(Outcome::Committed { applied: true }),
        ..Script::default()
    })
    .await;
    let heard = server
        .post("/v1/sessions", json!({ "home": "alpha" }))
        .await;
    assert_eq!(
        (heard.status, &heard.body["txid"]),
        (201, &json!(txid_at(A)))
    );
    let path = format!("/v1/sessions/{}", txid_at(A));
    let step = json!({ "sequence": 0, "shard": "beta", "sql": "select $1", "params": [1] });
    let heard = server.post(&format!("{path}/statements"), step).await;
    assert_eq!(heard.status, 200);
    assert_eq!(heard.body["result"]["rows"], json!([["900"]]));
    let heard = server
        .post(&format!("{path}/commit"), json!({ "ack": "decided" }))
        .await;
    assert_eq!(heard.body["outcome"], "committed");
    let heard = hear(server.request("DELETE", &path)).await;
    assert_eq!(heard.body["outcome"], "rolled_back");
    let statement = Statement::new("select $1", ["1"]);
    assert_eq!(
        server.asked(),
        [
            Asked::Begin(txid_at(A), Isolation::ReadCommitted),
            Asked::Execute(txid_at(A), 0, B, statement),
            Asked::Commit(txid_at(A), Ack::Decided),
            Asked::Rollback(txid_at(A)),
        ]
    );
}

#[tokio::test]
async fn a_failed_statement_ends_the_session() {
    let reason = AbortReason::new(AbortCode::GuardFailed, "0 rows");
    for (answer, status, code) in [
        (
            Ok(InteractiveAnswer::Ended(Outcome::Aborted(reason))),
            409,
            "guard_failed",
        ),
        (
            Err(Refusal::new(RefusalCode::SessionLost, "x")),
            404,
            "session_lost",
        ),
        (
            Err(Refusal::new(RefusalCode::OutOfSequence, "x")),
            409,
            "out_of_sequence",
        ),
    ] {
        let server = Server::start(Script {
            executed: Some(answer),
            ..Script::default()
        })
        .await;
        let path = format!("/v1/sessions/{}/statements", txid_at(A));
        let step = json!({ "sequence": 4, "shard": "alpha", "sql": "select 1" });
        let heard = server.post(&path, step).await;
        assert_eq!((heard.status, heard.code()), (status, code));
    }
}

#[tokio::test]
async fn operators_and_probes_are_answered() {
    let server = Server::start(Script {
        not_ready: Some("shard beta is down".to_owned()),
        ..Script::default()
    })
    .await;
    let heard = server.get("/v1/in-doubt").await;
    let expected = json!({ "shards": [
        { "shard": "alpha", "tag": 1, "branches": [
            { "gid": GID, "age_ms": 1500, "waits_for": "home" },
        ] },
        { "shard": "beta", "tag": 2, "error": {
            "code": "shard_unavailable", "message": "down", "retryable": true,
        } },
    ] });
    assert_eq!(heard.body, expected);
    let heard = server
        .post(
            "/v1/in-doubt/resolve",
            json!({ "gid": GID, "because": "ticket 1" }),
        )
        .await;
    assert_eq!(
        heard.body,
        json!({ "gid": GID, "resolution": "rolled back" })
    );
    let retry = json!({ "shard": "beta", "because": "ticket 1" });
    let heard = server.post("/v1/shards/retry", retry).await;
    assert_eq!(
        heard.body,
        json!({ "shard": "beta", "found": "it answers" })
    );
    let drain = json!({ "draining": true, "because": "ticket 1" });
    let heard = server.post("/v1/draining", drain).await;
    assert_eq!(heard.body, json!({ "draining": true, "under_way": 9 }));
    let heard = server.get("/v1/shards").await;
    let expected = json!({ "shards": [
        { "name": "alpha", "tag": 1 }, { "name": "beta", "tag": 2 },
    ] });
    assert_eq!(heard.body, expected);
    assert_eq!(server.get("/health/live").await.status, 200);
    let heard = server.get("/health/ready").await;
    assert_eq!(
        (heard.status, heard.code(), heard.retry_after),
        (503, "not_ready", true)
    );
    let heard = server.get("/health/shards").await;
    let expected = json!({ "shards": {
        "alpha": { "healthy": true },
        "beta": { "healthy": false, "reason": "shard beta is down" },
    } });
    assert_eq!((heard.status, heard.body), (503, expected));
}
