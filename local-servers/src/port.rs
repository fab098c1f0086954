//! Loopback ports that no other test takes while they are leased.

use std::fs::File;
use std::net::{Ipv4Addr, TcpListener};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::cache;
use crate::error::{Context, Error, Result};

/// A port and the lock that keeps it ours, also while the server on it is stopped.
#[derive(Debug)]
pub struct Port {
    pub number: u16,
    _lease: Option<File>,
}

/// The wanted port as it is, or else a free one, leased.
pub fn take(wanted: Option<u16>) -> Result<Port> {
    wanted.map_or_else(|| Ok(listen()?.0), |number| Ok(Port { number, _lease: None }))
}

/// A free port, leased, and the listener that found it free. Closing it and listening anew may fail for a moment: a
/// process that another thread starts meanwhile holds it too until it has become its program.
pub fn listen() -> Result<(Port, TcpListener)> {
    lease(SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.subsec_nanos()))
}

/// Below the range from which Linux takes ports for outgoing connections, so that a stopped server finds its own again.
const FIRST: u16 = 15_000;
const COUNT: u16 = 16_000;

/// The first free port from any place on, so that processes seldom try the same.
fn lease(start: u32) -> Result<(Port, TcpListener)> {
    let ports = cache::subdir("ports")?;
    let start = start % u32::from(COUNT);
    for step in 0..COUNT {
        let number = FIRST + ((start + u32::from(step)) % u32::from(COUNT)) as u16;
        let path = ports.join(number.to_string());
        let lease = File::create(&path).at("create", &path)?;
        if lease.try_lock().is_ok()
            && let Ok(listener) = TcpListener::bind((Ipv4Addr::LOCALHOST, number))
        {
            return Ok((Port { number, _lease: Some(lease) }, listener));
        }
    }
    Err(Error::new(format!("no free port from {FIRST} to {} on 127.0.0.1", FIRST + COUNT - 1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leased_port_is_nobody_elses_until_it_is_given_back() {
        let (first, listener) = lease(8).unwrap();
        let (second, _) = lease(8).unwrap();
        assert_ne!(first.number, second.number);
        let number = first.number;
        drop((first, listener));
        assert_eq!(lease(8).unwrap().0.number, number);
    }
}
