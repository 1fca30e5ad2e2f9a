//! A network namespace for one test: anonymous, and gone with it.

use std::{
    collections::HashMap,
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    os::linux::fs::MetadataExt as _,
    thread,
};

use nix::sched::{CloneFlags, unshare};
use socket2::{Domain, Socket, Type};

use super::process::{self, Forked};

/// The port of a test's first listener. Each test has all ports to itself.
pub(crate) const PORT: u16 = 7000;

/// The namespace that the calling thread, and the threads and processes that it starts, are in.
pub(crate) struct Lab {
    /// Its inode, by which listentop names it.
    pub(crate) netns: u32,
    /// A process in the namespace: servers have one, and it is how others find the namespace.
    anchor: Forked,
}

impl Lab {
    /// Moves the calling thread into a new namespace.
    pub(crate) fn enter() -> Self {
        unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace");
        loopback_up();
        let netns = fs::metadata("/proc/thread-self/ns/net").expect("our namespace").st_ino() as u32;
        let anchor = process::fork(|| {
            process::close_inherited();
            process::wait_for_ever();
        });
        let lab = Self { netns, anchor };
        // Many connections in a short time need all ports.
        lab.sysctl("ipv4/ip_local_port_range", "10000 65535");
        lab
    }

    /// Runs `work` on a thread in another namespace, which lives as long as `work`.
    pub(crate) fn beside<T: Send>(work: impl FnOnce(&Lab) -> T + Send) -> T {
        thread::scope(|scope| scope.spawn(|| work(&Lab::enter())).join().expect("the other namespace's thread"))
    }

    /// Sets `net/PATH` in the namespace.
    pub(crate) fn sysctl(&self, path: &str, value: &str) {
        fs::write(format!("/proc/sys/net/{path}"), value).unwrap_or_else(|error| panic!("{path}: {error}"));
    }

    /// The namespace's TcpExt counters, as the kernel has them now.
    pub(crate) fn counters(&self) -> Counters {
        let path = format!("/proc/{}/net/netstat", self.anchor.pid());
        let text = fs::read_to_string(path).expect("the namespace's counters");
        let mut lines = text.lines().filter_map(|line| line.strip_prefix("TcpExt: "));
        let (names, values) = (lines.next().expect("names"), lines.next().expect("values"));
        let values = values.split(' ').map(|value| value.parse().expect("a number"));
        Counters(names.split(' ').map(str::to_owned).zip(values).collect())
    }
}

/// TcpExt counters.
pub(crate) struct Counters(HashMap<String, u64>);

impl Counters {
    /// How much the counter `name` grew since `earlier`.
    pub(crate) fn since(&self, earlier: &Counters, name: &str) -> u64 {
        let value = |counters: &Counters| *counters.0.get(name).unwrap_or_else(|| panic!("no counter {name}"));
        value(self) - value(earlier)
    }
}

/// Loopback, this port.
pub(crate) fn loopback(port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port)
}

/// The same by IPv6.
pub(crate) fn loopback6(port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V6(Ipv6Addr::LOCALHOST), port)
}

/// All addresses, of IPv4 too where the socket allows it, this port.
pub(crate) fn any6(port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), port)
}

/// Whether this kernel knows IPv6.
pub(crate) fn has_ipv6() -> bool {
    std::path::Path::new("/proc/net/if_inet6").exists()
}

fn loopback_up() {
    use std::os::fd::AsRawFd as _;
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, None).expect("a socket");
    // SAFETY: zero is valid for all members.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (place, byte) in request.ifr_name.iter_mut().zip(b"lo") {
        *place = *byte as libc::c_char;
    }
    // SAFETY: the request names an interface and outlives the call, which fills in its flags.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCGIFFLAGS as _, &raw mut request) };
    assert_eq!(result, 0, "lo has flags");
    // SAFETY: the call before filled in the flags.
    unsafe { request.ifr_ifru.ifru_flags |= libc::IFF_UP as libc::c_short };
    // SAFETY: as above; the call reads the flags.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS as _, &raw mut request) };
    assert_eq!(result, 0, "lo goes up");
}
