//! Over TLS: every method of the internal service, called by everybody.

use std::error::Error as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use gavel_participant::api::Participant;
use gavel_participant::remote::RemoteParticipant;
use gavel_participant::serve::METHODS;
use gavel_protocol::{DeploymentName, Limits, ShardName};
use gavel_tls::authority::{Authority, Issued, Request};
use gavel_tls::{Acceptor, ClientCertificates, Connector, Identity, Role, Tls, TlsFiles, Trust};
use http::uri::PathAndQuery;
use tempfile::TempDir;
use tonic::client::Grpc;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};
use tonic_prost::ProstCodec;
use tower::service_fn;

use crate::SHARD;
use crate::recorder::Recorder;
use crate::server::Server;

const PROTO: &str = include_str!("../../../wire/proto/gavel/participant/v1/participant.proto");
const SERVICE: &str = "gavel.participant.v1.ParticipantService";
const KEEPALIVE: Duration = Duration::from_secs(10);

/// An authority, and a folder for what it signs.
struct World {
    folder: TempDir,
    authority: Authority,
}

fn shop() -> DeploymentName {
    "shop".parse().unwrap()
}

fn alpha() -> ShardName {
    "alpha".parse().unwrap()
}

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (authority, _) = Authority::new(&shop()).unwrap();
        std::fs::write(folder.path().join("ca.pem"), authority.certificate()).unwrap();
        Self { folder, authority }
    }

    /// Files of somebody in `deployment`.
    fn files(&self, deployment: &str, role: Role, name: &str) -> TlsFiles {
        let identity = Identity {
            deployment: deployment.parse().unwrap(),
            role,
            name: name.to_owned(),
        };
        self.issue(Some(identity), &format!("{deployment}-{role}-{name}"))
    }

    fn issue(&self, identity: Option<Identity>, file: &str) -> TlsFiles {
        let request = Request {
            identity,
            hosts: vec!["127.0.0.1".to_owned()],
            days: 1,
        };
        let Issued { certificate, key } = self.authority.issue(&request).unwrap();
        let files = TlsFiles {
            ca: self.ca(),
            certificate: self.folder.path().join(format!("{file}.pem")),
            key: self.folder.path().join(format!("{file}.key")),
        };
        std::fs::write(&files.certificate, certificate).unwrap();
        std::fs::write(&files.key, key).unwrap();
        files
    }

    fn ca(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    fn tls(&self, role: Role, name: &str) -> Tls {
        Tls::load(self.files("shop", role, name), shop()).unwrap()
    }

    async fn serve(&self, participant: &Arc<Recorder>, name: &str) -> Server {
        let tls = self.tls(Role::Participant, name);
        let acceptor = Acceptor::Tls(tls, ClientCertificates::Required);
        Server::start_with(participant.clone(), &Limits::default(), acceptor).await
    }

    /// A channel that shows what is in these files.
    fn channel(&self, server: &Server, files: Option<TlsFiles>) -> Channel {
        let mut trust = Trust::new().authorities(self.ca());
        if let Some(files) = files {
            trust = trust.certificate(files.certificate, files.key);
        }
        let connector = Connector::of_client(trust, KEEPALIVE);
        let endpoint = Endpoint::from_shared(format!("http://{}", server.address)).unwrap();
        endpoint.connect_with_connector_lazy(service_fn(move |uri| connector.clone().connect(uri)))
    }
}

/// What an empty message comes to; the recorder has answers, so that only the gate refuses.
async fn call(channel: &Channel, method: &str) -> Result<(), Status> {
    let mut client = Grpc::new(channel.clone());
    let ready = client.ready().await;
    ready.map_err(|error| Status::unavailable(error.to_string()))?;
    let path: PathAndQuery = format!("/{SERVICE}/{method}").parse().unwrap();
    let codec = ProstCodec::<(), ()>::default();
    let answer = client.unary(tonic::Request::new(()), path, codec).await;
    answer.map(drop)
}

