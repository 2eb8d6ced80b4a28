//! gRPC's standard health service of a participant.

use gavel_protocol::Limits;
use tonic::Code;
use tonic::transport::Channel;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use crate::recorder::Recorder;
use crate::server::Server;

#[tokio::test]
async fn a_participant_whose_database_does_not_answer_is_not_well() {
    let server = Server::start(Recorder::open(crate::SHARD), &Limits::default()).await;
    let address = format!("http://{}", server.address);
    let channel = Channel::from_shared(address).expect("an address");
    let channel = channel.connect().await.expect("a connection");
    for (service, expected) in [
        ("", Ok(ServingStatus::NotServing)),
        (
            "gavel.participant.v1.ParticipantService",
            Ok(ServingStatus::NotServing),
        ),
        ("another.Service", Err(Code::NotFound)),
    ] {
        let request = HealthCheckRequest {
            service: service.to_owned(),
        };
        let answered = HealthClient::new(channel.clone()).check(request).await;
        let status = answered.map(|answer| answer.into_inner().status());
        assert_eq!(
            status.map_err(|status| status.code()),
            expected,
            "{service}"
        );
    }
}
