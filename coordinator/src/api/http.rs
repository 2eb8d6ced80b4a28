//! The routes: what is not here does not exist.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::extract::{ConnectInfo, Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Router, extract::DefaultBodyLimit};
use gavel_tls::Peer;
use http::uri::Authority;
use http::{HeaderMap, StatusCode, header};
use serde_json::json;

use super::answer;
use super::auth::Caller;
use super::body::{JsonBody, OptionalBody, TxidInPath};
use super::error::{ApiError, respond};
use super::face::{Face, Step};
use super::openapi::openapi;
use super::request::{Begin, Commit, Execute, Mint, Resolve, RetryShard, SetDraining, Submit};
use super::{console, grpc, health};
use crate::engine::{Answer, InteractiveAnswer};

type Shared = State<Arc<Face>>;
type Answered = Result<Response, ApiError>;

/// All routes of both faces.
pub(super) fn router(face: Arc<Face>) -> Router {
    let guarded = Router::new()
        .route("/v1/transactions", post(submit))
        .route("/v1/transactions/{txid}", get(status))
        .route("/v1/transactions/{txid}/abort", post(abort))
        .route("/v1/txids", post(mint))
        .route("/v1/sessions", post(begin))
        .route("/v1/sessions/{txid}", axum::routing::delete(rollback))
        .route("/v1/sessions/{txid}/statements", post(execute))
        .route("/v1/sessions/{txid}/commit", post(commit))
        .route("/v1/standing", get(standing))
        .route("/v1/transactions/{txid}/story", get(story))
        .route("/v1/in-doubt", get(in_doubt))
        .route("/v1/in-doubt/resolve", post(resolve))
        .route("/v1/shards", get(shards))
        .route("/v1/shards/retry", post(retry_shard))
        .route("/v1/draining", post(set_draining))
        .route("/health/shards", get(shard_health))
        .route_service(
            "/gavel.v1.Gavel/SubmitStream",
            grpc::submit_stream_service(Arc::clone(&face)),
        )
        .route_service("/gavel.v1.Gavel/{method}", grpc::service(Arc::clone(&face)))
        .fallback(not_found)
        .method_not_allowed_fallback(wrong_method)
        .layer(middleware::from_fn_with_state(
            Arc::clone(&face),
            authenticate,
        ));
    Router::new()
        .route("/console", get(console::enter))
        .route("/console/", get(console::index))
        .route("/console/{file}", get(console::part))
        .route("/openapi.json", get(described))
        .route("/health/live", get(live))
        .route("/health/ready", get(ready))
        .route_service("/grpc.health.v1.Health/{method}", health::service(&face))
        .method_not_allowed_fallback(wrong_method)
        .merge(guarded)
        // Bodies are limited where they are read, with an error of our own.
        .layer(DefaultBodyLimit::disable())
        .with_state(face)
}

async fn authenticate(State(face): Shared, mut request: Request, next: Next) -> Response {
    let header = request.headers().get(header::AUTHORIZATION);
    let peer = request.extensions().get().unwrap_or(&Peer::Anonymous);
    let from = request.extensions().get().map(|ConnectInfo(from)| *from);
    if face.is_open() && from.is_some_and(is_loopback) && !names_this_machine(&request) {
        return told(request.headers(), ApiError::other_name());
    }
    match face.authenticate(header.map(|value| value.as_bytes()), peer, from) {
        Ok(caller) => {
            request.extensions_mut().insert(caller);
            let traceparent = request.headers().get(gavel_spans::TRACEPARENT);
            let traceparent = traceparent.and_then(|value| value.to_str().ok());
            let span = gavel_spans::incoming(traceparent);
            gavel_spans::within(span, next.run(request)).await
        }
        Err(error) => told(request.headers(), error),
    }
}

fn is_loopback(from: SocketAddr) -> bool {
    from.ip().to_canonical().is_loopback()
}

/// Whether a request is for this machine by a name that nobody else can give it. A web page that
/// somebody has open here can have its own name lead here (DNS rebinding); then the browser says
/// that name.
fn names_this_machine(request: &Request) -> bool {
    let host = request.headers().get(header::HOST);
    let host = host.and_then(|host| host.to_str().ok()?.parse::<Authority>().ok());
    let Some(authority) = request.uri().authority().cloned().or(host) else {
        // Browsers say it always.
        return true;
    };
    let name = authority.host().trim_matches(['[', ']']);
    name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok()
}

/// An error in the caller's own language.
fn told(headers: &HeaderMap, error: ApiError) -> Response {
    let content_type = headers.get(header::CONTENT_TYPE);
    let is_grpc =
        content_type.is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"));
    if is_grpc {
        grpc::status(&error).into_http()
    } else {
        error.into_response()
    }
}

async fn not_found(headers: HeaderMap) -> Response {
    let message = "there is nothing at this path; see docs/api.md";
    told(
        &headers,
        ApiError::new(StatusCode::NOT_FOUND, "not_found", message),
    )
}

async fn wrong_method() -> ApiError {
    ApiError::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "method_not_allowed",
        "this path wants another method; see docs/api.md",
    )
}

async fn submit(State(face): Shared, caller: Caller, body: JsonBody<Submit>) -> Answered {
    let (transaction, terms) = body.0.into_parts(&face)?;
    let submission = face.submission(caller, transaction, terms)?;
    let answer = Arc::clone(&face).submit(submission).await;
    Ok(answer::transaction(answer, &face.shards()))
}

