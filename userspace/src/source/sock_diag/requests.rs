//! Request sockets, counted for the listener that they belong to. The kernel does not list which that is.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use super::netlink::Entry;

/// A SYN queue as the request sockets show it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct SynQueue {
    /// Request sockets.
    pub(super) depth: u32,
    /// Those of them whose SYN-ACK was not sent again.
    pub(super) young: u32,
}

/// SYN queues by the cookie of their listener. A queue that is missing is empty. `None`: several listeners share the
/// address, and it is unknown which of them has the requests.
pub(super) type SynQueues = HashMap<u64, Option<SynQueue>>;

/// Listeners by their addresses, to find the one through which something came.
pub(super) struct ByAddress<'a>(HashMap<(u16, IpAddr, u32), Vec<&'a Entry>>);

impl<'a> ByAddress<'a> {
    pub(super) fn of(listeners: impl Iterator<Item = &'a Entry>) -> Self {
        let mut at: HashMap<(u16, IpAddr, u32), Vec<&Entry>> = HashMap::new();
        for listener in listeners {
            at.entry((listener.port, listener.address.to_canonical(), listener.interface)).or_default().push(listener);
        }
        Self(at)
    }

    /// The listener to which a request or connection belongs: one on its device, otherwise one on no device; of these,
    /// the one at exactly its local address, otherwise the one at any address. Several are shards.
    pub(super) fn through(&self, entry: &Entry) -> Option<&[&'a Entry]> {
        let address = entry.address.to_canonical();
        let dual_stack = |listener: &&Entry| !listener.v6only;
        let on_device = |device: u32| {
            let at = |address: IpAddr| self.0.get(&(entry.port, address, device));
            match address {
                IpAddr::V4(_) => at(address)
                    .or_else(|| at(Ipv4Addr::UNSPECIFIED.into()))
                    .or_else(|| at(Ipv6Addr::UNSPECIFIED.into()).filter(|listeners| listeners.iter().any(dual_stack))),
                IpAddr::V6(_) => at(address).or_else(|| at(Ipv6Addr::UNSPECIFIED.into())),
            }
        };
        // It has its listener's device. From a link-local address, or in a VRF, one for a listener on no device has the
        // device that it came by.
        let found = on_device(entry.interface);
        found.or_else(|| (entry.interface != 0).then(|| on_device(0)).flatten()).map(Vec::as_slice)
    }
}

/// Counts request sockets.
pub(super) fn assign<'a>(requests: &[Entry], listeners: impl Iterator<Item = &'a Entry>) -> SynQueues {
    let mut queues = SynQueues::new();
    if requests.is_empty() {
        return queues;
    }
    let listeners = ByAddress::of(listeners);
    for request in requests {
        match listeners.through(request) {
            Some([listener]) => {
                let queue = queues.entry(listener.cookie).or_insert(Some(SynQueue::default()));
                if let Some(queue) = queue {
                    queue.depth += 1;
                    queue.young += u32::from(request.retransmits == 0);
                }
            }
            Some(shards) => queues.extend(shards.iter().map(|shard| (shard.cookie, None))),
            // Its listener has gone since.
            None => {}
        }
    }
    queues
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A listener, or with its fields changed something else.
    pub(in crate::source::sock_diag) fn entry(cookie: u64, address: &str, port: u16) -> Entry {
        Entry {
            cookie,
            inode: 0,
            address: address.parse().expect("an address"),
            port,
            interface: 0,
            depth: 0,
            backlog: 0,
            v6only: false,
            drops: None,
            retransmits: 0,
            timer: None,
            peer: None,
        }
    }

    #[expect(
        clippy::option_option,
        reason = "no such listener, and one whose requests cannot be counted, are different"
    )]
    fn counted(requests: &[Entry], listeners: &[Entry], cookie: u64) -> Option<Option<(u32, u32)>> {
        let queues = assign(requests, listeners.iter());
        queues.get(&cookie).map(|queue| queue.map(|queue| (queue.depth, queue.young)))
    }

    #[test]
    fn the_exact_address_comes_before_any() {
        let listeners = [entry(1, "0.0.0.0", 80), entry(2, "10.0.0.1", 80), entry(3, "0.0.0.0", 81)];
        let old = Entry { retransmits: 2, ..entry(9, "10.0.0.1", 80) };
        let requests = [entry(8, "10.0.0.1", 80), old, entry(7, "10.0.0.2", 80)];
        assert_eq!(counted(&requests, &listeners, 2), Some(Some((2, 1))));
        assert_eq!(counted(&requests, &listeners, 1), Some(Some((1, 1))));
        assert_eq!(counted(&requests, &listeners, 3), None);
    }

    #[test]
    fn a_request_has_its_listeners_device() {
        let on = |interface, entry| Entry { interface, ..entry };
        let listeners = [
            entry(1, "0.0.0.0", 80),
            on(2, entry(2, "0.0.0.0", 80)),
            on(3, entry(3, "0.0.0.0", 80)),
            entry(4, "::", 81),
            on(2, entry(5, "fe80::1", 82)),
            on(3, entry(6, "fe80::1", 82)),
        ];
        let requests = [
            entry(90, "10.0.0.1", 80),
            on(2, entry(91, "10.0.0.1", 80)),
            on(2, entry(92, "10.0.0.1", 80)),
            on(7, entry(93, "fe80::1", 81)),
            on(3, entry(94, "fe80::1", 82)),
        ];
        let depths = [1, 2, 3, 4, 5, 6].map(|cookie| counted(&requests, &listeners, cookie));
        let some = |depth| Some(Some((depth, depth)));
        assert_eq!(depths, [some(1), some(2), None, some(1), None, some(1)]);
    }

    #[test]
    fn a_dual_stack_listener_takes_both_families() {
        let requests = [entry(8, "10.0.0.1", 80), entry(7, "fd00::1", 80), entry(6, "::ffff:10.0.0.1", 80)];
        assert_eq!(counted(&requests, &[entry(1, "::", 80)], 1), Some(Some((3, 3))));
        let v6only = [Entry { v6only: true, ..entry(1, "::", 80) }];
        assert_eq!(counted(&requests, &v6only, 1), Some(Some((1, 1))));
        let both = [entry(1, "0.0.0.0", 80), Entry { v6only: true, ..entry(2, "::", 80) }];
        assert_eq!(counted(&requests, &both, 1), Some(Some((2, 2))));
    }

    #[test]
    fn shards_cannot_be_told_apart() {
        let listeners = [entry(1, "0.0.0.0", 80), entry(2, "0.0.0.0", 80), entry(3, "0.0.0.0", 81)];
        let requests = [entry(8, "10.0.0.1", 80), entry(9, "10.0.0.1", 81)];
        assert_eq!(counted(&requests, &listeners, 1), Some(None));
        assert_eq!(counted(&requests, &listeners, 2), Some(None));
        assert_eq!(counted(&requests, &listeners, 3), Some(Some((1, 1))));
    }
}
