//! Which hosts may be announced.

use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// Hosts that the configuration allows: a network (`10.1.0.0/16`), an address, a name, or all names
/// below one (`*.gavel.svc`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Hosts {
    /// Addresses of a network.
    Network(IpNet),
    /// This name.
    Name(String),
    /// Every name that ends so; begins with a dot.
    Below(String),
}

impl Hosts {
    /// Whether `host`, a name or an address, is one of them.
    pub fn include(&self, host: &str) -> bool {
        let address: Option<IpAddr> = host.trim_matches(['[', ']']).parse().ok();
        match (self, address) {
            (Self::Network(network), Some(address)) => network.contains(&address.to_canonical()),
            (Self::Name(name), None) => name.eq_ignore_ascii_case(host),
            (Self::Below(end), None) => {
                let host = host.to_ascii_lowercase();
                host.len() > end.len() && host.ends_with(end)
            }
            (Self::Network(_), None) | (Self::Name(_) | Self::Below(_), Some(_)) => false,
        }
    }
}

/// What is no such pattern.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is neither a network, an address, a host's name, nor *.NAME")]
pub struct InvalidHosts(String);

impl FromStr for Hosts {
    type Err = InvalidHosts;

    fn from_str(text: &str) -> Result<Self, InvalidHosts> {
        if let Ok(network) = text.parse::<IpNet>() {
            return Ok(Self::Network(network));
        }
        if let Ok(address) = text.parse::<IpAddr>() {
            return Ok(Self::Network(address.into()));
        }
        let is_name = |name: &str| {
            let is_letter = |letter: char| letter.is_ascii_alphanumeric() || "-.".contains(letter);
            !name.is_empty() && name.chars().all(is_letter) && !name.starts_with('.')
        };
        let lower = text.to_ascii_lowercase();
        match lower.strip_prefix("*.") {
            Some(end) if is_name(end) => Ok(Self::Below(format!(".{end}"))),
            None if is_name(&lower) => Ok(Self::Name(lower)),
            Some(_) | None => Err(InvalidHosts(text.to_owned())),
        }
    }
}

impl TryFrom<String> for Hosts {
    type Error = InvalidHosts;

    fn try_from(text: String) -> Result<Self, InvalidHosts> {
        text.parse()
    }
}

impl From<Hosts> for String {
    fn from(hosts: Hosts) -> Self {
        match hosts {
            Hosts::Network(network) => network.to_string(),
            Hosts::Name(name) => name,
            Hosts::Below(end) => format!("*{end}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn include(pattern: &str, host: &str) -> bool {
        let hosts: Hosts = pattern.parse().expect("a pattern");
        assert_eq!(
            String::from(hosts.clone()).parse::<Hosts>().ok(),
            Some(hosts.clone())
        );
        hosts.include(host)
    }

    #[test]
    fn a_host_is_allowed_as_it_is_written() {
        for (pattern, host) in [
            ("10.1.0.0/16", "10.1.2.3"),
            ("10.1.2.3", "10.1.2.3"),
            ("fd00::/8", "[fd00::7]"),
            ("gavel-east", "Gavel-East"),
            ("*.gavel.svc", "east-0.gavel.svc"),
            ("*.gavel.svc", "a.b.gavel.svc"),
        ] {
            assert!(include(pattern, host), "{pattern} {host}");
        }
        for (pattern, host) in [
            ("10.1.0.0/16", "10.2.2.3"),
            ("10.1.0.0/16", "10.1.2.3.evil.example"),
            ("gavel-east", "gavel-east.evil.example"),
            ("*.gavel.svc", "gavel.svc"),
            ("*.gavel.svc", "evilgavel.svc"),
            ("*.gavel.svc", "east.gavel.svc.evil.example"),
            ("*.gavel.svc", "10.1.2.3"),
        ] {
            assert!(!include(pattern, host), "{pattern} {host}");
        }
        for bad in [
            "",
            "*",
            "*.",
            "*.*.svc",
            "10.1.0.0/99",
            "a b",
            "http://a",
            "a:1",
            ".svc",
        ] {
            assert!(bad.parse::<Hosts>().is_err(), "{bad}");
        }
    }
}
