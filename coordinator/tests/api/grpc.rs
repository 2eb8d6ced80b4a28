//! The gRPC face: the same answers, and gRPC errors only for calls that are wrong as such.

use gavel_coordinator::InteractiveAnswer;
use gavel_coordinator::api::{Authenticator, Role};
use gavel_protocol::{
    AbortCode, AbortReason, Limits, Outcome, Refusal, RefusalCode, ShardMap, ShardTag, Txid,
};
use gavel_wire::api as wire;
use gavel_wire::api::gavel_client::GavelClient;
use tonic::transport::Channel;
use tonic::{Code, Status};

use crate::scripted::{A, Asked, GID, Script, Server, txid_at};

pub(crate) async fn client(server: &Server) -> GavelClient<Channel> {
    let address = format!("http://{}", server.address);
    GavelClient::connect(address).await.expect("a connection")
}

pub(crate) fn submit(txid: Txid, shard: &str, sql: &str) -> wire::SubmitRequest {
    let statement = wire::Statement {
        sql: sql.to_owned(),
        ..Default::default()
    };
    wire::SubmitRequest {
        txid: txid.to_string(),
        branches: vec![wire::Branch {
            shard: shard.to_owned(),
            access: None,
            statements: vec![statement],
        }],
        ..Default::default()
    }
}

fn code(status: &Status) -> &str {
    let code = status.metadata().get("gavel-code");
    code.and_then(|code| code.to_str().ok()).unwrap_or("none")
}

async fn submitted(server: &Server, request: wire::SubmitRequest) -> Result<Outcome, Status> {
    let answered = client(server).await.submit(request).await?;
    let outcome = answered.into_inner().outcome.expect("an outcome");
    Ok(Outcome::try_from(outcome).expect("a whole outcome"))
}

#[tokio::test]
async fn outcomes_travel_in_the_answer() {
    for outcome in [
        Outcome::Committed { applied: true },
        Outcome::Aborted(AbortReason {
            shard: Some(A),
            statement: Some(0),
            ..AbortReason::new(AbortCode::GuardFailed, "0 rows")
        }),
        Outcome::Refused(Refusal::new(RefusalCode::Overloaded, "later")),
        Outcome::InDoubt {
            detail: "home".to_owned(),
        },
    ] {
        let server = Server::start(Script {
            outcome: Some(outcome.clone()),
            ..Script::default()
        })
        .await;
        let heard = submitted(&server, submit(txid_at(A), "alpha", "select 1")).await;
        assert_eq!(heard.unwrap(), outcome);
    }
}

