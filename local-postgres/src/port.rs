//! Picks TCP ports.
//!
//! Ports that the kernel hands to outgoing connections are avoided: while a server is down, its
//! clients' own retries could be given its port, and the server could not start again (a client can
//! even connect to itself that way). So binding port 0 is only the last resort.

use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::ops::Range;

use rand::Rng;

use crate::Error;

const PREFERRED: Range<u16> = 20_000..32_000;
const TRIES_MAX: u32 = 200;

/// A port on 127.0.0.1 that nobody listens on right now; somebody may before it is used.
pub fn pick_free() -> Result<u16, Error> {
    let range = PREFERRED.start..PREFERRED.end.min(first_ephemeral());
    if !range.is_empty() {
        let mut random = rand::rng();
        for _ in 0..TRIES_MAX {
            let port = random.random_range(range.clone());
            if is_free(port) {
                return Ok(port);
            }
        }
    }
    let any =
        TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|listener| listener.local_addr());
    any.map(|address| address.port())
        .map_err(|_| Error::NoFreePort)
}

/// Whether a server could listen on `port` of 127.0.0.1.
pub(crate) fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}

fn first_ephemeral() -> u16 {
    let text = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    text.split_whitespace()
        .next()
        .and_then(|first| first.parse().ok())
        .unwrap_or(PREFERRED.end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picked_port_is_free_and_a_taken_one_is_not() {
        let port = pick_free().expect("a port");
        assert!(is_free(port));
        let _listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).expect("bind");
        assert!(!is_free(port));
    }
}
