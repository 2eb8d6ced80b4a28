//! Connections to PostgreSQL over TLS: to real servers, and with somebody in between.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use gavel_participant::pg::{ConnectError, Target};
use gavel_participant::service_pool::{ServicePool, ServicePoolConfig};
use gavel_protocol::Limits;
use gavel_tls::DatabaseUrl;
use gavel_tls::authority::{Authority, Issued, Request};
use local_postgres::{Options, Server};
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

const ENCRYPTED: &str = "SELECT ssl::text FROM pg_stat_ssl WHERE pid = pg_backend_pid()";

/// A server with a certificate for 127.0.0.1, and its authority in a file.
struct World {
    server: Server,
    authority: Authority,
    ca: PathBuf,
    folder: TempDir,
    /// Of a role with a password.
    url: String,
}

impl World {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (authority, _) = Authority::new(&"shop".parse().unwrap()).unwrap();
        let ca = folder.path().join("ca.pem");
        std::fs::write(&ca, authority.certificate()).unwrap();
        let server = Server::temporary(Options::for_tests("north")).unwrap();
        let password = server.create_login_role("service").unwrap();
        let url = server.url_for("service", &password, "postgres");
        Self {
            server,
            authority,
            ca,
            folder,
            url,
        }
    }

    fn encrypted() -> Self {
        let world = Self::start();
        let Issued { certificate, key } = issue(&world.authority, "127.0.0.1");
        world.server.encrypt(&certificate, &key).unwrap();
        world
    }

    fn verified(&self, ca: &Path) -> String {
        format!(
            "{}?sslmode=verify-full&sslrootcert={}",
            self.url,
            ca.display()
        )
    }
}

fn issue(authority: &Authority, host: &str) -> Issued {
    let request = Request {
        identity: None,
        hosts: vec![host.to_owned()],
        days: 1,
    };
    authority.issue(&request).unwrap()
}

/// Whether the server sees a connection with this address encrypted.
async fn is_encrypted(url: &str) -> Result<bool, ConnectError> {
    let mut connection = Target::from_url(url, &Limits::default())?.connect().await?;
    let asked = connection.run(|pipeline| {
        pipeline.run(ENCRYPTED, &[]).sync();
    });
    let segments = asked.await.unwrap();
    Ok(segments[0].replies[0].scalar() == Some("true"))
}

async fn pool_is_encrypted(url: &str) -> bool {
    let pool = ServicePool::new(ServicePoolConfig {
        database: DatabaseUrl::parse(url).unwrap(),
        limits: Limits::default(),
    });
    let session = pool.session().await.unwrap();
    let rows = session.query(ENCRYPTED, &[]).await.unwrap();
    rows[0].get::<_, String>(0) == "true"
}

fn is_about_certificates(error: &ConnectError) -> bool {
    let ConnectError::Io(error) = error else {
        return false;
    };
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref());
    matches!(inner, Some(rustls::Error::InvalidCertificate(_)))
}

