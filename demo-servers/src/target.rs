//! Load only goes to loopback or to an address of the generator's own network namespace, not to other machines.

use crate::cli::usage;
use crate::wire;
use nix::ifaddrs::getifaddrs;
use std::fs;
use std::net::{IpAddr, SocketAddr};

/// The properties of the network namespace that decide which targets are allowed.
#[derive(Debug, Clone)]
pub struct Place {
    /// Whether the network namespace differs from that of process 1; `None` if that cannot be read.
    pub own_namespace: Option<bool>,
    /// Addresses of the interfaces in the network namespace.
    pub addresses: Vec<IpAddr>,
    /// The other ends of lines that `wire` made. They lead to the namespace of the server and no further.
    pub far_ends: Vec<IpAddr>,
}

impl Place {
    /// That of the calling process.
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
        Self { own_namespace, addresses, far_ends: far_ends() }
    }

    /// Refuses a target that load could harm.
    ///
    /// # Errors
    /// The target is neither loopback nor, in another network namespace than that of process 1, a local address.
    pub fn check(&self, target: SocketAddr) -> anyhow::Result<()> {
        // ::ffff:127.0.0.1 is 127.0.0.1.
        let address = target.ip().to_canonical();
        if target.port() == 0 {
            return Err(usage(format!("target {target} refused: port 0 cannot be connected to")));
        }
        if address.is_loopback() {
            return Ok(());
        }
        if self.far_ends.contains(&address) {
            return Ok(());
        }
        if self.own_namespace != Some(true) {
            let reason = match self.own_namespace {
                Some(_) => "in the network namespace of process 1",
                None => "the network namespace of process 1 cannot be read to compare with, and then",
            };
            return Err(usage(format!("target {target} refused: {reason} only loopback addresses are allowed")));
        }
        if self.addresses.iter().any(|local| local.to_canonical() == address) {
            return Ok(());
        }
        Err(usage(format!("target {target} refused: it is no address of this network namespace")))
    }
}

/// The other end of the interface that `wire` made, in a namespace with nothing else but loopback: no way leads
/// further. It is a network of four addresses, of which two are hosts.
fn far_ends() -> Vec<IpAddr> {
    let other = |interface: nix::ifaddrs::InterfaceAddress| {
        let own = interface.address?.as_sockaddr_in().map(|own| u32::from(own.ip()))?;
        let mask = interface.netmask?.as_sockaddr_in().map(|mask| u32::from(mask.ip()))?;
        (interface.interface_name == wire::CLIENT && mask == !3)
            .then(|| IpAddr::from(std::net::Ipv4Addr::from(own ^ 3)))
    };
    let Ok(interfaces) = getifaddrs() else { return Vec::new() };
    let interfaces: Vec<_> = interfaces.collect();
    let alone = interfaces.iter().all(|interface| ["lo", wire::CLIENT].contains(&&*interface.interface_name));
    if alone { interfaces.into_iter().filter_map(other).collect() } else { Vec::new() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(own_namespace: Option<bool>) -> Place {
        Place {
            own_namespace,
            addresses: ["10.1.2.3", "fd00::1"].map(|text| text.parse().unwrap()).to_vec(),
            far_ends: vec!["10.77.0.1".parse().unwrap()],
        }
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
    fn the_far_end_of_a_line_is_allowed() {
        for own in [None, Some(false), Some(true)] {
            assert!(allowed(&place(own), "10.77.0.1:80") && !allowed(&place(own), "10.77.0.2:80"));
        }
    }

    #[test]
    fn the_interfaces_of_this_namespace_are_found() {
        assert!(Place::here().addresses.iter().any(IpAddr::is_loopback));
    }
}
