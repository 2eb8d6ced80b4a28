//! Where services listen.

use std::net::{IpAddr, SocketAddr};

use anyhow::Context as _;
use gavel_coordinator::api::check_bind;
use gavel_tls::{Acceptor, ClientCertificates, Tls};
use tokio::net::TcpListener;

use crate::config::{Config, ConfigError, Problem, ShardConfig};

/// Listens on `address`, if that is not an accident: without certificates, nothing but loopback
/// unless the configuration accepts it. What comes with the listener says who has connected.
pub(crate) async fn listen(
    config: &Config,
    address: SocketAddr,
    has_principals: bool,
    tls: Option<(Tls, ClientCertificates)>,
) -> anyhow::Result<(TcpListener, Acceptor)> {
    let has_tls = tls.is_some();
    check_bind(
        address,
        has_principals,
        has_tls,
        config.allow_insecure_network,
    )?;
    if !has_tls && !address.ip().to_canonical().is_loopback() {
        tracing::warn!(
            %address,
            "INSECURE: listening beyond loopback without TLS, because allow_insecure_network is \
             true: whoever can reach this address or read its traffic can read and change data"
        );
    }
    let listener = TcpListener::bind(address).await.with_context(|| {
        format!("cannot listen on {address}: is another service running there?")
    })?;
    let acceptor = match tls {
        Some((tls, certificates)) => Acceptor::Tls(tls, certificates),
        None => Acceptor::Plain,
    };
    Ok((listener, acceptor))
}

/// Where the participant of `shard` listens: the command line, the configuration, or the address
/// under which others know it.
pub(crate) fn participant_address(
    config: &Config,
    shard: &ShardConfig,
    asked: Option<SocketAddr>,
) -> anyhow::Result<SocketAddr> {
    if let Some(address) = asked.or(config.participant.listen) {
        return Ok(address);
    }
    if shard.is_announced() {
        return Err(missing(
            "participant.listen",
            format!(
                "shard `{}` is announced: nothing says where it listens",
                shard.name
            ),
            "add listen = \"IP:PORT\" to [participant], or --listen",
        ));
    }
    let uri: http::Uri = participant_url(shard)?.parse()?;
    let ip = match uri.host() {
        Some("localhost") => Some(IpAddr::from([127, 0, 0, 1])),
        Some(host) => host.trim_matches(['[', ']']).parse().ok(),
        None => None,
    };
    match (ip, uri.port_u16()) {
        (Some(ip), Some(port)) => Ok(SocketAddr::new(ip, port)),
        _ => Err(missing(
            "participant.listen",
            format!("`{uri}` is a host's name, which is none to listen on"),
            "add listen = \"IP:PORT\" to [participant], or --listen",
        )),
    }
}

/// The address under which others know the participant of `shard`.
pub(crate) fn participant_url(shard: &ShardConfig) -> anyhow::Result<&str> {
    shard.participant.as_deref().ok_or_else(|| {
        missing(
            "shard",
            format!("shard `{}` has no participant", shard.name),
            "add participant = \"http://host:port\" to its [[shard]] table, or run `gavel serve`",
        )
    })
}

fn missing(key: &str, what: String, fix: &str) -> anyhow::Error {
    let problem = Problem {
        key: key.to_owned(),
        what,
        fix: fix.to_owned(),
    };
    ConfigError {
        file: "configuration".into(),
        problems: vec![problem],
    }
    .into()
}