async fn status(State(face): Shared, caller: Caller, TxidInPath(txid): TxidInPath) -> Answered {
    let status = face.status(caller, txid).await?;
    Ok(answer::status(txid, &status, &face.shards()))
}

async fn abort(State(face): Shared, caller: Caller, TxidInPath(txid): TxidInPath) -> Answered {
    let answer = Arc::clone(&face).abort(caller, txid).await;
    Ok(answer::abort(answer, &face.shards()))
}

async fn mint(State(face): Shared, _caller: Caller, body: OptionalBody<Mint>) -> Answered {
    let home = body.0.home.map(|name| face.shard(&name)).transpose()?;
    let txid = face.mint(home)?;
    Ok(respond(StatusCode::CREATED, json!({ "txid": txid })))
}

async fn begin(State(face): Shared, caller: Caller, body: OptionalBody<Begin>) -> Answered {
    let begin = body.0;
    let home = begin.home.map(|name| face.shard(&name)).transpose()?;
    let txid = match begin.txid {
        None => face.mint(home)?,
        Some(text) => face.txid(&text)?,
    };
    if home.is_some_and(|home| home != txid.home()) {
        let message = "the txid names another home than `home` does: leave one of them out";
        return Err(ApiError::bad("home_mismatch", message));
    }
    let isolation = begin.isolation.unwrap_or_default();
    Arc::clone(&face).begin(caller, txid, isolation).await?;
    Ok(respond(StatusCode::CREATED, json!({ "txid": txid })))
}

async fn execute(
    State(face): Shared,
    caller: Caller,
    TxidInPath(txid): TxidInPath,
    body: JsonBody<Execute>,
) -> Answered {
    let sequence = body.0.sequence;
    let step = Step {
        txid,
        sequence,
        shard: face.shard(&body.0.shard)?,
        statement: body.0.into_statement(),
    };
    match Arc::clone(&face).execute(caller, step).await? {
        InteractiveAnswer::Done(result) => Ok(answer::executed(txid, sequence, &result)),
        InteractiveAnswer::Ended(outcome) => {
            let answer = Answer {
                txid,
                outcome,
                results: Vec::new(),
            };
            Ok(answer::transaction(answer, &face.shards()))
        }
    }
}

async fn commit(
    State(face): Shared,
    caller: Caller,
    TxidInPath(txid): TxidInPath,
    body: OptionalBody<Commit>,
) -> Answered {
    let ack = body.0.ack.unwrap_or_default();
    let answer = Arc::clone(&face).commit(caller, txid, ack).await;
    Ok(answer::transaction(answer, &face.shards()))
}

async fn rollback(State(face): Shared, caller: Caller, TxidInPath(txid): TxidInPath) -> Answered {
    face.rollback(caller, txid).await?;
    let body = json!({ "txid": txid, "outcome": "rolled_back" });
    Ok(respond(StatusCode::OK, body))
}

async fn in_doubt(State(face): Shared, caller: Caller) -> Answered {
    let found = face.in_doubt(&caller).await?;
    Ok(answer::in_doubt(&found, &face.shards()))
}

async fn resolve(State(face): Shared, caller: Caller, body: JsonBody<Resolve>) -> Answered {
    let Resolve { gid, because } = body.0;
    let done = face.resolve(caller, &gid, &because).await?;
    Ok(respond(
        StatusCode::OK,
        json!({ "gid": gid, "resolution": done }),
    ))
}

async fn retry_shard(State(face): Shared, caller: Caller, body: JsonBody<RetryShard>) -> Answered {
    let RetryShard { shard, because } = body.0;
    let found = face.retry_shard(caller, &shard, &because).await?;
    Ok(respond(
        StatusCode::OK,
        json!({ "shard": shard, "found": found }),
    ))
}

async fn set_draining(
    State(face): Shared,
    caller: Caller,
    body: JsonBody<SetDraining>,
) -> Answered {
    let SetDraining { draining, because } = body.0;
    let under_way = face.set_draining(&caller, draining, &because)?;
    Ok(respond(
        StatusCode::OK,
        json!({ "draining": draining, "under_way": under_way }),
    ))
}

async fn story(State(face): Shared, caller: Caller, TxidInPath(txid): TxidInPath) -> Answered {
    let stories = face.stories(&caller, txid)?;
    Ok(answer::stories(txid, &stories, &face.shards()))
}

async fn standing(State(face): Shared, caller: Caller) -> Answered {
    let standing = face.standing(&caller)?;
    Ok(answer::standing(standing, &face.shards()))
}

async fn shards(State(face): Shared, _caller: Caller) -> Response {
    answer::shards(&face.shards())
}

async fn described() -> Response {
    respond(StatusCode::OK, openapi())
}

async fn live() -> Response {
    respond(StatusCode::OK, json!({ "live": true }))
}

async fn ready(State(face): Shared) -> Answered {
    match face.not_ready().await {
        None => Ok(respond(StatusCode::OK, json!({ "ready": true }))),
        Some(reason) => {
            let mut error = ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "not_ready", reason);
            error.retryable = true;
            Err(error)
        }
    }
}

/// 503 if one of them is not well. That is no reason to send traffic elsewhere: other coordinators
/// do not reach it either.
async fn shard_health(State(face): Shared) -> Response {
    answer::shard_health(face.named_shard_health())
}
