//! Whatever is sent to either face is refused with a code, or reaches the engine as a transaction
//! within the limits.

use gavel_coordinator::api::Authenticator;
use gavel_protocol::{Limits, Outcome};
use gavel_wire::api as wire;
use gavel_wire::api::gavel_client::GavelClient;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError, TestRunner};
use serde_json::{Value, json};

use crate::scripted::{A, Asked, Script, Server, txid_at};

/// Limits that a small request can break.
fn limits() -> Limits {
    Limits {
        shards_per_transaction_max: 1,
        statements_per_transaction_max: 3,
        params_per_statement_max: 2,
        statement_bytes_max: 40,
        ..Limits::default()
    }
}

async fn server() -> Server {
    let script = Script {
        outcome: Some(Outcome::Committed { applied: true }),
        ..Script::default()
    };
    Server::start_with(script, Authenticator::open(), limits()).await
}

/// Runs `test` for 192 values in one runtime with one server: starting them is slow.
fn check<S: Strategy>(strategy: S, test: impl AsyncFn(&Server, S::Value)) {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let server = runtime.block_on(server());
    let mut runner = TestRunner::new(Config::with_cases(192));
    let result = runner.run(&strategy, |value| {
        let asked_before = server.asked().len();
        runtime.block_on(test(&server, value));
        for asked in &server.asked()[asked_before..] {
            let Asked::Submit(submitted) = asked else {
                return Err(TestCaseError::fail(format!("{asked:?}")));
            };
            prop_assert_eq!(submitted.transaction.validate(&limits()), Ok(()));
            prop_assert_ne!(submitted.timeout.map(|timeout| timeout.as_nanos()), Some(0));
        }
        Ok(())
    });
    result.unwrap_or_else(|error| panic!("{error}"));
    assert!(
        !server.asked().is_empty(),
        "nothing was good enough to be let in"
    );
}

fn sql() -> impl Strategy<Value = String> {
    prop_oneof![
        6 => Just("select 1".to_owned()),
        1 => Just("commit".to_owned()),
        1 => Just(String::new()),
        1 => "[a-z \0é;]{0,60}",
    ]
}

fn shard() -> impl Strategy<Value = String> {
    prop_oneof![6 => Just("alpha".to_owned()), 2 => Just("beta".to_owned()), 1 => ".{0,40}"]
}

fn scalar() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        ".{0,12}".prop_map(Value::from),
    ]
}

fn any_json() -> impl Strategy<Value = Value> {
    scalar().prop_recursive(3, 12, 4, |inner| {
        let object = prop::collection::hash_map("[a-z_$]{0,9}", inner.clone(), 0..4);
        prop_oneof![
            vec(inner, 0..4).prop_map(Value::from),
            object.prop_map(|object| json!(object)),
        ]
    })
}

/// A good value mostly; sometimes anything.
fn mostly(good: impl Strategy<Value = Value> + 'static) -> BoxedStrategy<Value> {
    prop_oneof![20 => good, 1 => any_json()].boxed()
}

fn statement() -> impl Strategy<Value = Value> {
    let guard = prop_oneof![
        8 => Just(json!({ "rows_exactly": 1 })),
        1 => any_json(),
    ];
    let fields = (
        mostly(sql().prop_map(Value::from)),
        vec(scalar(), 0..4),
        guard,
    );
    fields.prop_map(|(sql, params, guard)| json!({ "sql": sql, "params": params, "expect": guard }))
}

fn request() -> impl Strategy<Value = Value> {
    let branch = (
        mostly(shard().prop_map(Value::from)),
        vec(mostly(statement()), 0..4),
    );
    let branch =
        branch.prop_map(|(shard, statements)| json!({ "shard": shard, "statements": statements }));
    let branches = vec(mostly(branch), 0..3).prop_map(Value::from);
    let txid = mostly(Just(json!(txid_at(A))));
    let timeout = mostly(any::<u64>().prop_map(Value::from));
    let extra = prop::option::weighted(0.1, ("[a-z]{1,8}", any_json()));
    (txid, timeout, mostly(branches), extra).prop_map(|(txid, timeout_ms, branches, extra)| {
        let mut request = json!({ "txid": txid, "timeout_ms": timeout_ms, "branches": branches });
        if let Some((key, value)) = extra {
            request[key] = value;
        }
        request
    })
}

#[test]
fn json_is_refused_or_within_the_limits() {
    check(request(), async |server, request| {
        let before = server.asked().len();
        let heard = server.post("/v1/transactions", request).await;
        assert_ne!(heard.status, 500, "{}", heard.body);
        let was_let_in = server.asked().len() > before;
        assert_eq!(was_let_in, heard.status == 200, "{}", heard.body);
        assert_eq!(was_let_in, heard.code() == "no code", "{}", heard.body);
    });
}

fn message() -> impl Strategy<Value = wire::SubmitRequest> {
    let value = prop::option::of(".{0,8}").prop_map(|text| wire::Value { text });
    let rows = prop_oneof![
        4 => any::<u64>().prop_map(|rows| Some(wire::guard::Rows::Exactly(rows))),
        1 => Just(None),
    ];
    let guard = prop::option::of(rows.prop_map(|rows| wire::Guard { rows }));
    let statement = (sql(), vec(value, 0..3), guard)
        .prop_map(|(sql, params, guard)| wire::Statement { sql, params, guard });
    let number =
        || prop_oneof![6 => Just(None), 3 => Just(Some(1)), 1 => any::<i32>().prop_map(Some)];
    let branch =
        (shard(), number(), vec(statement, 0..4)).prop_map(|(shard, access, statements)| {
            wire::Branch {
                shard,
                access,
                statements,
            }
        });
    let txid = prop_oneof![8 => Just(txid_at(A).to_string()), 1 => ".{0,40}"];
    let timeout = prop::option::of(0u64..3);
    let branch = branch.boxed();
    let branches = prop_oneof![4 => vec(branch.clone(), 1..=1), 1 => vec(branch, 0..3)];
    (txid, branches, number(), number(), timeout, any::<bool>()).prop_map(
        |(txid, branches, isolation, ack, timeout_ms, is_retry)| wire::SubmitRequest {
            txid,
            branches,
            isolation,
            ack,
            timeout_ms,
            is_retry,
            traceparent: None,
        },
    )
}

#[test]
fn messages_are_refused_or_within_the_limits() {
    check(message(), async |server, message| {
        let before = server.asked().len();
        let address = format!("http://{}", server.address);
        let mut client = GavelClient::connect(address).await.expect("a connection");
        let was_let_in = match client.submit(message).await {
            Err(status) => {
                assert_eq!(status.code(), tonic::Code::InvalidArgument, "{status}");
                assert!(status.metadata().contains_key("gavel-code"), "{status}");
                false
            }
            Ok(answer) => {
                let outcome = answer.into_inner().outcome.expect("an outcome");
                let outcome = Outcome::try_from(outcome).expect("a whole outcome");
                matches!(outcome, Outcome::Committed { .. })
            }
        };
        assert_eq!(was_let_in, server.asked().len() > before);
    });
}
