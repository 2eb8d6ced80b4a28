//! Reading what a caller sends, with an error of our own for everything that can be wrong.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{FromRequest, FromRequestParts, Path, Request};
use gavel_protocol::Txid;
use http::request::Parts;
use http::{HeaderMap, StatusCode, header};
use serde::de::DeserializeOwned;
use serde_json::error::Category;

use super::auth::Caller;
use super::error::ApiError;
use super::face::Face;

/// How long a caller may take to send a body: a slow sender must not hold memory for ever.
const BODY_TIMEOUT: Duration = Duration::from_secs(15);

/// A body that must be there.
pub(super) struct JsonBody<T>(pub(super) T);

impl<T: DeserializeOwned> FromRequest<Arc<Face>> for JsonBody<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, face: &Arc<Face>) -> Result<Self, ApiError> {
        let (parts, body) = request.into_parts();
        check_headers(&parts.headers)?;
        let bytes = read(&parts.headers, body, face.limits().request_bytes_max).await?;
        parse(&bytes).map(Self)
    }
}

/// A body that may be left out.
pub(super) struct OptionalBody<T>(pub(super) T);

impl<T: DeserializeOwned + Default> FromRequest<Arc<Face>> for OptionalBody<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, face: &Arc<Face>) -> Result<Self, ApiError> {
        let (parts, body) = request.into_parts();
        let bytes = read(&parts.headers, body, face.limits().request_bytes_max).await?;
        if bytes.is_empty() {
            return Ok(Self(T::default()));
        }
        check_headers(&parts.headers)?;
        parse(&bytes).map(Self)
    }
}

fn check_headers(headers: &HeaderMap) -> Result<(), ApiError> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let media_type = text(header::CONTENT_TYPE).unwrap_or_default();
    let essence = media_type.split(';').next().unwrap_or_default().trim();
    if !essence.eq_ignore_ascii_case("application/json") {
        return Err(ApiError::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "unsupported_media_type",
            "send JSON with the header `content-type: application/json`",
        ));
    }
    match text(header::CONTENT_ENCODING) {
        None | Some("identity") => Ok(()),
        Some(_) => Err(ApiError::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "unsupported_encoding",
            "send the body without content-encoding",
        )),
    }
}

async fn read(headers: &HeaderMap, body: Body, max: usize) -> Result<Bytes, ApiError> {
    let announced = headers.get(header::CONTENT_LENGTH);
    let announced = announced.and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|length| length > max as u64) {
        return Err(ApiError::too_large(max));
    }
    let reading = axum::body::to_bytes(body, max);
    match tokio::time::timeout(BODY_TIMEOUT, reading).await {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(error)) if is_length_limit(&error) => Err(ApiError::too_large(max)),
        Ok(Err(_)) => Err(ApiError::bad("body_unreadable", "the body broke off")),
        Err(_) => Err(ApiError::new(
            StatusCode::REQUEST_TIMEOUT,
            "body_timeout",
            format!("the body did not arrive within {BODY_TIMEOUT:?}"),
        )),
    }
}

fn is_length_limit(error: &axum::Error) -> bool {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if error.is::<http_body_util::LengthLimitError>() {
            return true;
        }
        cause = error.source();
    }
    false
}

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ApiError> {
    serde_json::from_slice(bytes).map_err(|error| {
        let code = match error.classify() {
            Category::Data => "invalid_request",
            Category::Io | Category::Syntax | Category::Eof => "malformed_json",
        };
        ApiError::bad(code, error.to_string())
    })
}

/// The txid of the path.
pub(super) struct TxidInPath(pub(super) Txid);

impl FromRequestParts<Arc<Face>> for TxidInPath {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, face: &Arc<Face>) -> Result<Self, ApiError> {
        let text = Path::<String>::from_request_parts(parts, face).await;
        let text = text.map_or_else(|_| String::new(), |Path(text)| text);
        face.txid(&text).map(Self)
    }
}

/// Put there by the authentication layer; a route that is not behind it has no caller.
impl FromRequestParts<Arc<Face>> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &Arc<Face>) -> Result<Self, ApiError> {
        let caller = parts.extensions.get::<Caller>().cloned();
        caller.ok_or_else(ApiError::unauthenticated)
    }
}
