//! Load goes to loopback or to an address of the network namespace it is started in, never to a machine.

use crate::cli::usage;
use nix::ifaddrs::getifaddrs;
use std::fs;
use std::net::{IpAddr, SocketAddr};

/// Where the process is, as far as the choice of targets is concerned.
#[derive(Debug, Clone)]
pub struct Place {
    /// Whether the network namespace is another than that of process 1, if that can be read.
    pub own_namespace: Option<bool>,
    /// Addresses of the interfaces in the network namespace.
    pub addresses: Vec<IpAddr>,
}

impl Place {
    /// Reads the place of the calling process from /proc and its interfaces.
    #[must_use]
    pub fn here() -> Self {
        let namespace = |process: &str| fs::read_link(format!("/proc/{process}/ns/net"));
        let own_namespace = match (namespace("self"), namespace("1")) {
            (Ok(own), Ok(initial)) => Some(own != initial),
            _ => None,
        };
        let addresses = getifaddrs().map_or_else(
            |_| Vec::new(),
            |interfaces| {
                interfaces
                    .filter_map(|interface| {
                        let address = interface.address?;
                        address
                            .as_sockaddr_in()
                            .map(|v4| IpAddr::V4(v4.ip()))
                            .or_else(|| address.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip())))
                    })
                    .collect()
            },
        );
        Self { own_namespace, addresses }
    }

    /// Refuses a target that load could do harm to.
    ///
    /// # Errors
    /// The target is neither loopback nor, in a network namespace of its own, local. One line, with the reason.
    pub fn check(&self, target: SocketAddr) -> anyhow::Result<()> {
        // ::ffff:127.0.0.1 is 127.0.0.1.
        let address = target.ip().to_canonical();
        if target.port() == 0 {
            return Err(usage(format!("target {target} refused: port 0 cannot be connected to")));
        }
        if address.is_loopback() {
            return Ok(());
        }
        if self.own_namespace != Some(true) {
            let reason = match self.own_namespace {
                Some(_) => "outside a network namespace of its own",
                None => "the network namespace of process 1 cannot be read to compare it with, so that",
            };
            return Err(usage(format!("target {target} refused: {reason} only loopback addresses are allowed")));
        }
        if self.addresses.iter().any(|local| local.to_canonical() == address) {
            return Ok(());
        }
        Err(usage(format!("target {target} refused: it is no address of this network namespace")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(own_namespace: Option<bool>) -> Place {
        Place { own_namespace, addresses: ["10.1.2.3", "fd00::1"].map(|text| text.parse().unwrap()).to_vec() }
    }

    fn allowed(place: &Place, target: &str) -> bool {
        place.check(target.parse().unwrap()).is_ok()
    }

    #[test]
    fn loopback_is_allowed_everywhere() {
        for own in [None, Some(false), Some(true)] {
            for target in ["127.0.0.1:80", "127.9.9.9:80", "[::1]:80", "[::ffff:127.0.0.1]:80"] {
                assert!(allowed(&place(own), target), "{target}");
            }
        }
    }

    #[test]
    fn everything_else_needs_a_namespace_and_a_local_address() {
        for target in ["10.1.2.3:80", "[fd00::1]:80", "[::ffff:10.1.2.3]:80"] {
            assert!(!allowed(&place(None), target), "{target}");
            assert!(!allowed(&place(Some(false)), target), "{target}");
            assert!(allowed(&place(Some(true)), target), "{target}");
        }
        for target in ["10.1.2.4:80", "192.0.2.1:80", "[2001:db8::1]:80", "0.0.0.0:80", "[::]:80", "127.0.0.1:0"] {
            assert!(!allowed(&place(Some(false)), target), "{target}");
            assert!(!allowed(&place(Some(true)), target), "{target}");
        }
    }

    #[test]
    fn the_interfaces_of_this_namespace_are_found() {
        assert!(Place::here().addresses.iter().any(IpAddr::is_loopback));
    }
}
