//! gRPC's standard health service of the coordinator: as `/health/ready`, and as `/health/shards`
//! with the service `shard:NAME`.

use std::sync::Arc;

use gavel_participant::serve::{HealthService, health_service};
use gavel_wire::api::gavel_server::GavelServer;
use tonic::server::NamedService as _;
use tonic_health::pb::health_server::HealthServer;

use super::face::Face;
use super::grpc::Grpc;

pub(super) fn service(face: &Arc<Face>) -> HealthServer<HealthService> {
    let face = face.clone();
    health_service(move |service| {
        let face = face.clone();
        Box::pin(async move { is_well(&face, &service).await })
    })
}

async fn is_well(face: &Face, service: &str) -> Option<bool> {
    if let Some(shard) = service.strip_prefix("shard:") {
        let health = face.shard_health();
        let tag = face.shards().tag(&shard.parse().ok()?)?;
        let (_, wrong) = health.into_iter().find(|(each, _)| *each == tag)?;
        return Some(wrong.is_none());
    }
    match service {
        "" | GavelServer::<Grpc>::NAME => Some(face.not_ready().await.is_none()),
        _ => None,
    }
}
