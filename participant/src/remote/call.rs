//! One call: address it, send it once, wait for it, and say honestly what came of it.

use std::error::Error;
use std::time::Duration;

use gavel_protocol::{Refusal, RefusalCode};
use gavel_wire::MalformedMessage;
use gavel_wire::addressed::Addressed;
use gavel_wire::participant::participant_service_client::ParticipantServiceClient;
use prost::Message;
use tonic::transport::Channel;
use tonic::{Request, Response, Status};

use super::RemoteParticipant;
use crate::api::Unavailable;

pub(super) type Client = ParticipantServiceClient<Channel>;

/// A call without a usable answer.
#[derive(Debug)]
pub(super) enum NoAnswer {
    /// The request never left this process: nothing happened because of it.
    NeverSent(Refusal),
    /// Anything may have happened.
    Unknown(String),
}

impl NoAnswer {
    /// What went wrong, for people.
    pub(super) fn detail(self) -> String {
        match self {
            Self::NeverSent(refusal) => refusal.message,
            Self::Unknown(detail) => detail,
        }
    }
}

impl From<MalformedMessage> for NoAnswer {
    fn from(error: MalformedMessage) -> Self {
        Self::Unknown(error.to_string())
    }
}

impl RemoteParticipant {
    /// Sends `request` once and waits `deadline` for its answer.
    pub(super) async fn call<Q, A, F>(
        &self,
        mut request: Q,
        deadline: Duration,
        send: impl FnOnce(Client, Request<Q>) -> F,
    ) -> Result<A, NoAnswer>
    where
        Q: Addressed + Message,
        A: Addressed,
        F: Future<Output = Result<Response<A>, Status>>,
    {
        request.stamp(self.tag);
        self.check_size(request.encoded_len())?;
        // If we die or are cancelled here, the request may be on its way; the branch's driver
        // is gone then, and the participants resolve it.
        let request = within_the_callers_span(request);
        let answer = tokio::time::timeout(deadline, send(self.client.clone(), request)).await;
        let answer = match answer {
            Ok(Ok(response)) => response.into_inner(),
            Ok(Err(status)) => return Err(self.classify(&status)),
            Err(_) => return Err(self.late(deadline)),
        };
        if answer.is_of(self.tag) {
            Ok(answer)
        } else {
            Err(self.misplaced("the answer is another shard's: check the addresses"))
        }
    }

    /// Checked here, and not by tonic: its error would not say that nothing was sent.
    fn check_size(&self, found: usize) -> Result<(), NoAnswer> {
        let max = self.request_bytes_max;
        if found <= max {
            return Ok(());
        }
        let message = format!(
            "a message of {found} bytes for shard {}, {max} at most",
            self.tag
        );
        Err(NoAnswer::NeverSent(Refusal::new(
            RefusalCode::InvalidRequest,
            message,
        )))
    }

    /// What an error proves.
    pub(super) fn classify(&self, status: &Status) -> NoAnswer {
        let detail = format!(
            "the participant of shard {} did not answer: {}: {}",
            self.tag,
            status.code().description(),
            status.message()
        );
        if never_connected(status) {
            NoAnswer::NeverSent(Refusal::new(RefusalCode::ShardUnavailable, detail))
        } else {
            NoAnswer::Unknown(detail)
        }
    }

    /// The answer that did not come in time.
    pub(super) fn late(&self, deadline: Duration) -> NoAnswer {
        NoAnswer::Unknown(format!(
            "the participant of shard {} did not answer within {} ms",
            self.tag,
            deadline.as_millis()
        ))
    }

    /// An answer that is not one to the question.
    pub(super) fn misplaced(&self, what: &str) -> NoAnswer {
        NoAnswer::Unknown(format!("shard {}: {what}", self.tag))
    }

    /// A missing answer, where the trait's method has an error for it.
    pub(super) fn unavailable(&self, no_answer: NoAnswer) -> Unavailable {
        Unavailable {
            shard: self.tag,
            detail: no_answer.detail(),
        }
    }
}

/// A request that says in which span it is made, if it is traced.
fn within_the_callers_span<Q>(request: Q) -> Request<Q> {
    let mut request = Request::new(request);
    let traceparent = gavel_spans::current().map(|span| span.to_string().parse());
    if let Some(Ok(value)) = traceparent {
        request
            .metadata_mut()
            .insert(gavel_spans::TRACEPARENT, value);
    }
    request
}

/// Whether the error arose while the connection was being made. tonic hands a request to a
/// connection only when there is one; with a `ConnectError` it was handed to none. This type is
/// made in no other place, and a server cannot forge it: it is a local error's source, not a
/// status code.
fn never_connected(status: &Status) -> bool {
    let mut cause = status.source();
    while let Some(error) = cause {
        if error.is::<tonic::ConnectError>() {
            return true;
        }
        cause = error.source();
    }
    false
}
