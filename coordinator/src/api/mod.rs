//! The coordinator's two faces on one port: gRPC (`gavel.v1.Gavel`) and JSON over HTTP.
//!
//! Both say the same things about the same [`Engine`]. A face authenticates the caller, checks
//! what can be checked without a database, and translates; it decides nothing. Every answer that
//! is not about a transaction's outcome is an error with a stable code, and nothing leaves here
//! as plain text.
//!
//! Failure model: a caller who goes away does not stop what he started, as calls that change
//! something run in tasks of their own; a face that panics says `in doubt`, never `aborted`.
//!
//! Routing is default-deny: what is not listed in `http.rs` or the proto file is not found, and
//! everything but health needs an authenticated caller.

mod answer;
mod auth;
mod bind;
mod body;
mod console;
mod error;
mod face;
mod grpc;
mod health;
mod http;
mod openapi;
mod permission;
mod request;
mod rows;
mod serve;
mod submits;

pub use answer::shard_health;
pub use auth::{AuthConfigError, Authenticator, Caller, Role, TokenSource};
pub use bind::{BindError, check_bind};
pub use openapi::openapi;
pub use permission::{Permissions, Permitted};
pub use serve::serve;

use std::sync::Arc;

use gavel_protocol::Limits;

use crate::engine::Engine;
use face::Face;

/// Everything that the coordinator answers, for [`serve()`].
pub fn router(engine: Arc<dyn Engine>, auth: Authenticator, limits: &Limits) -> axum::Router {
    let face = Face::new(engine, auth, limits);
    http::router(face)
}
