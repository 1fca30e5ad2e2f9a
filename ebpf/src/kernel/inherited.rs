//! What a connection inherits from the listener that it came through (`inet_csk_clone_lock`, `tcp_v4_syn_recv_sock`),
//! and what shows that it came through none.

use super::{MaybeGone, btf, probe};

/// `SOCK_BINDADDR_LOCK` of `sk_userlocks` (include/net/sock.h): bound to a certain address. A child has it from its
/// listener.
const ADDRESS_BOUND: u8 = 4;
/// `SOCK_BINDPORT_LOCK`: bound to a port. The kernel takes it from every child.
const PORT_BOUND: u8 = 8;
/// `SOCK_CONNECT_BIND` (6.17): connect(2) has chosen the port.
const CONNECTING_BOUND: u8 = 16;

impl MaybeGone {
    /// The interface that it is bound to; 0 if to none.
    #[inline(always)]
    pub(crate) fn device(self) -> u32 {
        probe(self.0, &btf::SOCK_BOUND_DEVICE).unwrap_or(0)
    }

    /// IP_TRANSPARENT is set: it may have any address, and a TPROXY rule may lead any connection to it.
    #[inline(always)]
    pub(crate) fn transparent(self) -> bool {
        btf::INET_TRANSPARENT_BYTE.load() != 0
            && (probe::<u8>(self.0, &btf::INET_TRANSPARENT_BYTE).unwrap_or(0) >> btf::INET_TRANSPARENT_BIT.load()) & 1
                == 1
    }

    #[inline(always)]
    fn user_locks(self) -> u8 {
        probe::<u8>(self.0, &btf::SOCK_USERLOCKS_BYTE).unwrap_or(0) >> btf::SOCK_USERLOCKS_BIT.load()
    }

    /// It was bound to a certain address, or came through a listener that was.
    #[inline(always)]
    pub(crate) fn address_bound(self) -> bool {
        self.user_locks() & ADDRESS_BOUND != 0
    }

    /// Whether a process has connected it. `None`: it cannot be told. Before 6.17 nothing shows that connect(2) has
    /// chosen the port.
    #[inline(always)]
    pub(crate) fn outgoing(self) -> Option<bool> {
        if self.user_locks() & (PORT_BOUND | (CONNECTING_BOUND * u8::from(knows_connecting()))) != 0 {
            return Some(true);
        }
        if knows_connecting() { Some(false) } else { None }
    }

    /// Whether BPF programs choose the listener for what comes to its namespace (`sk_lookup`).
    #[inline(always)]
    pub(crate) fn listeners_are_looked_up(self) -> bool {
        if btf::NET_SK_LOOKUP.load() == 0 {
            return false;
        }
        probe::<u64>(self.0, &btf::SOCK_NET)
            .and_then(|net| probe::<u64>(net, &btf::NET_SK_LOOKUP))
            .is_some_and(|programs| programs != 0)
    }

    /// Cookie of its network namespace; 0 where the kernel has none.
    #[inline(always)]
    pub(crate) fn net_cookie(self) -> u64 {
        if btf::NET_COOKIE.load() == 0 {
            return 0;
        }
        probe::<u64>(self.0, &btf::SOCK_NET).and_then(|net| probe(net, &btf::NET_COOKIE)).unwrap_or(0)
    }
}

#[inline(always)]
fn knows_connecting() -> bool {
    btf::KNOWS_CONNECTING.load() != 0
}