#[tokio::test(flavor = "multi_thread")]
async fn both_kinds_of_connections_are_encrypted() {
    let world = World::encrypted();
    let url = world.verified(&world.ca);
    assert!(is_encrypted(&url).await.unwrap());
    assert!(pool_is_encrypted(&url).await);
    let plain = format!("{}?sslmode=disable", world.url);
    assert!(!is_encrypted(&plain).await.unwrap());
    assert!(!pool_is_encrypted(&plain).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_of_another_authority_or_another_name_is_refused() {
    let world = World::encrypted();
    let (other, _) = Authority::new(&"shop".parse().unwrap()).unwrap();
    let ca = world.folder.path().join("other.pem");
    std::fs::write(&ca, other.certificate()).unwrap();
    let error = is_encrypted(&world.verified(&ca)).await.unwrap_err();
    assert!(is_about_certificates(&error), "{error:?}");

    let by_name = world.verified(&world.ca).replace("127.0.0.1", "localhost");
    let error = is_encrypted(&by_name).await.unwrap_err();
    assert!(is_about_certificates(&error), "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_tls_gets_no_password() {
    let world = World::start();
    let error = is_encrypted(&world.verified(&world.ca)).await.unwrap_err();
    assert!(matches!(error, ConnectError::NoTls), "{error:?}");
    assert!(error.to_string().contains("ssl = on"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replaced_certificate_is_used_by_the_next_connection() {
    let world = World::encrypted();
    let url = world.verified(&world.ca);
    assert!(is_encrypted(&url).await.unwrap());
    let (next, _) = Authority::new(&"shop".parse().unwrap()).unwrap();
    let Issued { certificate, key } = issue(&next, "127.0.0.1");
    world.server.encrypt(&certificate, &key).unwrap();
    assert!(is_encrypted(&url).await.is_err());
    std::fs::write(&world.ca, next.certificate()).unwrap();
    assert!(is_encrypted(&url).await.unwrap());
}

/// Whoever got hold of another certificate for the server's name, and listens in, gets no session:
/// the password exchange is bound to the server's own certificate.
#[tokio::test(flavor = "multi_thread")]
async fn a_password_is_of_no_use_to_somebody_in_between() {
    let world = World::encrypted();
    let theirs = issue(&world.authority, "127.0.0.1");
    let upstream = SocketAddr::from(([127, 0, 0, 1], world.server.port()));
    let between = in_between(theirs, upstream, &world.verified(&world.ca)).await;
    let url = world.verified(&world.ca);
    let port = format!(":{}/", world.server.port());
    let url = url.replace(&port, &format!(":{}/", between.port()));
    let error = is_encrypted(&url).await.unwrap_err();
    let ConnectError::Refused(refusal) = &error else {
        panic!("{error:?}")
    };
    assert!(
        refusal
            .message
            .contains("SCRAM channel binding check failed"),
        "{error}"
    );
}

/// Whoever sits in between does better by asking for the password itself, which a server may do;
/// `channel_binding=require` says that this one does not.
#[tokio::test(flavor = "multi_thread")]
async fn nobody_in_between_is_told_a_password() {
    let world = World::encrypted();
    for (request, asks_for) in [
        (3_u32, "the password"),
        (5, "its hash"),
        (0, "nothing at all"),
    ] {
        let theirs = issue(&world.authority, "127.0.0.1");
        let (port, heard) = curious(theirs, request).await;
        let own = format!(":{}/", world.server.port());
        let url = world
            .verified(&world.ca)
            .replace(&own, &format!(":{port}/"));
        let error = is_encrypted(&format!("{url}&channel_binding=require")).await;
        let error = error.unwrap_err();
        assert!(
            matches!(error, ConnectError::NotBound),
            "{asks_for}: {error:?}"
        );
        assert_eq!(heard.await.unwrap(), [0_u8; 0], "{asks_for}");
    }
    let url = format!("{}&channel_binding=require", world.verified(&world.ca));
    assert!(is_encrypted(&url).await.unwrap());
    assert!(pool_is_encrypted(&url).await);
}

/// Answers the start of a session over TLS with this authentication request; what it hears then.
async fn curious(theirs: Issued, request: u32) -> (u16, JoinHandle<Vec<u8>>) {
    let acceptor = acceptor(theirs);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let heard = tokio::spawn(async move {
        let (mut client, _) = listener.accept().await.unwrap();
        let mut ssl_request = [0; 8];
        client.read_exact(&mut ssl_request).await.unwrap();
        client.write_all(b"S").await.unwrap();
        let mut client = acceptor.accept(client).await.unwrap();
        let length = client.read_u32().await.unwrap();
        let mut start_up = vec![0; length as usize - 4];
        client.read_exact(&mut start_up).await.unwrap();
        let salt: &[u8] = if request == 5 { b"salt" } else { b"" };
        let mut message = vec![b'R'];
        message.extend((8 + salt.len() as u32).to_be_bytes());
        message.extend(request.to_be_bytes());
        message.extend(salt);
        client.write_all(&message).await.unwrap();
        let mut heard = Vec::new();
        // A connection that is dropped ends without a goodbye.
        let _ended = client.read_to_end(&mut heard).await;
        heard
    });
    (port, heard)
}

fn acceptor(theirs: Issued) -> TlsAcceptor {
    let certificate = CertificateDer::from_pem_slice(theirs.certificate.as_bytes()).unwrap();
    let key = PrivateKeyDer::from_pem_slice(theirs.key.as_bytes()).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    TlsAcceptor::from(Arc::new(config))
}

/// Ends TLS with `theirs` and speaks TLS of its own with the server.
async fn in_between(theirs: Issued, upstream: SocketAddr, url: &str) -> SocketAddr {
    let acceptor = acceptor(theirs);
    let tls = DatabaseUrl::parse(url).unwrap().tls;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let relayed: io::Result<()> = async {
            let (mut client, _) = listener.accept().await?;
            let mut request = [0; 8];
            client.read_exact(&mut request).await?;
            client.write_all(b"S").await?;
            let mut client = acceptor.accept(client).await?;
            let mut server = TcpStream::connect(upstream).await?;
            server.write_all(&request).await?;
            assert_eq!(server.read_u8().await?, b'S');
            let (mut server, _) = tls.encrypt("127.0.0.1", server).await?;
            copy_bidirectional(&mut client, &mut server).await?;
            Ok(())
        }
        .await;
        drop(relayed);
    });
    address
}
