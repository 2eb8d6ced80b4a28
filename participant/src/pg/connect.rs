//! Opening a connection: address, start-up packet, authentication.

use std::io;
use std::time::Duration;

use bytes::BytesMut;
use fallible_iterator::FallibleIterator;
use gavel_protocol::Limits;
use gavel_tls::{DatabaseTls, DatabaseUrl};
use postgres_protocol::authentication::md5_hash;
use postgres_protocol::authentication::sasl::{
    ChannelBinding, SCRAM_SHA_256, SCRAM_SHA_256_PLUS, ScramSha256,
};
use postgres_protocol::message::backend::{AuthenticationSaslBody, Message};
use postgres_protocol::message::frontend;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;
use tokio_postgres::config::{ChannelBinding as ChannelBindingMode, Host};

use super::connection::{Connection, Stream};
use super::inbound::{Inbound, Received};
use super::reply::ServerError;

/// How long sent data may stay unacknowledged by the server's kernel. A wait for standbys does
/// not count: its kernel acknowledges.
#[cfg(target_os = "linux")]
const UNACKNOWLEDGED_MAX: Duration = Duration::from_secs(5);

/// Why there is no connection. Nothing was sent on behalf of any transaction.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The URL cannot be used.
    #[error("the database URL is not usable: {0}")]
    Url(String),
    /// No answer in time.
    #[error("PostgreSQL did not answer within {0:?}")]
    Timeout(Duration),
    /// The network or the operating system failed.
    #[error("cannot reach PostgreSQL")]
    Io(#[from] io::Error),
    /// The server does not speak TLS.
    #[error(
        "the server does not speak TLS: set ssl = on with a certificate there, or \
         sslmode=disable in the address"
    )]
    NoTls,
    /// A password exchange that is not bound to the connection.
    #[error(
        "the server does not bind passwords to the connection, which channel_binding=require \
         wants: it must offer SCRAM-SHA-256-PLUS"
    )]
    NotBound,
    /// PostgreSQL refused.
    #[error("PostgreSQL refused the connection: {0}")]
    Refused(ServerError),
}

/// Where and as whom to connect, and with which settings.
#[derive(Clone)]
pub struct Target {
    host: Host,
    port: u16,
    user: String,
    password: Option<Vec<u8>>,
    database: String,
    tls: DatabaseTls,
    must_bind: bool,
    settings: Vec<(&'static str, String)>,
    connect_timeout: Duration,
}

impl Target {
    /// Reads a `postgres://` URL. Settings that the protocol relies on are part of the start-up
    /// packet, so that `RESET ALL` returns to them.
    pub fn from_url(url: &str, limits: &Limits) -> Result<Self, ConnectError> {
        let DatabaseUrl { config, tls } =
            DatabaseUrl::parse(url).map_err(|error| ConnectError::Url(error.to_string()))?;
        let [host] = config.get_hosts() else {
            // Two hosts could be two registers.
            let message = "it must name exactly one host, the shard's primary".to_owned();
            return Err(ConnectError::Url(message));
        };
        let user = config.get_user().unwrap_or("postgres").to_owned();
        Ok(Self {
            host: host.clone(),
            port: config.get_ports().first().copied().unwrap_or(5432),
            database: config.get_dbname().unwrap_or(&user).to_owned(),
            user,
            password: config.get_password().map(<[u8]>::to_vec),
            tls,
            must_bind: config.get_channel_binding() == ChannelBindingMode::Require,
            settings: session_settings(limits),
            connect_timeout: Duration::from_millis(limits.connect_timeout_ms),
        })
    }

    /// Opens a connection within the connect timeout.
    pub async fn connect(&self) -> Result<Connection, ConnectError> {
        let opened = timeout(self.connect_timeout, self.open()).await;
        opened.map_err(|_| ConnectError::Timeout(self.connect_timeout))?
    }

