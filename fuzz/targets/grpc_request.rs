//! Protobuf bytes as every message that there is, and as requests to the gRPC face.
//!
//! The first byte chooses the method; the rest is the message.

#![no_main]

use axum::body::Body;
use gavel_fuzz::{block_on, engine, round_trip};
use http::Request;
use http_body_util::BodyExt as _;
use libfuzzer_sys::fuzz_target;
use tower::ServiceExt as _;

const METHODS: [&str; 12] = [
    "Submit",
    "Status",
    "Abort",
    "MintTxid",
    "Begin",
    "Execute",
    "Commit",
    "Rollback",
    "ResolveInDoubt",
    "RetryShard",
    "SetDraining",
    "SubmitStream",
];

fuzz_target!(|data: &[u8]| {
    let Some((method, message)) = data.split_first() else {
        return;
    };
    round_trip::participant(message);
    round_trip::public(message);
    ask(METHODS[usize::from(*method) % METHODS.len()], message);
});

fn ask(method: &str, message: &[u8]) {
    thread_local!(static ROUTER: axum::Router = engine::router());
    let length = u32::try_from(message.len()).expect("a short message");
    let mut frame = vec![0];
    frame.extend(length.to_be_bytes());
    frame.extend(message);
    let request = Request::post(format!("/gavel.v1.Gavel/{method}"))
        .header("content-type", "application/grpc")
        .body(Body::from(frame))
        .expect("a request");
    let (headers, trailers) = block_on(async {
        let router = ROUTER.with(Clone::clone);
        let Ok(response) = router.oneshot(request).await;
        let headers = response.headers().clone();
        let body = response.into_body().collect().await.expect("a body");
        (headers, body.trailers().cloned().unwrap_or_default())
    });
    let told = headers
        .get("grpc-status")
        .or_else(|| trailers.get("grpc-status"));
    let told = told.expect("a status").to_str().expect("a number");
    // Fine, invalid argument, out of range (too long), internal (tonic's word for undecodable).
    assert!(["0", "3", "11", "13"].contains(&told), "{method}: {told}");
}
