//! Thousands of calls at once on one connection: each is answered, and the connection survives
//! (HTTP/2 closes one on which small answers pile up, unless its windows are large).

use std::time::Duration;

use futures::future::join_all;
use gavel_client::{Gavel, Options, params};
use gavel_tests::fleet::Fleet;
use gavel_wire::api as wire;
use gavel_wire::api::gavel_client::GavelClient;
use gavel_wire::sizes;
use tonic::transport::Endpoint;

const CALLS: usize = 3_000;

fn fleet() -> Fleet {
    Fleet::start_with(|mut options| {
        options.coordinators = 1;
        // Where batches have one member, the last of the crowd waits for all others.
        options.extra_config = "[limits]\nsubmit_timeout_ms = 60000\n".to_owned();
        options
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn three_thousand_submits_at_once_through_one_client() {
    let fleet = fleet();
    // A pause that is longer than the deadline: what fails is not tried again.
    let options = Options::new()
        .deadline(Duration::from_secs(60))
        .attempt_timeout(Duration::from_secs(50))
        .backoff(Duration::from_secs(600), Duration::from_secs(600));
    let urls = fleet.dev.coordinator_urls();
    let gavel = Gavel::connect_with(urls, options).await.expect("connect");
    let [shard, _] = fleet.data_shards();
    let submits = (0..CALLS).map(|_| {
        let transaction = gavel.transaction().on(shard);
        tokio::spawn(transaction.query("SELECT 1", params![]).submit())
    });
    for submitted in join_all(submits.collect::<Vec<_>>()).await {
        let outcome = submitted.expect("no panic").expect("a transaction");
        assert!(outcome.is_committed(), "{outcome}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn three_thousand_calls_at_once_on_one_connection() {
    let fleet = fleet();
    let urls = fleet.dev.coordinator_urls();
    let gavel = Gavel::connect(urls.clone()).await.expect("connect");
    let channel = Endpoint::from_shared(urls[0].clone())
        .expect("an address")
        .initial_stream_window_size(sizes::STREAM_WINDOW_BYTES)
        .initial_connection_window_size(sizes::CONNECTION_WINDOW_BYTES);
    let client = GavelClient::new(channel.connect().await.expect("connect"));
    let [shard, _] = fleet.data_shards();
    let calls = (0..CALLS).map(|_| {
        let statement = wire::Statement {
            sql: "SELECT 1".to_owned(),
            ..Default::default()
        };
        let branch = wire::Branch {
            shard: shard.to_owned(),
            access: None,
            statements: vec![statement],
        };
        let request = wire::SubmitRequest {
            txid: gavel.mint(shard).expect("a shard").to_string(),
            branches: vec![branch],
            ..Default::default()
        };
        let mut client = client.clone();
        tokio::spawn(async move { client.submit(request).await })
    });
    for called in join_all(calls.collect::<Vec<_>>()).await {
        let response = called.expect("no panic").expect("an answer").into_inner();
        let outcome = response.outcome.and_then(|outcome| outcome.outcome);
        let is_committed = matches!(outcome, Some(wire::outcome::Outcome::Committed(_)));
        assert!(is_committed, "{outcome:?}");
    }
}
