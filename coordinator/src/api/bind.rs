//! Where the API may listen.

use std::net::SocketAddr;

/// An address on which the API must not listen as it is configured.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BindError {
    /// Anybody on the network could submit.
    #[error(
        "{0} can be reached from the network, and no principal is configured: configure some, \
         or listen on 127.0.0.1, or accept it with allow_insecure_network"
    )]
    NoPrincipals(SocketAddr),
    /// Tokens and rows would cross the network in the clear.
    #[error(
        "{0} can be reached from the network without TLS: configure [tls], or listen on \
         127.0.0.1 behind a proxy that speaks TLS, or accept it with allow_insecure_network"
    )]
    NoTls(SocketAddr),
}

/// Checks that the API is not exposed by accident: beyond loopback it needs principals and TLS,
/// unless somebody has said that the network is trusted.
///
/// # Errors
/// What is missing.
pub fn check_bind(
    address: SocketAddr,
    has_principals: bool,
    has_tls: bool,
    allow_insecure_network: bool,
) -> Result<(), BindError> {
    if address.ip().to_canonical().is_loopback() || allow_insecure_network {
        Ok(())
    } else if !has_principals {
        Err(BindError::NoPrincipals(address))
    } else if !has_tls {
        Err(BindError::NoTls(address))
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_is_open() {
        let check = |address: &str, tokens, tls, allow| {
            check_bind(address.parse().unwrap(), tokens, tls, allow)
        };
        for open in [
            "127.0.0.1:1",
            "127.8.8.8:1",
            "[::1]:1",
            "[::ffff:127.0.0.1]:1",
        ] {
            assert_eq!(check(open, false, false, false), Ok(()), "{open}");
        }
        for exposed in ["0.0.0.0:1", "[::]:1", "10.0.0.1:1"] {
            let address = exposed.parse().unwrap();
            assert_eq!(
                check(exposed, false, true, false),
                Err(BindError::NoPrincipals(address))
            );
            assert_eq!(
                check(exposed, true, false, false),
                Err(BindError::NoTls(address))
            );
            assert_eq!(check(exposed, true, true, false), Ok(()));
            assert_eq!(check(exposed, false, false, true), Ok(()));
        }
    }
}
