//! Picks TCP ports.
//!
//! Ports that the kernel hands to outgoing connections are avoided: while a server is down, its
//! clients' own retries could be given its port, and the server could not start again (a client can
//! even connect to itself that way). So binding port 0 is only the last resort.
//!
//! A port is used some time after it was picked, and again when a server that was killed comes back.
//! Tests that run side by side would take each other's: so whoever picks a port keeps a lock on a
//! file that is called like it, as long as his process lives.

use std::fs::{self, File, OpenOptions};
use std::net::{Ipv4Addr, TcpListener};
use std::ops::Range;
use std::sync::Mutex;

use rand::Rng;

use crate::Error;

const PREFERRED: Range<u16> = 20_000..32_000;
const TRIES_MAX: u32 = 200;

/// The locks of the ports that this process has picked.
static PICKED: Mutex<Vec<File>> = Mutex::new(Vec::new());

/// A port on 127.0.0.1 that nobody listens on right now, and that no other process picks while
/// this one lives.
pub fn pick_free() -> Result<u16, Error> {
    let range = PREFERRED.start..PREFERRED.end.min(first_ephemeral());
    if !range.is_empty() {
        let mut random = rand::rng();
        for _ in 0..TRIES_MAX {
            let port = random.random_range(range.clone());
            if is_free(port) && reserve(port) {
                return Ok(port);
            }
        }
    }
    let any =
        TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|listener| listener.local_addr());
    any.map(|address| address.port())
        .map_err(|_| Error::NoFreePort)
}

/// Keeps others from picking this port. Where there is no place for locks, nobody has any.
fn reserve(port: u16) -> bool {
    let folder = std::env::temp_dir().join("local-postgres-ports");
    if fs::create_dir_all(&folder).is_err() {
        return true;
    }
    let mut options = OpenOptions::new();
    options.create(true).append(true);
    let Ok(file) = options.open(folder.join(port.to_string())) else {
        // The folder is another account's.
        return true;
    };
    let is_ours = file.try_lock().is_ok();
    if is_ours && let Ok(mut picked) = PICKED.lock() {
        picked.push(file);
    }
    is_ours
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
        assert!(!reserve(port), "it is reserved already");
        let _listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).expect("bind");
        assert!(!is_free(port));
    }
}
