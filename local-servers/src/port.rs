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
    wanted.map_or_else(lease, |number| Ok(Port { number, _lease: None }))
}

/// Below the range from which Linux takes ports for outgoing connections, so that a stopped server finds its own again.
const FIRST: u16 = 15_000;
const COUNT: u16 = 16_000;

fn lease() -> Result<Port> {
    let ports = cache::subdir("ports")?;
    let clock = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.subsec_nanos());
    let start = clock.wrapping_mul(31).wrapping_add(std::process::id()) / 7;
    for step in 0..COUNT {
        let number = FIRST + ((start + u32::from(step)) % u32::from(COUNT)) as u16;
        let path = ports.join(number.to_string());
        let lease = File::create(&path).at("create", &path)?;
        if lease.try_lock().is_ok() && TcpListener::bind((Ipv4Addr::LOCALHOST, number)).is_ok() {
            return Ok(Port { number, _lease: Some(lease) });
        }
    }
    Err(Error::new(format!("no free port from {FIRST} to {} on 127.0.0.1", FIRST + COUNT - 1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leased_port_is_nobody_elses() {
        let leases: Vec<Port> = (0..50).map(|_| take(None).unwrap()).collect();
        let mut numbers: Vec<u16> = leases.iter().map(|port| port.number).collect();
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers.len(), leases.len());
    }
}