    async fn open(&self) -> Result<Connection, ConnectError> {
        match &self.host {
            Host::Tcp(host) if self.tls.is_on() => {
                let stream = ask_for_tls(tcp(host, self.port).await?).await?;
                // A handshake's state is large, and part of every future that may connect.
                let (stream, binding) = Box::pin(self.tls.encrypt(host, stream)).await?;
                self.greet_bound(Box::new(stream), binding).await
            }
            Host::Tcp(host) => self.greet(Box::new(tcp(host, self.port).await?)).await,
            Host::Unix(folder) => {
                let path = folder.join(format!(".s.PGSQL.{}", self.port));
                self.greet(Box::new(UnixStream::connect(path).await?)).await
            }
        }
    }

    /// Makes a stream to a server a connection.
    pub(super) async fn greet(&self, stream: Box<dyn Stream>) -> Result<Connection, ConnectError> {
        self.greet_bound(stream, None).await
    }

    /// The same; `binding` is what ties a password exchange to the stream's encryption.
    async fn greet_bound(
        &self,
        stream: Box<dyn Stream>,
        binding: Option<Vec<u8>>,
    ) -> Result<Connection, ConnectError> {
        let mut handshake = Handshake {
            stream,
            binding,
            inbound: Inbound::new(),
        };
        handshake.start_up(self).await?;
        handshake.authenticate(self).await?;
        handshake.wait_ready().await?;
        Ok(Connection::new(handshake.stream))
    }
}

/// R3: if the participant vanishes, its open transaction ends by itself. R11: every setting that
/// a vote or a decision depends on has one value at the start of every use.
fn session_settings(limits: &Limits) -> Vec<(&'static str, String)> {
    vec![
        ("application_name", "gavel".to_owned()),
        ("client_encoding", "UTF8".to_owned()),
        ("client_min_messages", "warning".to_owned()),
        ("synchronous_commit", "on".to_owned()),
        ("default_transaction_isolation", "read committed".to_owned()),
        ("default_transaction_read_only", "off".to_owned()),
        ("lock_timeout", limits.lock_timeout_ms.to_string()),
        ("statement_timeout", limits.statement_timeout_ms.to_string()),
        (
            "idle_in_transaction_session_timeout",
            limits.idle_in_transaction_ms.to_string(),
        ),
        ("tcp_keepalives_idle", "5".to_owned()),
        ("tcp_keepalives_interval", "2".to_owned()),
        ("tcp_keepalives_count", "3".to_owned()),
    ]
}

async fn tcp(host: &str, port: u16) -> io::Result<TcpStream> {
    let stream = TcpStream::connect((host, port)).await?;
    stream.set_nodelay(true)?;
    let keepalive = socket2::TcpKeepalive::new()
        .with_time(Duration::from_secs(5))
        .with_interval(Duration::from_secs(2))
        .with_retries(3);
    let socket = socket2::SockRef::from(&stream);
    socket.set_tcp_keepalive(&keepalive)?;
    // Keepalives are not sent while data is unacknowledged; without this a host that vanished
    // would hold the connection for the kernel's quarter of an hour.
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(UNACKNOWLEDGED_MAX))?;
    Ok(stream)
}

/// Asks the server to speak TLS. Its answer is one byte, and nothing more is read: what somebody
/// on the way adds to it becomes part of the handshake, which then fails (CVE-2021-23222).
async fn ask_for_tls(mut stream: TcpStream) -> Result<TcpStream, ConnectError> {
    let mut packet = BytesMut::new();
    frontend::ssl_request(&mut packet);
    stream.write_all(&packet).await?;
    match stream.read_u8().await? {
        b'S' => Ok(stream),
        _ => Err(ConnectError::NoTls),
    }
}

struct Handshake {
    stream: Box<dyn Stream>,
    binding: Option<Vec<u8>>,
    inbound: Inbound,
}

impl Handshake {
    async fn start_up(&mut self, target: &Target) -> Result<(), ConnectError> {
        let mut packet = BytesMut::new();
        let named = [
            ("user", target.user.as_str()),
            ("database", target.database.as_str()),
        ];
        let settings = target
            .settings
            .iter()
            .map(|(name, value)| (*name, value.as_str()));
        frontend::startup_message(named.into_iter().chain(settings), &mut packet)?;
        Ok(self.stream.write_all(&packet).await?)
    }

