//! `gavel health`: whether a process is well, as an exit code.
//!
//! For health checks inside an image that has no shell and no HTTP client: one request over a plain
//! socket, which needs neither.

use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use http::Uri;
use rustls::pki_types::ServerName;
use rustls::version::TLS13;
use rustls::{ClientConnection, StreamOwned};
use serde_json::json;

use super::client::{endpoints, trust};
use crate::args::ClientArgs;
use crate::config::Config;
use crate::exit::Exit;
use crate::output::Output;

/// An answer is a line of JSON. Whoever sends more is something else.
const ANSWER_BYTES_MAX: u64 = 64 * 1024;

/// Asks every endpoint that the command line or the configuration names; all must be well.
pub(crate) fn run(
    config: Option<&Config>,
    client: &ClientArgs,
    live: bool,
    output: Output,
) -> anyhow::Result<Exit> {
    let path = if live {
        "/health/live"
    } else {
        "/health/ready"
    };
    let (mut lines, mut documents, mut all_well) = (Vec::new(), Vec::new(), true);
    for endpoint in endpoints(config, client) {
        let asked = ask(config, client, &endpoint, path);
        let (is_well, says) = match asked {
            Ok(answer) => (answer.status == "200", answer.body),
            Err(error) => (false, format!("{error:#}")),
        };
        all_well &= is_well;
        let word = if is_well { "well" } else { "not well" };
        lines.push(format!("{endpoint}: {word}: {says}"));
        documents.push(json!({"endpoint": endpoint, "ok": is_well, "says": says}));
    }
    output.result(
        lines.join("\n"),
        &json!({"ok": all_well, "endpoints": documents}),
    );
    Ok(if all_well { Exit::Ok } else { Exit::Failure })
}

struct Answer {
    status: String,
    body: String,
}

fn ask(
    config: Option<&Config>,
    client: &ClientArgs,
    endpoint: &str,
    path: &str,
) -> anyhow::Result<Answer> {
    let uri: Uri = endpoint.parse().context("this is no address")?;
    // Of what is not Gavel's, such as the demo's API, the address says what to ask for.
    let path = match uri.path() {
        "" | "/" => path,
        own => own,
    };
    let written = uri.host().context("the address has no host")?;
    let host = written.trim_matches(['[', ']']);
    let is_encrypted = match uri.scheme_str() {
        Some("http") => false,
        Some("https") => true,
        _ => bail!("the address must begin with http:// or https://"),
    };
    let port = uri
        .port_u16()
        .unwrap_or(if is_encrypted { 443 } else { 80 });
    let limit = Duration::from_millis(client.deadline_ms.max(1));
    let stream = connect(host, port, limit)?;
    if !is_encrypted {
        return exchange(stream, written, path);
    }
    let mut tls = trust(config, client).client_config(&[&TLS13])?;
    tls.alpn_protocols = vec![b"http/1.1".to_vec()];
    let name = ServerName::try_from(host.to_owned()).context("no certificate can name this")?;
    let session = ClientConnection::new(Arc::new(tls), name)?;
    exchange(StreamOwned::new(session, stream), written, path)
}

/// The first of the host's addresses that takes the connection.
fn connect(host: &str, port: u16, limit: Duration) -> anyhow::Result<TcpStream> {
    let mut last = None;
    let addresses = (host, port).to_socket_addrs();
    for address in addresses.context("the host has no address")? {
        match TcpStream::connect_timeout(&address, limit) {
            Ok(stream) => {
                stream.set_read_timeout(Some(limit))?;
                stream.set_write_timeout(Some(limit))?;
                return Ok(stream);
            }
            Err(error) => last = Some(error),
        }
    }
    match last {
        Some(error) => Err(error).context("nobody answers there"),
        None => bail!("the host has no address"),
    }
}

fn exchange(mut stream: impl Read + Write, host: &str, path: &str) -> anyhow::Result<Answer> {
    let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    stream
        .write_all(request.as_bytes())
        .context("it does not take a request")?;
    let mut text = Vec::new();
    let ended = stream.take(ANSWER_BYTES_MAX).read_to_end(&mut text);
    // What came counts, even if the connection was not ended as TLS would have it.
    if text.is_empty() {
        ended.context("it does not answer")?;
    }
    parse(&String::from_utf8_lossy(&text)).context("what answers does not speak HTTP")
}

fn parse(text: &str) -> Option<Answer> {
    let (head, body) = text.split_once("\r\n\r\n")?;
    let status = head.strip_prefix("HTTP/1.")?.split(' ').nth(1)?;
    Some(Answer {
        status: status.to_owned(),
        body: body.trim().to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn only_http_is_an_answer() {
        let answer = parse("HTTP/1.1 503 Service Unavailable\r\nA: b\r\n\r\n{\"ready\":false}\n");
        let answer = answer.expect("an answer");
        assert_eq!(answer.status, "503");
        assert_eq!(answer.body, "{\"ready\":false}");
        for other in [
            "",
            "HTTP/1.1 200 OK\r\n",
            "SSH-2.0-x\r\n\r\n",
            "HTTP/1.\r\n\r\n",
        ] {
            assert!(parse(other).is_none(), "{other}");
        }
    }
}
