//! Who may call what. What is not listed may be called by nobody.

use std::future::{Ready, ready};
use std::task::{Context, Poll};

use futures::future::Either;
use gavel_tls::{Peer, Role};
use gavel_wire::participant::participant_service_server::SERVICE_NAME;
use http::{Request, Response};
use tonic::Status;
use tonic::body::Body;
use tower::{Layer, Service};

/// Coordinators drive transactions; participants resolve and compare what coordinators left.
const COORDINATORS: &[Role] = &[Role::Coordinator];
const PARTICIPANTS: &[Role] = &[Role::Participant];
const BOTH: &[Role] = &[Role::Coordinator, Role::Participant];

/// Every method of the internal service, and the roles that may call it.
pub const METHODS: &[(&str, &[Role])] = &[
    ("Identity", BOTH),
    ("Attend", COORDINATORS),
    ("Prepare", COORDINATORS),
    ("Decide", COORDINATORS),
    ("HeadStart", COORDINATORS),
    ("Finish", COORDINATORS),
    ("Resolve", BOTH),
    ("LookUpDecisions", PARTICIPANTS),
    ("LookUpBranches", PARTICIPANTS),
    ("RecordAborts", COORDINATORS),
    ("Status", COORDINATORS),
    ("SessionOpen", COORDINATORS),
    ("SessionExecute", COORDINATORS),
    ("SessionPrepare", COORDINATORS),
    ("SessionEnterDecision", COORDINATORS),
    ("SessionCommit", COORDINATORS),
    ("SessionRollback", COORDINATORS),
    ("InDoubt", BOTH),
    ("ResolveNow", COORDINATORS),
    ("PageDecisions", PARTICIPANTS),
    ("PageBranches", PARTICIPANTS),
    ("Retention", BOTH),
];

/// Health is nobody's secret, but a certificate of the deployment is needed to get here at all.
const HEALTH: &str = "grpc.health.v1.Health";

/// The method that is called: names a span.
#[derive(Debug, Clone, Copy)]
pub(super) struct Called(pub(super) &'static str);

impl Called {
    fn at(path: &str) -> Option<Self> {
        let (_, method) = path.rsplit_once('/')?;
        let mut known = METHODS.iter().map(|(name, _)| *name);
        known.find(|name| *name == method).map(Self)
    }
}

fn may_call(role: Role, path: &str) -> bool {
    let Some((service, method)) = path.trim_start_matches('/').split_once('/') else {
        return false;
    };
    match service {
        SERVICE_NAME => METHODS
            .iter()
            .any(|(name, roles)| *name == method && roles.contains(&role)),
        HEALTH => true,
        _ => false,
    }
}

fn refusal(peer: Option<&Peer>, path: &str) -> Option<Status> {
    match peer {
        // Only where somebody said that whoever reaches this address is trusted.
        Some(Peer::Unverified) => None,
        Some(Peer::Known(identity)) if may_call(identity.role, path) => None,
        Some(Peer::Known(identity)) => {
            tracing::warn!(target: "gavel::audit", who = %identity, what = path, "forbidden");
            Some(Status::permission_denied(format!(
                "`{identity}` may not call this; nothing was done"
            )))
        }
        Some(Peer::Anonymous) | None => {
            tracing::warn!(target: "gavel::audit", what = path, "nobody known");
            Some(Status::unauthenticated("a certificate is needed"))
        }
    }
}

/// Lets through what the connection's identity may call.
#[derive(Clone, Copy)]
pub(super) struct Authorize;

impl<S> Layer<S> for Authorize {
    type Service = Authorized<S>;
    fn layer(&self, inner: S) -> Authorized<S> {
        Authorized(inner)
    }
}

#[derive(Clone)]
pub(super) struct Authorized<S>(S);

impl<S, E> Service<Request<Body>> for Authorized<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = E>,
{
    type Response = Response<Body>;
    type Error = E;
    type Future = Either<S::Future, Ready<Result<Response<Body>, E>>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), E>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        match refusal(request.extensions().get(), request.uri().path()) {
            None => {
                if let Some(called) = Called::at(request.uri().path()) {
                    request.extensions_mut().insert(called);
                }
                Either::Left(self.0.call(request))
            }
            Some(status) => Either::Right(ready(Ok(status.into_http()))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_may_call_what_is_not_listed() {
        for role in Role::ALL {
            for path in [
                "",
                "/",
                "/Prepare",
                "/gavel.participant.v1.ParticipantService/Unheard",
                "/gavel.participant.v1.ParticipantService/Prepare/",
                "/other.Service/Prepare",
            ] {
                assert!(!may_call(role, path), "{role} {path}");
            }
        }
    }

    #[test]
    fn who_is_no_service_may_call_nothing() {
        for role in [Role::Client, Role::Operator, Role::Metrics] {
            for (method, _) in METHODS {
                assert!(!may_call(role, &format!("/{SERVICE_NAME}/{method}")));
            }
        }
    }
}