#[tokio::test]
async fn bad_input_has_the_same_codes_as_over_http() {
    let server = Server::start(Script::default()).await;
    for (shard, sql, expected) in [
        ("alpha", "commit", "transaction_control"),
        ("alpha", "", "empty_statement"),
        ("alpha", "copy t from stdin", "unsupported_statement"),
        ("alpha", "select '\0'", "nul_byte"),
    ] {
        let told = submitted(&server, submit(txid_at(A), shard, sql)).await;
        let status = told.unwrap_err();
        assert_eq!(
            (status.code(), code(&status)),
            (Code::InvalidArgument, expected)
        );
    }
    let mut twice = submit(txid_at(A), "alpha", "select 1");
    twice.branches.push(twice.branches[0].clone());
    let status = submitted(&server, twice).await.unwrap_err();
    assert_eq!(code(&status), "duplicate_shard");
    let mut unknown_ack = submit(txid_at(A), "alpha", "select 1");
    unknown_ack.ack = Some(77);
    let status = submitted(&server, unknown_ack).await.unwrap_err();
    assert_eq!(code(&status), "malformed_message");

    let mut bad_txid = submit(txid_at(A), "alpha", "select 1");
    bad_txid.txid = "nonsense".to_owned();
    for (request, expected) in [
        (
            submit(txid_at(A), "gamma", "select 1"),
            RefusalCode::UnknownShard,
        ),
        (
            submit(txid_at(ShardTag(77)), "alpha", "select 1"),
            RefusalCode::UnknownHome,
        ),
        (bad_txid, RefusalCode::InvalidTxid),
    ] {
        match submitted(&server, request).await.unwrap() {
            Outcome::Refused(refusal) => assert_eq!(refusal.code, expected),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(server.asked(), []);
}

#[tokio::test]
async fn too_large_a_message_is_refused_and_the_service_goes_on() {
    let limits = Limits {
        request_bytes_max: 2000,
        ..Limits::default()
    };
    let script = Script {
        outcome: Some(Outcome::Committed { applied: true }),
        ..Script::default()
    };
    let server = Server::start_with(script, Authenticator::open(), limits).await;
    let large = submit(txid_at(A), "alpha", &"x".repeat(3000));
    assert_eq!(
        submitted(&server, large).await.unwrap_err().code(),
        Code::OutOfRange
    );
    let small = submit(txid_at(A), "alpha", "select 1");
    assert!(submitted(&server, small).await.is_ok());
}

#[tokio::test]
async fn identity_and_role_are_checked() {
    const TOKEN: &str = "client-token-0123456789abc";
    let mut auth = Authenticator::open();
    auth.add("alice".parse().unwrap(), Role::Client, TOKEN)
        .unwrap();
    let server = Server::start_with(Script::default(), auth, Limits::default()).await;
    let mut client = client(&server).await;
    let status = client
        .list_shards(wire::ListShardsRequest {})
        .await
        .unwrap_err();
    assert_eq!(
        (status.code(), code(&status)),
        (Code::Unauthenticated, "unauthenticated")
    );
    let mut request = tonic::Request::new(wire::ListInDoubtRequest {});
    let header = format!("Bearer {TOKEN}").parse().unwrap();
    request.metadata_mut().insert("authorization", header);
    let status = client.list_in_doubt(request).await.unwrap_err();
    assert_eq!(
        (status.code(), code(&status)),
        (Code::PermissionDenied, "forbidden")
    );
    assert_eq!(server.asked(), []);
}

#[tokio::test]
async fn operators_and_sessions_are_served() {
    let server = Server::start(Script {
        begun: Some(Ok(())),
        executed: Some(Ok(InteractiveAnswer::Done(Default::default()))),
        ..Script::default()
    })
    .await;
    let mut client = client(&server).await;
    let shards = client
        .list_shards(wire::ListShardsRequest {})
        .await
        .unwrap();
    let shards = ShardMap::try_from(shards.into_inner()).unwrap();
    assert_eq!(shards.tag(&"alpha".parse().unwrap()), Some(A));
    let txid = txid_at(A).to_string();
    let begin = wire::BeginRequest {
        txid: txid.clone(),
        isolation: None,
    };
    let begun = client.begin(begin).await.unwrap().into_inner();
    assert_eq!((begun.txid, begun.refused), (txid.clone(), None));
    let mut step = wire::ExecuteRequest {
        txid,
        sequence: None,
        shard: "beta".to_owned(),
        statement: Some(wire::Statement {
            sql: "select 1".to_owned(),
            ..Default::default()
        }),
    };
    let status = client.execute(step.clone()).await.unwrap_err();
    assert_eq!(code(&status), "malformed_message");
    step.sequence = Some(0);
    let executed = client.execute(step).await.unwrap().into_inner();
    assert!(matches!(
        executed.answer,
        Some(wire::execute_response::Answer::Done(_))
    ));
    let resolve = wire::ResolveInDoubtRequest {
        gid: GID.to_owned(),
        because: "ticket 1".to_owned(),
    };
    let resolved = client.resolve_in_doubt(resolve).await.unwrap().into_inner();
    let done = wire::resolve_in_doubt_response::Answer::Done("rolled back".to_owned());
    assert_eq!(resolved.answer, Some(done));
    assert!(matches!(server.asked().last(), Some(Asked::Resolve(_))));
}

#[tokio::test]
async fn operators_retry_shards_and_drain_with_a_reason() {
    let server = Server::start(Script::default()).await;
    let mut client = client(&server).await;
    let because = "ticket 1".to_owned();
    let retry = |shard: &str, because: &str| wire::RetryShardRequest {
        shard: shard.to_owned(),
        because: because.to_owned(),
    };
    use wire::retry_shard_response::Answer as Kind;
    let retried = client.retry_shard(retry("beta", &because)).await.unwrap();
    let done = Kind::Done("it answers".to_owned());
    assert_eq!(retried.into_inner().answer, Some(done));
    let nowhere = client.retry_shard(retry("gamma", &because)).await.unwrap();
    let answer = nowhere.into_inner().answer;
    assert!(matches!(answer, Some(Kind::Refused(_))), "{answer:?}");
    let drain = wire::SetDrainingRequest {
        draining: true,
        because,
    };
    let drained = client.set_draining(drain).await.unwrap().into_inner();
    assert_eq!(drained.under_way, 9, "in flight, and interactive");
    let asked = [
        Asked::RetryShard(crate::scripted::B),
        Asked::SetDraining(true),
    ];
    assert_eq!(server.asked(), asked);
    // Without a reason, nothing.
    let status = client.retry_shard(retry("beta", " ")).await.unwrap_err();
    assert_eq!(code(&status), "invalid_reason");
    let status = client.set_draining(wire::SetDrainingRequest::default());
    assert_eq!(code(&status.await.unwrap_err()), "invalid_reason");
    assert_eq!(server.asked(), asked);
}

#[tokio::test]
async fn the_standard_health_service_says_what_the_health_routes_say() {
    use tonic_health::pb::HealthCheckRequest;
    use tonic_health::pb::health_check_response::ServingStatus::{NotServing, Serving};
    use tonic_health::pb::health_client::HealthClient;

    // No token: probes have none.
    let well = Server::start(Script::default()).await;
    let unwell = Server::start(Script {
        not_ready: Some("shard beta is down".to_owned()),
        ..Script::default()
    })
    .await;
    for (server, service, expected) in [
        (&well, "", Ok(Serving)),
        (&well, "gavel.v1.Gavel", Ok(Serving)),
        (&well, "shard:beta", Ok(Serving)),
        (&unwell, "", Ok(NotServing)),
        (&unwell, "shard:alpha", Ok(Serving)),
        (&unwell, "shard:beta", Ok(NotServing)),
        (&well, "shard:nowhere", Err(Code::NotFound)),
        (&well, "gavel.v1.Other", Err(Code::NotFound)),
    ] {
        let address = format!("http://{}", server.address);
        let channel = Channel::from_shared(address).expect("an address");
        let channel = channel.connect().await.expect("a connection");
        let request = HealthCheckRequest {
            service: service.to_owned(),
        };
        let answered = HealthClient::new(channel).check(request).await;
        let status = answered.map(|answer| answer.into_inner().status());
        assert_eq!(
            status.map_err(|status| status.code()),
            expected,
            "{service}"
        );
    }
}
