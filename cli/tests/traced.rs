//! One transaction's trace, from its client's span to the statement in the server's log: real
//! processes, and a collector that speaks OTLP.

mod temporary;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use gavel_devkit::{Dev, Options};
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value};
use opentelemetry_proto::tonic::trace::v1::Span;
use serde_json::{Value, json};
use temporary::folder;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status};

const GAVEL: &str = env!("CARGO_BIN_EXE_gavel");
/// Generous: other tests may keep the machine busy.
const LIMIT: Duration = Duration::from_secs(60);
const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const CALLER: &str = "b7ad6b7169203331";

/// Keeps what is sent, with the name of who sent it.
#[derive(Clone, Default)]
struct Collected(Arc<Mutex<Vec<(String, Span)>>>);

#[tonic::async_trait]
impl TraceService for Collected {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        for resource in request.into_inner().resource_spans {
            let attributes = resource
                .resource
                .map_or_else(Vec::new, |all| all.attributes);
            let who = texts(&attributes)["service.name"].clone();
            let spans = resource
                .scope_spans
                .into_iter()
                .flat_map(|scope| scope.spans);
            let mut kept = self.0.lock().expect("no panic");
            kept.extend(spans.map(|span| (who.clone(), span)));
        }
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

impl Collected {
    async fn start() -> (Self, SocketAddr) {
        let collected = Self::default();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
            .await
            .expect("a port");
        let address = listener.local_addr().expect("an address");
        let service = TraceServiceServer::new(collected.clone());
        let server = tonic::transport::Server::builder().add_service(service);
        tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
        (collected, address)
    }

    fn all(&self) -> Vec<(String, Span)> {
        self.0.lock().expect("no panic").clone()
    }
}

fn texts(attributes: &[KeyValue]) -> BTreeMap<String, String> {
    let each = attributes.iter().map(|one| {
        let value = one.value.as_ref().and_then(|value| value.value.as_ref());
        let text = match value {
            Some(any_value::Value::StringValue(text)) => text.clone(),
            Some(any_value::Value::IntValue(number)) => number.to_string(),
            other => panic!("{other:?}"),
        };
        (one.key.clone(), text)
    });
    each.collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

struct Deployment {
    dev: Dev,
    collected: Collected,
    _folder: tempfile::TempDir,
}

impl Deployment {
    async fn start() -> Self {
        let (collected, address) = Collected::start().await;
        let folder = folder();
        let mut options = Options::for_tests(folder.path().join("data"), GAVEL);
        options.shards = Some(2);
        options.extra_config = format!("\n[tracing]\nendpoint = \"http://{address}\"\n");
        let dev = tokio::task::spawn_blocking(move || Dev::start(&options));
        Self {
            dev: dev.await.expect("no panic").expect("a deployment"),
            collected,
            _folder: folder,
        }
    }

    async fn submit(&self, traceparent: &str) -> Value {
        let statement = json!({ "sql": "insert into hello (note) values ('x')" });
        let body = json!({"branches": [
            {"shard": "alpha", "statements": [statement]},
            {"shard": "beta", "statements": [statement]},
        ]});
        let url = format!("{}/v1/transactions", self.dev.coordinator_url());
        let request = reqwest::Client::new().post(url).json(&body);
        let sent = request.header("traceparent", traceparent).send().await;
        let answer = sent.expect("an answer").json::<Value>().await;
        answer.expect("JSON")
    }

    /// Waits until spans of these names and senders have come.
    async fn until(&self, wanted: &[(&str, &str)]) -> Vec<(String, Span)> {
        let begun = Instant::now();
        loop {
            let all = self.collected.all();
            let is_there = |(who, name): &(&str, &str)| {
                let mut spans = all.iter();
                spans.any(|(sender, span)| sender == who && span.name == *name)
            };
            if wanted.iter().all(is_there) {
                return all;
            }
            assert!(begun.elapsed() < LIMIT, "{wanted:?}: {all:?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_is_followed_from_its_client_to_the_servers_log() {
    let deployment = Deployment::start().await;
    for server in deployment.dev.servers() {
        server
            .sql("app", "ALTER SYSTEM SET log_statement = 'all'")
            .expect("it is set");
        server
            .sql("app", "SELECT pg_reload_conf()")
            .expect("it is read");
    }
    let sampled = format!("00-{TRACE}-{CALLER}-01");
    let answer = deployment.submit(&sampled).await;
    assert_eq!(answer["outcome"], "committed", "{answer}");
    let wanted = [
        ("gavel-coordinator", "transaction"),
        ("gavel-coordinator", "queue"),
        ("gavel-coordinator", "prepare"),
        ("gavel-coordinator", "work_ahead"),
        ("gavel-coordinator", "decide"),
        ("gavel-coordinator", "finish"),
        ("gavel-participant", "Prepare"),
        ("gavel-participant", "HeadStart"),
        ("gavel-participant", "SessionCommit"),
        ("gavel-participant", "Finish"),
    ];
    let all = deployment.until(&wanted).await;
    let named = |name: &str| {
        let mut spans = all.iter().map(|(_, span)| span);
        spans.find(|span| span.name == name).expect(name)
    };
    assert!(
        all.iter().all(|(_, span)| hex(&span.trace_id) == TRACE),
        "{all:?}"
    );

    let transaction = named("transaction");
    assert_eq!(hex(&transaction.parent_span_id), CALLER);
    let attributes = texts(&transaction.attributes);
    assert_eq!(
        attributes["gavel.txid"],
        answer["txid"].as_str().expect("a txid")
    );
    assert_eq!(attributes["gavel.outcome"], "committed");
    for name in ["queue", "prepare", "work_ahead", "decide", "finish"] {
        assert_eq!(named(name).parent_span_id, transaction.span_id, "{name}");
    }
    let prepare = named("prepare");
    let attributes = texts(&prepare.attributes);
    assert_eq!(attributes["gavel.shard.tag"], "2");
    assert_eq!(attributes["gavel.batch.members"], "1");
    let below = [
        ("Prepare", "prepare"),
        ("HeadStart", "work_ahead"),
        ("Finish", "finish"),
    ];
    for (child, parent) in below {
        assert_eq!(
            named(child).parent_span_id,
            named(parent).span_id,
            "{child}"
        );
    }
    assert!(prepare.start_time_unix_nano < prepare.end_time_unix_nano);

    let log = deployment.dev.servers()[1].log_tail(500);
    let comment = format!(
        "/*traceparent='00-{TRACE}-{}-01'*/",
        hex(&named("Prepare").span_id)
    );
    let line = log
        .lines()
        .find(|line| line.contains("PREPARE TRANSACTION"))
        .expect("a line");
    assert!(line.contains(&comment), "{line}");

    // Who says that he wants no spans gets none; nor does who says nothing, without `roots`.
    let before = deployment.collected.all().len();
    for unsampled in [format!("00-{TRACE}-{CALLER}-00"), "nonsense".to_owned()] {
        let answer = deployment.submit(&unsampled).await;
        assert_eq!(answer["outcome"], "committed", "{answer}");
    }
    // What is sent comes in order: when the last one is here, the others would be.
    deployment.submit(&sampled).await;
    let begun = Instant::now();
    let transactions = |all: &[(String, Span)]| {
        all.iter()
            .filter(|(_, span)| span.name == "transaction")
            .count()
    };
    while transactions(&deployment.collected.all()) < 2 {
        assert!(begun.elapsed() < LIMIT, "{before}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(transactions(&deployment.collected.all()), 2);
}
