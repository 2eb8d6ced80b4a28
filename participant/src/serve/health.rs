//! gRPC's standard health service, for probes and load balancers that speak it.
//!
//! It answers `Check`. `Watch` is not offered: it would let callers without an identity hold
//! streams open, and by the protocol a client that is told so goes on without.
//!
//! See <https://github.com/grpc/grpc/blob/master/doc/health-checking.md>.

use std::sync::Arc;

use futures::future::BoxFuture;
use futures::stream::Pending;
use tonic::{Request, Response, Status};
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_server::{Health, HealthServer};
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};

/// Whether the service of that name is well; `None` if there is no such service. The empty name
/// is the whole process.
type Check = dyn Fn(String) -> BoxFuture<'static, Option<bool>> + Send + Sync;

/// The health service of a process.
#[derive(Clone)]
pub struct HealthService(Arc<Check>);

/// A health service that answers what `check` says: whether the service of that name is well, or
/// `None` if there is no such service. The empty name is the whole process.
pub fn health_service(
    check: impl Fn(String) -> BoxFuture<'static, Option<bool>> + Send + Sync + 'static,
) -> HealthServer<HealthService> {
    HealthServer::new(HealthService(Arc::new(check)))
}

#[tonic::async_trait]
impl Health for HealthService {
    type WatchStream = Pending<Result<HealthCheckResponse, Status>>;

    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        let status = match (self.0)(request.into_inner().service).await {
            Some(true) => ServingStatus::Serving,
            Some(false) => ServingStatus::NotServing,
            None => return Err(Status::not_found("there is no such service")),
        };
        Ok(Response::new(HealthCheckResponse {
            status: status.into(),
        }))
    }

    async fn watch(
        &self,
        _: Request<HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        Err(Status::unimplemented("ask again and again with Check"))
    }
}
