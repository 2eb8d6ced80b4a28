//! A connection that says how far a call got.
//!
//! tonic folds three things into one status: a connection that could not be made, an error that
//! the coordinator sent, and a call that broke off. Only the first two prove that nothing was
//! done, so they are told apart here, where they still can be.

use std::error::Error;
use std::task::{Context, Poll};

use http::{HeaderValue, Request, Response, header};
use tonic::body::Body;
use tonic::codegen::{BoxFuture, Service};
use tonic::metadata::MetadataValue;
use tonic::transport::Channel;
use tonic::{Code, ConnectError, Status};

/// Marks a status: what it proves.
const PROOF: &str = "gavel-client-proof";
const NOT_SENT: &str = "not-sent";
const ANSWERED: &str = "answered";

/// What a status proves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Proof {
    /// No connection could be made.
    NotSent,
    /// The other side sent this status instead of an answer.
    Answered,
    /// Nothing.
    None,
}

/// What this status proves.
pub(super) fn proof(status: &Status) -> Proof {
    let mark = status.metadata().get(PROOF).map(MetadataValue::as_bytes);
    match mark {
        Some(mark) if mark == NOT_SENT.as_bytes() => Proof::NotSent,
        Some(mark) if mark == ANSWERED.as_bytes() => Proof::Answered,
        Some(_) | None => Proof::None,
    }
}

fn marked(mut status: Status, mark: &'static str) -> Status {
    let mark = MetadataValue::from_static(mark);
    status.metadata_mut().insert(PROOF, mark);
    status
}

/// A channel that adds the token and marks statuses.
#[derive(Clone)]
pub(super) struct MarkingChannel {
    pub(super) channel: Channel,
    /// The whole `Authorization` header, marked as sensitive.
    pub(super) authorization: Option<HeaderValue>,
}

impl Service<Request<Body>> for MarkingChannel {
    type Response = Response<Body>;
    type Error = Status;
    type Future = BoxFuture<Self::Response, Status>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Status>> {
        self.channel.poll_ready(context).map_err(from_transport)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        if let Some(authorization) = &self.authorization {
            let headers = request.headers_mut();
            headers.insert(header::AUTHORIZATION, authorization.clone());
        }
        let calling = self.channel.call(request);
        Box::pin(async move { judge(calling.await.map_err(from_transport)?) })
    }
}

/// An answer that is an error from its first byte was sent by the coordinator on purpose.
fn judge(response: Response<Body>) -> Result<Response<Body>, Status> {
    match Status::from_header_map(response.headers()) {
        Some(status) if status.code() != Code::Ok => {
            let mut clean = status;
            clean.metadata_mut().remove(PROOF);
            Err(marked(clean, ANSWERED))
        }
        Some(_) | None => Ok(response),
    }
}

fn from_transport(error: tonic::transport::Error) -> Status {
    let mut cause: Option<&(dyn Error + 'static)> = Some(&error);
    while let Some(error) = cause {
        if error.is::<ConnectError>() {
            return marked(Status::unavailable(chain(error)), NOT_SENT);
        }
        cause = error.source();
    }
    Status::unavailable(chain(&error))
}

/// An error with its causes, each said once.
fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
}
