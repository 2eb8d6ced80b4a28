//! Which path does what, and the bounds that hold for every request.

use std::sync::Arc;

use axum::extract::{DefaultBodyLimit, Request, State};
use axum::middleware::{self, Next};
use axum::response::Response;
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use crate::bank::Bank;
use crate::error::{ApiError, ErrorCode};
use crate::{accounts, audit, transfers};

/// No request here has more than a few hundred bytes.
const BODY_BYTES_MAX: usize = 16 << 10;
/// More requests at once than this would only wait for each other.
const REQUESTS_AT_ONCE_MAX: usize = 512;

/// The API.
pub fn router(bank: Arc<Bank>) -> Router {
    let room = Arc::new(Semaphore::new(REQUESTS_AT_ONCE_MAX));
    Router::new()
        .route("/accounts", post(accounts::open))
        .route("/accounts/{id}", get(accounts::show))
        .route("/transfers", post(transfers::submit))
        .route("/transfers/{id}", get(transfers::show))
        .route("/audit", get(audit::show))
        .route("/health", get(async || Json(json!({"status": "ok"}))))
        .method_not_allowed_fallback(async || {
            ApiError::new(
                ErrorCode::MethodNotAllowed,
                "this path does not take this method",
            )
        })
        .fallback(async || {
            let message = "there are /accounts, /accounts/{id}, /transfers, /transfers/{id}, \
                           /audit and /health";
            ApiError::new(ErrorCode::NotFound, message)
        })
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(middleware::from_fn_with_state(room, bounded))
        .with_state(bank)
}

/// Serves the API until `stop` completes; requests under way are finished.
///
/// # Errors
/// The listener fails.
pub async fn serve(
    listener: TcpListener,
    bank: Arc<Bank>,
    stop: impl Future<Output = ()> + Send + 'static,
) -> std::io::Result<()> {
    axum::serve(listener, router(bank))
        .with_graceful_shutdown(stop)
        .await
}

/// Refuses early what would have to queue.
async fn bounded(
    State(room): State<Arc<Semaphore>>,
    request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    let _place = room.try_acquire().map_err(|_| {
        ApiError::new(
            ErrorCode::Overloaded,
            "too many requests at once; try again",
        )
    })?;
    Ok(next.run(request).await)
}