#[test]
fn every_method_says_who_may_call_it() {
    let declared = PROTO.lines().filter_map(|line| {
        let rest = line.trim().strip_prefix("rpc ")?;
        rest.split_once('(').map(|(name, _)| name)
    });
    let declared: Vec<_> = declared.collect();
    let listed: Vec<_> = METHODS.iter().map(|(name, _)| *name).collect();
    assert_eq!(declared, listed);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_method_is_closed_to_everybody_else() {
    let world = World::new();
    let recorder = Recorder::open(SHARD);
    let server = world.serve(&recorder, "alpha").await;
    for role in Role::ALL {
        let channel = world.channel(&server, Some(world.files("shop", role, "somebody")));
        for (method, roles) in METHODS {
            let refusal = call(&channel, method).await.unwrap_err();
            if roles.contains(&role) {
                // An empty message is for no shard.
                assert_eq!(refusal.code(), Code::FailedPrecondition, "{role} {method}");
            } else {
                assert_eq!(refusal.code(), Code::PermissionDenied, "{role} {method}");
            }
        }
        let refusal = call(&channel, "Unheard").await.unwrap_err();
        assert_eq!(refusal.code(), Code::PermissionDenied, "{role}");
    }
    assert_eq!(recorder.seen().calls, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_have_no_connection() {
    let world = World::new();
    let recorder = Recorder::open(SHARD);
    let server = world.serve(&recorder, "alpha").await;
    let elsewhere = World::new();
    let strangers = [
        ("no certificate", None),
        (
            "another deployment's",
            Some(world.files("staging", Role::Coordinator, "c")),
        ),
        ("no identity", Some(world.issue(None, "nobody"))),
        (
            "another authority's",
            Some(elsewhere.files("shop", Role::Coordinator, "c")),
        ),
    ];
    for (who, files) in strangers {
        let channel = world.channel(&server, files);
        for (method, _) in METHODS {
            let refusal = call(&channel, method).await.unwrap_err();
            // The connection broke, and nothing was answered.
            assert!(refusal.source().is_some(), "{who} {method} {refusal}");
        }
    }
    let plain = format!("http://{}", server.address);
    let plain = Endpoint::from_shared(plain).unwrap().connect_lazy();
    assert!(call(&plain, "Prepare").await.is_err());
    assert_eq!(recorder.seen().calls, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_coordinator_reaches_the_shard_that_it_means_and_no_other() {
    let world = World::new();
    let recorder = Recorder::open(SHARD);
    let limits = Limits::default();
    for (name, is_reached) in [("alpha", true), ("beta", false)] {
        let server = world.serve(&recorder, name).await;
        let tls = world.tls(Role::Coordinator, "c");
        let connector = Connector::to_participant(tls, alpha(), KEEPALIVE);
        let address = format!("https://{}", server.address);
        let client =
            RemoteParticipant::connect_lazy(SHARD, &address, &limits, Some(connector)).unwrap();
        let answer = client.identity().await;
        assert_eq!(answer.is_ok(), is_reached, "{name}: {answer:?}");
    }
}

/// A coordinator's own certificate for the host does not make it a participant.
#[tokio::test(flavor = "multi_thread")]
async fn only_a_participant_is_a_participant() {
    let world = World::new();
    let recorder = Recorder::open(SHARD);
    let tls = world.tls(Role::Coordinator, "alpha");
    let acceptor = Acceptor::Tls(tls.clone(), ClientCertificates::Required);
    let limits = Limits::default();
    let server = Server::start_with(recorder.clone(), &limits, acceptor).await;
    let connector = Connector::to_participant(tls, alpha(), KEEPALIVE);
    let address = format!("https://{}", server.address);
    let client =
        RemoteParticipant::connect_lazy(SHARD, &address, &limits, Some(connector)).unwrap();
    assert!(client.identity().await.is_err());
    assert_eq!(recorder.seen().calls, Vec::<String>::new());
}