    async fn authenticate(&mut self, target: &Target) -> Result<(), ConnectError> {
        let password = || {
            target.password.as_deref().ok_or_else(|| {
                ConnectError::Url("the server asks for a password and it has none".to_owned())
            })
        };
        // Whoever sits in between with a certificate for the server's name would ask for the
        // password itself, or for none.
        let unbound = || match target.must_bind {
            true => Err(ConnectError::NotBound),
            false => Ok(()),
        };
        let mut is_bound = false;
        loop {
            match self.message().await? {
                Message::AuthenticationOk if is_bound => return Ok(()),
                Message::AuthenticationOk => return unbound(),
                Message::AuthenticationCleartextPassword => {
                    unbound()?;
                    self.send_password(password()?).await?;
                }
                Message::AuthenticationMd5Password(body) => {
                    unbound()?;
                    let hash = md5_hash(target.user.as_bytes(), password()?, body.salt());
                    self.send_password(hash.as_bytes()).await?;
                }
                Message::AuthenticationSasl(body) => {
                    is_bound = self.scram(&body, password()?, target.must_bind).await?;
                }
                _ => return Err(unexpected("an authentication method that Gavel cannot do")),
            }
        }
    }

    /// Proves to each other that both know the password; whether the proof is bound to the
    /// connection.
    async fn scram(
        &mut self,
        body: &AuthenticationSaslBody,
        password: &[u8],
        must_bind: bool,
    ) -> Result<bool, ConnectError> {
        let offered: Vec<String> = body
            .mechanisms()
            .map(|each| Ok(each.to_owned()))
            .collect()?;
        let offers = |wanted: &str| offered.iter().any(|mechanism| mechanism == wanted);
        let (mechanism, binding) = match self.binding.take() {
            // Whoever sits in between has another certificate, and so another binding.
            Some(binding) if offers(SCRAM_SHA_256_PLUS) => (
                SCRAM_SHA_256_PLUS,
                ChannelBinding::tls_server_end_point(binding),
            ),
            _ if must_bind => return Err(ConnectError::NotBound),
            Some(_) if offers(SCRAM_SHA_256) => (SCRAM_SHA_256, ChannelBinding::unrequested()),
            None if offers(SCRAM_SHA_256) => (SCRAM_SHA_256, ChannelBinding::unsupported()),
            _ => return Err(unexpected("no SCRAM-SHA-256")),
        };
        let mut scram = ScramSha256::new(password, binding);
        let mut packet = BytesMut::new();
        frontend::sasl_initial_response(mechanism, scram.message(), &mut packet)?;
        self.stream.write_all(&packet).await?;
        let Message::AuthenticationSaslContinue(body) = self.message().await? else {
            return Err(unexpected("no SASL challenge"));
        };
        scram.update(body.data())?;
        packet.clear();
        frontend::sasl_response(scram.message(), &mut packet)?;
        self.stream.write_all(&packet).await?;
        let Message::AuthenticationSaslFinal(body) = self.message().await? else {
            return Err(unexpected("no SASL outcome"));
        };
        scram.finish(body.data())?;
        Ok(mechanism == SCRAM_SHA_256_PLUS)
    }

    async fn send_password(&mut self, password: &[u8]) -> Result<(), ConnectError> {
        let mut packet = BytesMut::new();
        frontend::password_message(password, &mut packet)?;
        Ok(self.stream.write_all(&packet).await?)
    }

    async fn wait_ready(&mut self) -> Result<(), ConnectError> {
        while !matches!(self.message().await?, Message::ReadyForQuery(_)) {}
        Ok(())
    }

    async fn message(&mut self) -> Result<Message, ConnectError> {
        match self.inbound.next(&mut self.stream, usize::MAX).await? {
            Received::Message(Message::ErrorResponse(body)) => {
                Err(ConnectError::Refused(ServerError::parse(body.fields())?))
            }
            Received::Message(message) => Ok(message),
            Received::RowTooLarge => Err(unexpected("a row")),
        }
    }
}

fn unexpected(what: &str) -> ConnectError {
    ConnectError::Io(io::Error::other(format!(
        "unexpected answer from PostgreSQL: {what}"
    )))
}
