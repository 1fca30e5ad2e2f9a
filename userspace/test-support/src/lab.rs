//! A network namespace for one test. It has no name and ends with the test.

use std::{
    collections::HashMap,
    fs,
    io::{self, Read as _, Write as _},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    os::{fd::AsRawFd as _, linux::fs::MetadataExt as _},
    thread,
};

use nix::sched::{CloneFlags, unshare};
use socket2::{Domain, Socket, Type};

use crate::process::{self, Forked};

/// The port of a test's first listener. Each test has all ports to itself.
pub const PORT: u16 = 7000;

/// The namespace of the calling thread and of the threads and processes that it starts.
pub struct Lab {
    /// Its inode number, by which listentop names it.
    pub netns: u32,
    /// A process in the namespace. Through its entry in /proc other threads reach the namespace.
    anchor: Forked,
}

impl Lab {
    /// Moves the calling thread into a new namespace.
    pub fn enter() -> Self {
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

    /// Runs `work` on a thread in a second namespace, which ends with `work`.
    pub fn beside<T: Send>(work: impl FnOnce(&Lab) -> T + Send) -> T {
        thread::scope(|scope| scope.spawn(|| work(&Lab::enter())).join().expect("the other namespace's thread"))
    }

    /// Sets `net/PATH` in the namespace.
    pub fn sysctl(&self, path: &str, value: &str) {
        fs::write(format!("/proc/sys/net/{path}"), value).unwrap_or_else(|error| panic!("{path}: {error}"));
    }

    /// Makes an interface of this name: one end of a pair, and up.
    ///
    /// # Errors
    /// If the kernel has no such interfaces.
    pub fn add_device(&self, name: &str) -> io::Result<()> {
        let socket = Socket::new(Domain::from(libc::AF_NETLINK), Type::RAW, None)?;
        (&socket).write_all(&new_link(name, "veth"))?;
        let mut answer = [0; 64];
        let length = (&socket).read(&mut answer)?;
        // A message's header, then the error.
        let error = answer
            .get(16..20)
            .filter(|_| length >= 20)
            .map_or(0, |error| i32::from_ne_bytes([error[0], error[1], error[2], error[3]]));
        if error != 0 {
            return Err(io::Error::from_raw_os_error(-error));
        }
        up(name);
        Ok(())
    }

    /// The namespace's TcpExt counters, as the kernel has them now.
    pub fn counters(&self) -> Counters {
        let path = format!("/proc/{}/net/netstat", self.anchor.pid());
        let text = fs::read_to_string(path).expect("the namespace's counters");
        let mut lines = text.lines().filter_map(|line| line.strip_prefix("TcpExt: "));
        let (names, values) = (lines.next().expect("names"), lines.next().expect("values"));
        let values = values.split(' ').map(|value| value.parse().expect("a number"));
        Counters(names.split(' ').map(str::to_owned).zip(values).collect())
    }
}

/// TcpExt counters.
pub struct Counters(HashMap<String, u64>);

impl Counters {
    /// How much the counter `name` grew since `earlier`.
    pub fn since(&self, earlier: &Counters, name: &str) -> u64 {
        let value = |counters: &Counters| *counters.0.get(name).unwrap_or_else(|| panic!("no counter {name}"));
        value(self) - value(earlier)
    }
}

/// This port of the IPv4 loopback address.
pub fn loopback(port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port)
}

/// This port of the IPv6 loopback address.
pub fn loopback6(port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V6(Ipv6Addr::LOCALHOST), port)
}

/// This port of all IPv6 addresses; of all IPv4 addresses too, unless the socket is IPv6-only.
pub fn any6(port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), port)
}

/// Whether this kernel has IPv6.
pub fn has_ipv6() -> bool {
    std::path::Path::new("/proc/net/if_inet6").exists()
}

fn loopback_up() {
    up("lo");
}

/// Sets an interface of the calling thread's namespace up.
fn up(name: &str) {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, None).expect("a socket");
    // SAFETY: zero is valid for all members.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (place, byte) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *place = byte as libc::c_char;
    }
    // SAFETY: the request names an interface and outlives the call, which fills in its flags.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCGIFFLAGS as _, &raw mut request) };
    assert_eq!(result, 0, "{name} has flags");
    // SAFETY: the call before filled in the flags.
    unsafe { request.ifr_ifru.ifru_flags |= libc::IFF_UP as libc::c_short };
    // SAFETY: as above; the call reads the flags.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS as _, &raw mut request) };
    assert_eq!(result, 0, "{name} goes up");
}

/// An rtnetlink message that makes an interface of this kind (rtnetlink(7)).
fn new_link(name: &str, kind: &str) -> Vec<u8> {
    const IFLA_IFNAME: u16 = 3;
    const IFLA_LINKINFO: u16 = 18;
    const IFLA_INFO_KIND: u16 = 1;
    let attribute = |number: u16, value: &[u8]| {
        let mut bytes = (4 + value.len() as u16).to_ne_bytes().to_vec();
        bytes.extend(number.to_ne_bytes());
        bytes.extend(value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    };
    let mut name = name.as_bytes().to_vec();
    name.push(0);
    // An empty `struct ifinfomsg`.
    let mut body = vec![0; 16];
    body.extend(attribute(IFLA_IFNAME, &name));
    body.extend(attribute(IFLA_LINKINFO, &attribute(IFLA_INFO_KIND, kind.as_bytes())));
    let flags = (libc::NLM_F_REQUEST | libc::NLM_F_ACK | libc::NLM_F_CREATE | libc::NLM_F_EXCL) as u16;
    let mut message = (16 + body.len() as u32).to_ne_bytes().to_vec();
    message.extend(libc::RTM_NEWLINK.to_ne_bytes());
    message.extend(flags.to_ne_bytes());
    message.extend([1, 0, 0, 0, 0, 0, 0, 0]);
    message.extend(body);
    message
}
