//! Every route that takes JSON: whatever is sent is refused, or reaches the engine within the
//! limits (`engine.rs` asserts that), and the answer is JSON with a stable code.
//!
//! The first byte chooses the route; the rest is the body.

#![no_main]

use axum::body::Body;
use gavel_fuzz::{block_on, engine};
use http::{Request, StatusCode};
use http_body_util::BodyExt as _;
use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use tower::ServiceExt as _;

const ROUTES: [&str; 9] = [
    "/v1/transactions",
    "/v1/transactions/01997f00-0000-7000-8000-000000000001/abort",
    "/v1/txids",
    "/v1/sessions",
    "/v1/sessions/01997f00-0000-7000-8000-000000000001/statements",
    "/v1/sessions/01997f00-0000-7000-8000-000000000001/commit",
    "/v1/in-doubt/resolve",
    "/v1/shards/retry",
    "/v1/draining",
];

fuzz_target!(|data: &[u8]| {
    thread_local!(static ROUTER: axum::Router = engine::router());
    let Some((route, body)) = data.split_first() else {
        return;
    };
    let request = Request::post(ROUTES[usize::from(*route) % ROUTES.len()])
        .header("content-type", "application/json")
        .body(Body::from(body.to_vec()))
        .expect("a request");
    let (status, answer) = block_on(async {
        let router = ROUTER.with(Clone::clone);
        let Ok(response) = router.oneshot(request).await;
        let status = response.status();
        let bytes = response.into_body().collect().await.expect("a body");
        (status, bytes.to_bytes())
    });
    let answer: Value = serde_json::from_slice(&answer).expect("JSON");
    assert_ne!(status, StatusCode::INTERNAL_SERVER_ERROR, "{answer}");
    let told = ["error", "outcome", "txid", "result", "gid"];
    assert!(
        told.iter().any(|field| answer.get(field).is_some()),
        "{answer}"
    );
});
